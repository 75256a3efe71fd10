//! Phase 2: tune the network for the noise levels of a plan, and keep what is best by the held-out rollout error.

use std::path::Path;

use fewstep_core::denoiser::Shared;
use fewstep_core::objective::induced_weights;
use fewstep_core::observe::Silent;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::safetensors;
use fewstep_search::HeldOut;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::checkpoint::{tensor_data, tensor_from};
use crate::denoiser::spread;
use crate::error::{Error, Result};
use crate::flat::unflatten;
use crate::model::Model;
use crate::ranks::Ranks;
use crate::tensor::Batch;
use crate::train::{Loss, RolloutLoss, StepStats, Trainer};
use crate::tunable::Tunable;

use super::averages::{Average, Averages, KeptAverages};

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
    /// The student's own states against a teacher's trajectories.
    Rollout(RolloutLoss),
}

/// The loss of phase 2 for `schedule`.
pub fn level_loss(schedule: &Schedule, weights: TuneWeights) -> Loss {
    match weights {
        TuneWeights::Original => Loss::EDM,
        TuneWeights::Rollout(loss) => Loss::Rollout(loss),
        TuneWeights::Bound { last } => {
            let mut induced = induced_weights(schedule); // a_i, in sampling order, without the last level's
            induced.push(last);
            let (sigmas, weights) = schedule.levels().iter().zip(induced).filter(|(_, weight)| *weight > 0.0).unzip();
            Loss::Levels { sigmas, weights }
        }
    }
}

/// When phase 2 evaluates the held-out error and when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneConfig {
    /// Updates at most.
    pub iterations: u64,
    /// Updates between two evaluations of the held-out error.
    pub check_every: u64,
    /// Evaluations without a new best after which phase 2 stops; `u64::MAX` never stops and keeps the last weights, not the best.
    pub patience: u64,
}

/// One evaluation of the held-out error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneStep {
    /// Updates made in this phase.
    pub iteration: u64,
    /// Mean training loss since the last evaluation; `None` before the first update.
    pub loss: Option<f64>,
    /// Rollout error of the averaged network.
    pub rollout_error: f64,
}

/// Phase 2 in progress: a trainer, and the best averaged weights so far.
#[derive(Debug)]
pub struct Tuner<'a, M = Model> {
    trainer: Trainer<'a, M>,
    best: Option<(f64, Tensor)>,
    averages: Option<Averages>,
    progress: TuneProgress,
}

/// Where phase 2 is, between two evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct TuneProgress {
    iteration: u64,
    evaluations_since_best: u64,
    history: Vec<TuneStep>,
    /// Sum of the losses since the last evaluation, and their number.
    pending: (f64, u32),
}

impl<'a, M: Tunable> Tuner<'a, M> {
    /// Starts tuning the network that `trainer` holds, for the loss that it was given.
    pub fn new(trainer: Trainer<'a, M>) -> Self {
        Self { trainer, best: None, averages: None, progress: TuneProgress::default() }
    }

    /// Keeps more averages of the weights than the trainer's, which [`Tuner::averages`] returns. Each takes the memory of the weights.
    pub fn keeping(self, which: KeptAverages) -> Self {
        let averages = Averages::new(which, self.trainer.weights());
        Self { averages: Some(averages), ..self }
    }

    /// The averages that were kept so far, by rising updates and in the order of their half-lives.
    pub fn averages(&self) -> Vec<Average> {
        self.averages.iter().flat_map(Averages::kept).collect()
    }

    /// The processes that tune together.
    pub fn ranks(&self) -> Ranks {
        self.trainer.ranks()
    }

    /// The evaluations of the held-out error so far.
    pub fn history(&self) -> &[TuneStep] {
        &self.progress.history
    }

    /// Tunes until the iterations or the patience of `config` are used up, watching the rollout error under `plan`. Returns
    /// the network with the best averaged weights: the untuned ones if nothing was better. `observe` is called after
    /// every update, with `true` after an evaluation; it may call [`Tuner::save`], and an error of its own ends the run.
    pub fn run(
        &mut self,
        plan: &Plan,
        held_out: &HeldOut<Shared<Batch>>,
        config: TuneConfig,
        mut observe: impl FnMut(&mut Self, &StepStats, bool) -> Result<()>,
    ) -> Result<M> {
        if self.progress.history.is_empty() {
            self.evaluate(plan, held_out, None)?;
        }
        while self.progress.iteration < config.iterations
            && self.progress.evaluations_since_best < config.patience.max(1)
        {
            let stats = self.trainer.step()?;
            self.progress.iteration += 1;
            if let Some(averages) = &mut self.averages {
                averages.update(self.trainer.weights(), self.progress.iteration, self.trainer.batch() as u64);
            }
            self.progress.pending.0 += stats.loss;
            self.progress.pending.1 += 1;
            let iteration = self.progress.iteration;
            let evaluated = iteration.is_multiple_of(config.check_every.max(1)) || iteration == config.iterations;
            if evaluated {
                let (sum, count) = std::mem::take(&mut self.progress.pending);
                self.evaluate(plan, held_out, Some(sum / f64::from(count)))?;
            }
            observe(self, &stats, evaluated)?;
        }
        let model = self.trainer.averaged()?;
        // Without patience nobody asked for the best: the last weights are the outcome.
        if let Some((_, weights)) = self.best.as_ref().filter(|_| config.patience < u64::MAX) {
            unflatten(weights, model.params())?;
        }
        Ok(model)
    }

    /// Evaluates the averaged network and remembers it if it is the best so far; one that makes no images of numbers ends the run.
    fn evaluate(&mut self, plan: &Plan, held_out: &HeldOut<Shared<Batch>>, loss: Option<f64>) -> Result<()> {
        let rollout_error = held_out.rollout_error(&spread(&self.trainer.averaged()?), plan, &Silent)?;
        let iteration = self.progress.iteration;
        if !rollout_error.is_finite() {
            let advice = "nothing of this evaluation was kept; a lower learning rate helps most often".to_owned();
            let (what, level) = ("the held-out rollout error of the averaged network", String::new());
            return Err(Error::Diverged { what, value: rollout_error, iteration, level, advice });
        }
        self.progress.history.push(TuneStep { iteration, loss, rollout_error });
        if self.best.as_ref().is_none_or(|(best, _)| rollout_error < *best) {
            self.best = Some((rollout_error, self.trainer.average().copy()));
            self.progress.evaluations_since_best = 0;
        } else {
            self.progress.evaluations_since_best += 1;
        }
        Ok(())
    }

    /// Saves phase 2 as it is. Of several processes the first writes it.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        if !self.trainer.ranks().is_first() {
            return Ok(());
        }
        let (mut tensors, mut metadata) = self.trainer.state()?;
        if let Some((error, weights)) = &self.best {
            tensors.insert(BEST.to_owned(), tensor_data(weights)?);
            metadata.insert("best_error".to_owned(), serde_json::to_string(error).unwrap_or_default());
        }
        if let Some(averages) = &self.averages {
            averages.save(&mut tensors, &mut metadata)?;
        }
        metadata.insert(PROGRESS.to_owned(), serde_json::to_string(&self.progress).unwrap_or_default());
        Ok(safetensors::write(path, &tensors, &metadata)?)
    }

    /// Takes up phase 2 where [`Tuner::save`] left it.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let place = path.display().to_string();
        let state = safetensors::read(path)?;
        let fail =
            |what: &str| Error::Checkpoint { path: place.clone(), reason: format!("is not a saved phase 2: {what}") };
        self.trainer.restore(&state, &place)?;
        let text = |key: &str| state.metadata.get(key).ok_or_else(|| fail(&format!("it has no '{key}'")));
        let progress: TuneProgress = serde_json::from_str(text(PROGRESS)?).map_err(|error| fail(&error.to_string()))?;
        let best_error = serde_json::from_str(text("best_error")?).map_err(|error| fail(&error.to_string()))?;
        let weights = tensor_from(state.tensors.get(BEST).ok_or_else(|| fail("it has no best weights"))?)?;
        if weights.size() != self.trainer.average().size() {
            return Err(fail("its best weights are of another network"));
        }
        if let Some(averages) = &mut self.averages {
            averages.load(&state.tensors, &state.metadata, progress.iteration).map_err(|reason| fail(&reason))?;
        }
        self.best = Some((best_error, weights.to_device(self.trainer.average().device())));
        self.progress = progress;
        Ok(())
    }
}

const BEST: &str = "best";
const PROGRESS: &str = "phase_2";
