//! Phase 2: tune the network for the noise levels of a plan, judged by the held-out rollout error.

use fewstep_core::objective::induced_weights;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::heldout::HeldOut;
use crate::error::Result;
use crate::flat::unflatten;
use crate::model::Model;
use crate::train::{Loss, StepStats, Trainer};

/// How denoising errors count in phase 2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneWeights {
    /// Eq. 12: levels uniform, weight a_i; `last` is the weight of sigma_1, which the equation leaves out although the
    /// network at that level makes the image (0 is the paper's, 1 its coefficient in the image).
    Bound {
        /// Weight of the last level.
        last: f64,
    },
    /// The EDM recipe, as in the paper's ablation.
    Original,
}

/// The loss of phase 2 for `schedule`.
pub fn level_loss(schedule: &Schedule, weights: TuneWeights) -> Loss {
    match weights {
        TuneWeights::Original => Loss::EDM,
        TuneWeights::Bound { last } => {
            let mut induced = induced_weights(schedule); // a_i, in sampling order, without the last level's
            induced.push(last);
            let (sigmas, weights) = schedule.levels().iter().zip(induced).filter(|(_, weight)| *weight > 0.0).unzip();
            Loss::Levels { sigmas, weights }
        }
    }
}

/// When phase 2 looks at the held-out error and when it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneConfig {
    /// Updates at most.
    pub iterations: u64,
    /// Updates between two looks at the held-out error.
    pub check_every: u64,
    /// Looks without a new best after which phase 2 stops.
    pub patience: u64,
}

/// One look at the held-out error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneStep {
    /// Updates made in this phase.
    pub iteration: u64,
    /// Mean training loss since the last look; `None` before the first update.
    pub loss: Option<f64>,
    /// Rollout error of the averaged network.
    pub rollout_error: f64,
}

/// Phase 2 in progress: a trainer, and the best averaged weights so far.
#[derive(Debug)]
pub struct Tuner {
    trainer: Trainer,
    best: Option<(f64, Tensor)>,
    history: Vec<TuneStep>,
}

impl Tuner {
    /// Starts tuning the network that `trainer` holds.
    pub fn new(trainer: Trainer) -> Self {
        Self { trainer, best: None, history: Vec::new() }
    }

    /// The looks so far, of the current call of [`Tuner::run`].
    pub fn history(&self) -> &[TuneStep] {
        &self.history
    }

    /// The trainer, to save and load its state.
    pub fn trainer(&mut self) -> &mut Trainer {
        &mut self.trainer
    }

    /// Tunes for `loss`, watching the rollout error under `plan`, and leaves the best averaged weights in the network that
    /// is returned: the untuned ones if nothing was better. `progress` is called after every update; `false` stops.
    pub fn run(
        &mut self,
        loss: Loss,
        plan: &Plan,
        judge: &HeldOut,
        config: TuneConfig,
        mut progress: impl FnMut(&StepStats, &[TuneStep]) -> Result<bool>,
    ) -> Result<Model> {
        self.trainer.set_loss(loss);
        self.history.clear();
        self.best = None;
        self.look(plan, judge, 0, None)?;
        let (mut since_best, mut sum, mut count) = (0, 0.0, 0u32);
        for iteration in 1..=config.iterations {
            let stats = self.trainer.step()?;
            sum += stats.loss;
            count += 1;
            if iteration % config.check_every.max(1) == 0 || iteration == config.iterations {
                let better = self.look(plan, judge, iteration, Some(sum / f64::from(count)))?;
                (sum, count) = (0.0, 0);
                since_best = if better { 0 } else { since_best + 1 };
            }
            if !progress(&stats, &self.history)? || since_best >= config.patience.max(1) {
                break;
            }
        }
        let model = self.trainer.averaged()?;
        if let Some((_, weights)) = &self.best {
            unflatten(weights, model.params())?;
        }
        Ok(model)
    }

    /// Judges the averaged network; whether it is the best so far.
    fn look(&mut self, plan: &Plan, judge: &HeldOut, iteration: u64, loss: Option<f64>) -> Result<bool> {
        let rollout_error = judge.rollout_error(&self.trainer.averaged()?, plan)?;
        self.history.push(TuneStep { iteration, loss, rollout_error });
        let better = self.best.as_ref().is_none_or(|(best, _)| rollout_error < *best);
        if better {
            self.best = Some((rollout_error, self.trainer.average().copy()));
        }
        Ok(better)
    }
}
