//! What a fit for one number of steps leaves: `fit.json` and its report are made of it.

use std::path::PathBuf;

use fewstep_nn::fit::TuneStep;
use serde::{Deserialize, Serialize};

use crate::fitting::Between;

/// What a fit for one number of steps left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Noise levels, and network evaluations an image.
    pub steps: usize,
    /// Rollout error of rho = 7.
    pub baseline: f64,
    /// After each phase of each round.
    pub stages: Vec<Stage>,
    /// The noise levels in the end.
    pub sigmas: Vec<f64>,
    /// The plan's file.
    pub plan: PathBuf,
    /// The tuned network's file, if phase 2 ran.
    pub model: Option<PathBuf>,
    /// Images of equal seeds, in the run folder.
    #[serde(default)]
    pub grids: Vec<Grid>,
    /// The held-out error while the network was tuned, one list a round.
    #[serde(default)]
    pub tuning: Vec<Vec<TuneStep>>,
    /// Networks on the way to the tuned one, one list a round.
    #[serde(default)]
    pub between: Vec<Vec<Between>>,
    /// What the tuned network is worth under the plans of the other numbers of steps.
    #[serde(default)]
    pub elsewhere: Vec<Elsewhere>,
}

/// A tuned network under a plan that it was not tuned for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Evaluations of the plan.
    pub steps: usize,
    /// What kind of plan it is where the fit did not find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solver: Option<String>,
    /// Rollout error of the network as it came.
    pub untuned: f64,
    /// Rollout error of the tuned network.
    pub tuned: f64,
}

/// Images of one sampler.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grid {
    /// What made them.
    pub label: String,
    /// A PNG in the run folder.
    pub file: PathBuf,
}

/// Images in a grid: of seeds from 0 on.
pub const IMAGES: u64 = 64;

/// One phase of one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// From 1.
    pub round: usize,
    /// 1 or 2.
    pub phase: u8,
    /// Held-out rollout error after it.
    pub rollout_error: f64,
    /// Whether its outcome was taken over: with early stopping, only where it is better.
    pub kept: bool,
}
