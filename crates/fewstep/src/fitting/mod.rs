//! The two phases: plans are found, the network is tuned for them, on one model with the same held-out latents.
//!
//! [`fit`] is a whole run in a folder, as the commands `plan`, `tune` and `fit` make it; [`Fitter`] is one phase at a time.

mod budget;
mod cross_plan;
mod forecast;
mod idle;
mod inputs;
mod interpolate;
mod outcome;
mod paper;
mod report;
pub mod settings;
mod task;
mod trajectories;
mod tune;

use fewstep_core::denoiser::Shared;
use fewstep_core::objective::BoundTable;
use fewstep_core::observe::Observer;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_eval::features::FeatureNetwork;
use fewstep_nn::data::Images;
use fewstep_nn::fit::{Average, ScheduleStep, TableConfig, TuneStep};
use fewstep_nn::tensor::Batch;
use fewstep_nn::{Network, TorchDenoiser, Tunable, spread};
use fewstep_search::{Found, HELD_OUT_SEEDS, HeldOut, Method, minimise_bound, usual_teacher};
use serde::{Deserialize, Serialize};

pub use self::budget::UNTUNED;
pub use self::forecast::forecast;
pub(crate) use self::forecast::{
    Runs, interpolation_evaluations, learning_levels, level_interpolation_evaluations, tuning,
};
pub use self::inputs::{open_inputs, open_plans};
pub(crate) use self::interpolate::networks as interpolated_networks;
pub use self::interpolate::{
    ChosenAverage, ChosenLevels, INTERPOLATION_TEXT, Interpolated, InterpolationPoint, LEVELS_TEXT, LearnedBy,
    comes_nearer, interpolation_table, plan_for,
};
pub use self::outcome::{
    CrossPlan, Grid, Outcome, PhaseOutcome, cross_plan_table, interpolations, level_interpolations, table,
};
pub use self::report::report;
pub use self::settings::{FitSettings, PlanSource};
pub use self::task::{FitInputs, FitRun, FitTask, OUTCOMES, Phases, PlanFile, fit};
pub use self::trajectories::TRAJECTORY_SEEDS;
pub use self::tune::Saved;
use crate::bound::bound_table;
use crate::cells::diverged;
use crate::error::{Context, Result, ensure};
use crate::features::FeatureLoss;
use crate::plans::euler;
use crate::scorer::ImageScorer;

/// A denoiser, the data that it is fitted on, and the held-out evaluator.
pub struct Fitter<'a> {
    /// The untuned denoiser.
    pub base: &'a dyn TorchDenoiser,
    /// Its network, where weights can be had: what is tuned.
    pub network: Option<&'a Network>,
    /// Training images; a search over a teacher needs none.
    pub images: Option<&'a Images>,
    /// Held-out latents and the teacher's samples.
    pub held_out: HeldOut<Shared<Batch>>,
    /// Settings of both phases.
    pub settings: &'a FitSettings,
    /// The feature network, for distances of features.
    pub features: Option<&'a dyn FeatureNetwork>,
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// How often both phases have taken turns before: each time other images choose.
    round: u64,
}

/// Outcome of phase 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundPlan {
    /// The sampler found: the best by the held-out rollout error (the last one without early stopping).
    pub plan: Plan,
    /// Its held-out rollout error.
    #[serde(deserialize_with = "diverged::error")]
    pub rollout_error: f64,
    /// Every update, for Adam; empty for all else.
    pub steps: Vec<ScheduleStep>,
    /// Evaluations of the held-out error: updates made, error.
    #[serde(deserialize_with = "diverged::history")]
    pub evaluations: Vec<(u64, f64)>,
    /// The points between the levels that phase 1 began with and the learned ones, where images chose the plan among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interpolation: Vec<InterpolationPoint>,
}

impl FoundPlan {
    /// Whether it is to be taken over from one of this held-out error: by its images where these chose, where the one before was
    /// among the choices, else by the error.
    fn is_better(&self, before: f64) -> bool {
        let nearest = self.interpolation.iter().min_by(|a, b| a.frechet.total_cmp(&b.frechet));
        nearest.map_or(self.rollout_error <= before, |point| point.alpha > 0.0)
    }
}

/// Outcome of phase 2.
#[derive(Debug)]
pub struct Tuned<M = Network> {
    /// The network with averaged weights: the best by the held-out rollout error, or the last.
    pub model: M,
    /// Its rollout error.
    pub rollout_error: f64,
    /// Evaluations of the held-out error.
    pub evaluations: Vec<TuneStep>,
    /// Averages that images choose among; none where the error decides.
    pub averages: Vec<TunedAverage>,
}

/// An average of the weights that a tuning went through.
#[derive(Debug)]
pub struct TunedAverage {
    /// The weights.
    pub average: Average,
    /// The weight of the last level that it was tuned with, where there were several.
    pub last_weight: Option<f64>,
}

/// Phase 2 alone: `network` tuned for `plan`, in memory. Its base is the network as it is; see [`Fitter::tune`] for a tuning that is
/// saved on the way.
///
/// # Errors
/// As [`Fitter::new`] and [`Fitter::tune`].
pub fn tune<M: Tunable>(
    network: &M,
    plan: &Plan,
    images: Option<&Images>,
    settings: &FitSettings,
    observer: &dyn Observer,
) -> Result<Tuned<M>> {
    Fitter::new(network, None, images, settings, observer)?.tune(network, plan, None, false)
}

impl<'a> Fitter<'a> {
    /// Solves the teacher on the held-out latents.
    ///
    /// # Errors
    /// If the denoiser fails, or knows too few levels.
    pub fn new(
        base: &'a dyn TorchDenoiser,
        network: Option<&'a Network>,
        images: Option<&'a Images>,
        settings: &'a FitSettings,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
        let teacher = usual_teacher(&base.spec().levels, settings.held_out.teacher_steps)?;
        let seeds: Vec<u64> = (HELD_OUT_SEEDS..HELD_OUT_SEEDS + settings.held_out.samples as u64).collect();
        let held_out = HeldOut::by(&spread(base), &teacher, &seeds, observer)?;
        Ok(Self { base, network, images, held_out, settings, features: None, observer, round: 0 })
    }

    /// With the feature network that distances of features need.
    pub fn with_features(self, features: Option<&'a dyn FeatureNetwork>) -> Self {
        Self { features, ..self }
    }

    /// The same in the round of this number, from 1: what images choose, they choose by those of other seeds in each. (By the same ones,
    /// what an earlier round chose among many would look better than it is.)
    pub(crate) fn in_round(&self, round: usize) -> Fitter<'_> {
        Fitter { round: round.saturating_sub(1) as u64, ..self.with_settings(self.settings) }
    }

    /// The same with other settings of the phases; held-out latents and their teacher stay.
    pub fn with_settings<'b>(&'b self, settings: &'b FitSettings) -> Fitter<'b> {
        Fitter {
            base: self.base,
            network: self.network,
            images: self.images,
            held_out: self.held_out.clone(),
            settings,
            features: self.features,
            observer: self.observer,
            round: self.round,
        }
    }

    /// The held-out rollout error of `plan` on `denoiser`; infinite where they diverge.
    ///
    /// # Errors
    /// If the plan does not fit, or the denoiser fails.
    pub fn rollout_error(&self, denoiser: &dyn TorchDenoiser, plan: &Plan) -> Result<f64> {
        Ok(diverged::or_infinite(self.held_out.rollout_error(&spread(denoiser), plan, self.observer)?))
    }

    /// The training images.
    fn needed_images(&self) -> Result<&'a Images> {
        self.images.context("this needs training images: name them with --data")
    }

    /// e(sigma) of `model` at levels uniform in log sigma, for the paper's bound.
    ///
    /// # Errors
    /// If there are no images, or they do not fit.
    pub fn table(&self, model: &dyn TorchDenoiser) -> Result<BoundTable> {
        let paper = &self.settings.paper;
        let config = TableConfig { images: paper.table_images, batch: self.settings.batch, seed: self.settings.seed };
        bound_table(model, self.needed_images()?, paper.grid, config, self.observer)
    }

    /// Phase 1 from the table: the exact minimum of the bound over the grid, for `steps` levels.
    ///
    /// # Errors
    /// If the grid is too small.
    pub fn find_by_table(&self, model: &dyn TorchDenoiser, table: &BoundTable, steps: usize) -> Result<FoundPlan> {
        let found = minimise_bound(table, steps)
            .into_iter()
            .find(|found| found.schedule.len() == steps)
            .with_context(|| format!("the table's grid is too small for {steps} steps: raise paper.grid"))?;
        self.evaluated(model, euler(&found.schedule)?)
    }

    /// The first of `learned` levels, or those between `start` and any of them whose images are nearest to the scorer's reference
    /// ([`Fitter::interpolate_levels`]).
    ///
    /// # Errors
    /// As the same, and if there are none.
    pub fn chosen_levels(
        &self,
        denoiser: &dyn TorchDenoiser,
        start: &Schedule,
        mut learned: Vec<(LearnedBy, FoundPlan)>,
        scorer: Option<&ImageScorer>,
    ) -> Result<FoundPlan> {
        ensure!(!learned.is_empty(), "no levels were learned");
        let Some(scorer) = scorer.filter(|_| self.settings.interpolate.images > 0) else {
            return Ok(learned.swap_remove(0).1);
        };
        let levels = learned.iter().map(|(by, found)| Ok((*by, Schedule::new(found.plan.sigmas())?)));
        let chosen = self.interpolate_levels(denoiser, start, &levels.collect::<Result<Vec<_>>>()?, scorer)?;
        let ChosenLevels { plan, learning, rollout_error, points: interpolation, .. } = chosen;
        Ok(FoundPlan { plan, rollout_error, interpolation, ..learned.swap_remove(learning).1 })
    }

    /// Phase 1 by a search over a teacher: the plan for `steps` evaluations that `method` found.
    ///
    /// # Errors
    /// If it found none.
    pub fn found(&self, model: &dyn TorchDenoiser, method: &Method, found: &Found, steps: usize) -> Result<FoundPlan> {
        self.evaluated(model, found.plan(method, steps)?.clone())
    }

    fn evaluated(&self, model: &dyn TorchDenoiser, plan: Plan) -> Result<FoundPlan> {
        let rollout_error = self.rollout_error(model, &plan)?;
        Ok(FoundPlan {
            plan,
            rollout_error,
            steps: Vec::new(),
            evaluations: vec![(0, rollout_error)],
            interpolation: Vec::new(),
        })
    }
}
