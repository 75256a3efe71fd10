//! Settings of a fit, as `run.json` keeps them.

use fewstep_core::objective::Objective;
use fewstep_core::schedule::Scale;
use fewstep_nn::fit::{NoiseSharing, TuneConfig, TuneWeights};
use serde::{Deserialize, Serialize};

/// Both phases and the judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitSettings {
    /// Phase 1.
    pub phase1: Phase1Settings,
    /// Phase 2.
    pub phase2: Phase2Settings,
    /// Held-out latents for the rollout error.
    pub held_out: usize,
    /// Noise levels of the Heun teacher.
    pub teacher_steps: usize,
    /// Whether the held-out error decides when to stop and which outcome is kept.
    pub early_stop: bool,
    /// Images at once in evaluations without a graph.
    pub batch: usize,
}

/// How phase 1 finds its minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Phase1Solver {
    /// Adam on theta with the gradient of Eq. 14
    Adam,
    /// Exact dynamic programming over a table of e(sigma), every number of steps at once (bound only)
    Table,
}

/// Phase 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase1Settings {
    /// What is minimised.
    pub objective: Objective,
    /// How.
    pub solver: Phase1Solver,
    /// Whether noise is shared along the levels.
    pub noise: NoiseSharing,
    /// Scale of theta.
    pub parameter: Scale,
    /// Updates of Adam.
    pub iterations: u64,
    /// Images an update.
    pub batch: usize,
    /// Learning rate of Adam.
    pub learning_rate: f64,
    /// Updates between two looks at the held-out error.
    pub check_every: u64,
    /// Looks without a new best after which phase 1 stops.
    pub patience: u64,
    /// Levels of the table's grid.
    pub grid: usize,
    /// Images of the table.
    pub table_images: usize,
    /// Seed.
    pub seed: u64,
}

/// Phase 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase2Settings {
    /// How errors count.
    pub weights: TuneWeights,
    /// Updates and patience.
    pub tune: TuneConfig,
    /// Images an update.
    pub batch: usize,
    /// Images held by the graph at once.
    pub microbatch: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Half-life of the weights' average, in images.
    pub ema_images: f64,
    /// Mirror images at random.
    pub xflip: bool,
    /// Seed.
    pub seed: u64,
}
