//! Settings of a fit, as `run.json` keeps them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use fewstep_core::objective::Objective;
use fewstep_core::schedule::Scale;
use fewstep_nn::critic;
use fewstep_nn::fit::{NoiseSharing, TuneConfig, TuneWeights};
use fewstep_nn::train::RolloutLoss;
use serde::{Deserialize, Serialize};

use crate::searching::{Method, MomentsOf, Search, SearchSettings};

/// Both phases and the judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitSettings {
    /// Phase 1.
    pub phase1: Phase1Settings,
    /// Searches over a teacher.
    pub search: SearchSettings,
    /// Phase 2.
    pub phase2: Phase2Settings,
    /// Held-out latents for the rollout error.
    pub held_out: usize,
    /// Noise levels of the Heun teacher.
    pub teacher_steps: usize,
    /// Whether the held-out error decides when to stop and which outcome is kept (of a tuning whose images are judged, they do).
    pub early_stop: bool,
    /// Images that say how much of the way to a tuned network is gone; 0: all of it.
    #[serde(default)]
    pub settling_images: usize,
    /// Images at once in evaluations without a graph.
    pub batch: usize,
}

/// Where phase 1 gets its plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase1Search {
    /// The paper's objectives on forward-noised data, for Euler's solver.
    Paper,
    /// A search over a teacher.
    Method(Method),
}

impl fmt::Display for Phase1Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paper => f.write_str("paper"),
            Self::Method(method) => method.fmt(f),
        }
    }
}

impl FromStr for Phase1Search {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "paper" { Ok(Self::Paper) } else { Ok(Self::Method(text.parse()?)) }
    }
}

/// How the paper's objectives are minimised.
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
    /// Where the plan comes from. What is below is for the paper's objectives, but for the
    /// table's size, by which the method `bound` searches, too, and the seed.
    pub search: Phase1Search,
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

impl FitSettings {
    /// Whether these phases look at training images.
    pub fn needs_images(&self, phases: &[u8]) -> bool {
        let tuning = match self.phase2.weights {
            TuneWeights::Rollout(loss) => loss.looks_at_data(),
            TuneWeights::Bound { .. } | TuneWeights::Original => true,
        };
        (phases.contains(&1) && self.phase1.needs_images()) || (phases.contains(&2) && tuning)
    }
}

impl Phase1Settings {
    /// What its plans' images have their moments matched with, if anything.
    pub fn moments(&self) -> Option<MomentsOf> {
        match &self.search {
            Phase1Search::Method(method) => method.moments,
            Phase1Search::Paper => None,
        }
    }

    /// Whether it looks at a table of e(sigma) before its search.
    pub fn needs_table(&self) -> bool {
        match &self.search {
            Phase1Search::Paper => self.solver == Phase1Solver::Table,
            Phase1Search::Method(method) => method.search == Search::Bound,
        }
    }

    /// Whether phase 1 looks at training images.
    pub fn needs_images(&self) -> bool {
        match &self.search {
            Phase1Search::Paper => true,
            Phase1Search::Method(method) => method.needs_images(),
        }
    }
}

/// Phase 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase2Settings {
    /// How errors count.
    pub weights: TuneWeights,
    /// Trajectories of the teacher, for the rollout.
    pub trajectories: usize,
    /// Updates and patience.
    pub tune: TuneConfig,
    /// Images an update; for the rollout, evaluations: a trajectory is as many as the plan has.
    pub batch: usize,
    /// Images held by the graph at once.
    pub microbatch: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// How it changes.
    #[serde(default)]
    pub lr_schedule: LrSchedule,
    /// Half-life of the weights' average, in images.
    pub ema_images: f64,
    /// Mirror images at random.
    pub xflip: bool,
    /// Seed.
    pub seed: u64,
}

impl Phase1Settings {
    /// Refuses data sets too small for an update.
    pub fn check(&self, images: usize) -> Result<()> {
        let adam = self.search == Phase1Search::Paper && self.solver == Phase1Solver::Adam;
        ensure!(
            !adam || self.batch <= images,
            "the data set has {images} images, fewer than the {} of one update of phase 1; give --phase1-batch {images} or less",
            self.batch
        );
        Ok(())
    }
}

/// How an update of phase 2 is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Images an update, or trajectories.
    pub batch: usize,
    /// So many at once: divides the batch.
    pub microbatch: usize,
}

impl Phase2Settings {
    /// An update's parts where one lesson takes `each` evaluations with a gradient: those of a trajectory are as many as its plan
    /// has, so that equal batches cost the same. Parts are of equal size, never more than the microbatch unless one lesson is, and
    /// come to what the batch has room for, or the next number that they divide.
    pub fn parts(&self, each: usize) -> Parts {
        let lessons = |evaluations: usize| (evaluations / each.max(1)).max(1);
        let (batch, most) = (lessons(self.batch), lessons(self.microbatch));
        let parts = batch.div_ceil(most);
        let microbatch = batch.div_ceil(parts);
        Parts { batch: microbatch * parts, microbatch }
    }

    /// Evaluations with a gradient of all updates for a plan of so many evaluations.
    pub fn evaluations_with_gradient(&self, nfe: usize) -> u64 {
        let each = if matches!(self.weights, TuneWeights::Rollout(_)) { nfe.max(1) } else { 1 };
        self.tune.iterations * (self.parts(each).batch * each) as u64
    }

    /// Refuses data sets and numbers of trajectories too small for an update, which `batch` is the option of.
    pub fn check(&self, images: Option<usize>, steps: &[usize], batch: &str) -> Result<()> {
        if !matches!(self.weights, TuneWeights::Rollout(_)) {
            let Some(images) = images else { return Ok(()) };
            let all = self.parts(1).batch;
            ensure!(
                all <= images,
                "the data set has {images} images, fewer than one batch of {all}; give --{batch} {images} or less"
            );
            return Ok(());
        }
        let most = steps.iter().map(|&steps| self.parts(steps).batch).max().unwrap_or(0);
        ensure!(
            most <= self.trajectories,
            "an update learns from {most} trajectories, more than there are ({}); raise --trajectories or lower --{batch}",
            self.trajectories
        );
        Ok(())
    }

    /// Evaluations of single images without a gradient that updates for a plan of so many evaluations make beside those with one:
    /// a gradient through all steps repeats all evaluations but the last.
    pub fn repeated_evaluations(&self, nfe: usize) -> u64 {
        match self.weights {
            TuneWeights::Rollout(RolloutLoss { flow, .. }) if flow.is_through(nfe) => {
                self.tune.iterations * (self.parts(nfe).batch * nfe.saturating_sub(1)) as u64
            }
            _ => 0,
        }
    }

    /// Images that a critic sees in phase 2 for a plan of so many evaluations: the student's, and as many that they should look
    /// like. It sees them with a part of the network.
    pub fn criticised_images(&self, nfe: usize) -> u64 {
        match self.weights {
            TuneWeights::Rollout(RolloutLoss { critic, .. }) if critic > 0.0 => {
                2 * self.tune.iterations * critic::looked_at(self.parts(nfe).batch) as u64
            }
            _ => 0,
        }
    }
}

/// The learning rate of phase 2 over its updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    #[default]
    Constant,
    Cosine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_s_parts_are_equal_and_fit_where_one_lesson_does() {
        let parts = |batch: usize, microbatch: usize, each: usize| {
            let settings = Phase2Settings {
                weights: TuneWeights::Original,
                trajectories: 0,
                tune: TuneConfig { iterations: 1, check_every: 1, patience: 1 },
                batch,
                microbatch,
                learning_rate: 1e-3,
                lr_schedule: LrSchedule::Constant,
                ema_images: 0.0,
                xflip: false,
                seed: 0,
            };
            let Parts { batch, microbatch } = settings.parts(each);
            (batch, microbatch)
        };
        assert_eq!(parts(128, 128, 1), (128, 128));
        assert_eq!(parts(128, 8, 20), (6, 1)); // 120 evaluations, a trajectory of 20 at once
        assert_eq!(parts(128, 1, 3), (42, 1));
        assert_eq!(parts(512, 64, 3), (171, 19));
        assert_eq!(parts(2, 2, 8), (1, 1));
        assert_eq!(parts(101, 30, 1), (104, 26));
    }
}
