//! The two phases as `fit` and `demo` run them: on one model and data set, judged on the same held-out latents.

mod between;
mod critic;
mod learning;
mod phases;
mod rollout;
mod settings;

use anyhow::{Context, Result};
use fewstep_core::objective::BoundTable;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::{Schedule, karras, log_snr};
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_eval::features::FeatureNetwork;
use fewstep_nn::Model;
use fewstep_nn::data::Images;
use fewstep_nn::fit::{HeldOut, LearnStep, TableConfig, TuneStep, tabulate};

pub use self::between::{Between, SETTLING_TEXT, Settled, comes_nearer, percent, plan_for, settling_table};
pub use self::critic::{CriticArgs, CriticName};
pub use self::phases::Saved;
pub use self::settings::{FitSettings, LrSchedule, Phase1Search, Phase1Settings, Phase1Solver, Phase2Settings};
use crate::ui::Progress;

/// Held-out latents have seeds from here on: far from those that anyone samples with by default.
pub const HELD_OUT_SEEDS: u64 = 1 << 40;

/// Levels of the grid of e(sigma) where none are asked for.
pub const TABLE_GRID: usize = 65;

/// Trajectories of the teacher that rollout tuning learns from: a thousand were learned by heart.
pub const TRAJECTORIES: usize = 4_096;

/// Learning rate of rollout tuning at the start; it falls to 0 along a cosine.
pub const ROLLOUT_LEARNING_RATE: f64 = 5e-4;

/// Images by which the way back from a tuned network is judged where there is something to judge by.
pub const SETTLING_IMAGES: usize = 2_000;

/// A model, the data it is fitted on, and the judge.
pub struct Fitter<'a> {
    /// The network as it came.
    pub base: &'a Model,
    /// Training images; a search over a teacher needs none.
    pub images: Option<&'a Images>,
    /// Held-out latents and the teacher's images.
    pub judge: HeldOut,
    /// Settings of both phases.
    pub settings: &'a FitSettings,
    /// The feature network, for distances of features.
    pub features: Option<&'a dyn FeatureNetwork>,
}

/// Outcome of phase 1.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Learned {
    /// The sampler found: the best by the held-out rollout error (the last one without early stopping).
    pub plan: Plan,
    /// Their rollout error.
    pub rollout_error: f64,
    /// Every update, for Adam; empty for the table.
    pub steps: Vec<LearnStep>,
    /// The looks at the held-out error: updates made, error.
    pub looks: Vec<(u64, f64)>,
}

/// Outcome of phase 2.
#[derive(Debug)]
pub struct Tuned {
    /// The network with averaged weights: the best by the held-out rollout error, or the last.
    pub model: Model,
    /// Its rollout error.
    pub rollout_error: f64,
    /// The looks at the held-out error.
    pub looks: Vec<TuneStep>,
}

impl<'a> Fitter<'a> {
    /// Runs the teacher on the held-out latents.
    pub fn new(base: &'a Model, images: Option<&'a Images>, settings: &'a FitSettings) -> Result<Self> {
        let teacher = teacher(base, settings.teacher_steps)?;
        let seeds: Vec<u64> = (HELD_OUT_SEEDS..HELD_OUT_SEEDS + settings.held_out as u64).collect();
        let judge = HeldOut::new(base, &teacher, &seeds, settings.batch)?;
        Ok(Self { base, images, judge, settings, features: None })
    }

    /// With the feature network that distances of features need.
    pub fn seen_by(self, features: Option<&'a dyn FeatureNetwork>) -> Self {
        Self { features, ..self }
    }

    /// The baseline: rho = 7 (Karras et al. 2022), rounded to the levels that the network knows.
    pub fn baseline(&self, steps: usize) -> Result<Schedule> {
        baseline(self.base, steps)
    }

    /// e(sigma) of `model`, for phase 1 from the table.
    pub fn table(&self, model: &Model) -> Result<BoundTable> {
        let Phase1Settings { grid, table_images, seed, .. } = self.settings.phase1;
        let config = TableConfig { images: table_images, batch: self.settings.batch, seed };
        bound_table(model, self.needed_images()?, grid, config)
    }

    /// The training images.
    fn needed_images(&self) -> Result<&'a Images> {
        self.images.context("this fit needs training images: name them with --data")
    }
}

/// e(sigma) of `model` at `grid` levels, uniform in log sigma.
pub fn bound_table(model: &Model, images: &Images, grid: usize, config: TableConfig) -> Result<BoundTable> {
    let precond = &model.config().precond;
    let (low, high) = precond.sampling_range();
    let levels = log_snr(grid, low, high)?.round_grid(precond)?;
    let mut progress = Progress::new("table of e(sigma)", "img", config.images as u64, 0);
    let table = tabulate(model, images, levels, config, |done, _| progress.set(done as u64, ""))?;
    progress.finish();
    Ok(table)
}

/// The teacher: Heun on rho = 7 (EDM's sampler).
pub fn teacher(model: &Model, steps: usize) -> Result<Plan> {
    Ok(Solver::Heun.plan(&baseline(model, steps)?, &SolverOptions::default())?)
}

/// rho = 7 over the range that EDM's sampler uses on this network.
pub fn baseline(model: &Model, steps: usize) -> Result<Schedule> {
    let precond = &model.config().precond;
    let (low, high) = precond.sampling_range();
    Ok(karras(steps, low, high, 7.0)?.round(precond)?)
}

/// The first-order sampler that the paper's objectives speak of.
pub fn euler(schedule: &Schedule) -> Result<Plan> {
    Ok(Solver::Euler.plan(schedule, &SolverOptions::default())?)
}
