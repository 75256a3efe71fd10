//! Phase 2: tuning the network for a plan.

use std::path::Path;

use fewstep_core::observe::{Progress, Saving};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_eval::features::Differentiable;
use fewstep_nn::Model;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::distance::FeatureMap;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::fit::{TuneWeights, Tuner, level_loss};
use fewstep_nn::train::{Course, Lessons, TrainConfig, Trainer, Trajectories};

use super::settings::UpdateSize;
use super::{Fitter, Tuned};
use crate::error::{Context, Error, Result};
use crate::runs::failed;

/// Where an unfinished phase 2 keeps its state and the teacher's trajectories.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The file of its state.
    pub state: &'a Path,
    /// The file of the trajectories.
    pub trajectories: &'a Path,
    /// Whether to resume from the state if it is there.
    pub resume: bool,
}

impl Fitter<'_> {
    /// Phase 2 for the noise levels of `plan`, starting from the weights of `model`; `model` itself stays as it is. The outcome is
    /// the best by the held-out error where that stops early, and the last `to_the_end`: where images decide afterwards
    /// ([`Fitter::interpolate`]), the least error is not what is looked for.
    ///
    /// # Errors
    /// If the plan's levels do not fall, images are lacking, an update diverges, or the observer asks for the end
    /// ([`Error::Stopped`]: the state is saved).
    pub fn tune(&self, model: &Model, plan: &Plan, saved: Saved, to_the_end: bool) -> Result<Tuned> {
        let settings = &self.settings.tune;
        let weights = settings.weights(self.images.is_some());
        let levels = Schedule::new(plan.sigmas()).context("phase 2 needs a plan whose noise levels fall")?;
        let trajectories = match weights {
            TuneWeights::Rollout(_) => Some(self.trajectories(plan, saved.trajectories)?),
            _ => None,
        };
        let features = self.features.map(Differentiable);
        let source = match &trajectories {
            Some(trajectories) => Lessons::from(Course {
                trajectories,
                images: self.images,
                features: features.as_ref().map(|map| map as &dyn FeatureMap),
            }),
            None => Lessons::from(self.needed_images()?),
        };
        let each = trajectories.as_ref().map_or(1, Trajectories::steps);
        let UpdateSize { batch, microbatch } = settings.update_size(each);
        let all = settings.updates * batch as u64;
        let config = TrainConfig {
            batch,
            microbatch,
            learning_rate: settings.rate(),
            // Adam's first steps are as long as the rate, whatever the gradient: they would throw off a network that is nearly right
            rampup_images: all / 20,
            decay_images: settings.decays().then_some(all),
            adam: AdamConfig::default(),
            ema: EmaConfig { halflife_images: settings.ema_images / each as f64, rampup_ratio: None },
            loss: level_loss(&levels, weights),
            augment: None,
            xflip: settings.xflip,
            seed: self.settings.seed,
        };
        let mut tuner = Tuner::new(Trainer::new(model.duplicate()?, source, config)?);
        if saved.resume && saved.state.exists() {
            tuner.load(saved.state)?;
        }
        let tune = settings.config(self.settings.early_stop && !to_the_end);
        let name = format!("phase 2, {} steps", plan.nfe());
        let done = tuner.history().last().map_or(0, |evaluation| evaluation.iteration);
        let _saving = Saving::new(self.observer);
        let mut progress = Progress::new(self.observer, &name, "updates", tune.iterations, done);
        let tuned = tuner.run(plan, &self.held_out, tune, |tuner, stats, evaluated| {
            let error = tuner.history().last().map_or(f64::NAN, |evaluation| evaluation.rollout_error);
            progress.set(stats.iteration, format!("loss {:.4}, rollout error {error:.5}", stats.loss));
            let stop = self.observer.cancelled();
            if evaluated || stop {
                tuner.save(saved.state)?;
            }
            if stop { Err(fewstep_nn::Error::Stopped { iteration: stats.iteration }) } else { Ok(()) }
        });
        drop(progress);
        let model = tuned.map_err(|error| match error {
            fewstep_nn::Error::Stopped { iteration } => {
                Error::Stopped { place: format!("in phase 2 for {} evaluations after {iteration} updates", plan.nfe()) }
            }
            error => failed(error, saved.state),
        })?;
        let rollout_error = self.rollout_error(&model, plan)?;
        Ok(Tuned { model, rollout_error, evaluations: tuner.history().to_vec() })
    }
}
