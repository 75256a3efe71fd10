//! Settings of searches, as `run.json` keeps them.

use fewstep_core::search::CostMetric;
use fewstep_core::solver::Solver;
use serde::{Deserialize, Serialize};

use super::RolloutSettings;

/// How plans are searched, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchSettings {
    /// The teacher.
    pub teacher: TeacherSettings,
    /// What the local search counts.
    pub metric: CostMetric,
    /// Outputs before the newest that a fitted step may use.
    pub history: usize,
    /// Strength of the ridge towards Euler's step.
    pub ridge: f64,
    /// States kept at every level and number of steps.
    pub beam: usize,
    /// What fitted steps make small.
    pub view: View,
    /// Whether fitted images are stretched until their variance is the teacher's.
    pub calibrated: bool,
    /// Whether fitted plans may hold a constant image in place of a first evaluation.
    pub constant: bool,
    /// Refinement of plans.
    pub rollout: RolloutSettings,
    /// Images at once.
    pub batch: usize,
}

/// How errors of images are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum View {
    Pixels,
    Gradients,
}

/// Everything that a teacher's trajectories depend on beside the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherSettings {
    /// Latents.
    pub samples: usize,
    /// Levels that plans may evaluate at: rho = 7 over the network's range.
    pub grid: usize,
    /// The solver.
    pub solver: Solver,
    /// Its steps from one level of the grid to the next.
    pub parts: usize,
}
