//! Phase 2: tuning the network for a plan.

use std::path::{Path, PathBuf};

use fewstep_core::observe::{Progress, Saving};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_eval::features::Differentiable;
use fewstep_nn::Tunable;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::distance::FeatureMap;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::fit::{TuneWeights, Tuner, level_loss};
use fewstep_nn::train::{TrainConfig, Trainer, TrainingSource, Trajectories, TrajectoryDataset};

#[cfg(doc)]
use super::settings::InterpolateSettings;
use super::settings::{TuneSettings, UpdateSize};
use super::{FitSettings, Fitter, Tuned, TunedAverage};
use crate::error::{Context, Error, Result};
use crate::runs::{failed, remove_if_there};

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

impl Saved<'_> {
    /// The state of tuning number `index` of several.
    fn state(&self, index: usize) -> PathBuf {
        if index == 0 { self.state.to_owned() } else { self.state.with_extension(format!("{index}.safetensors")) }
    }

    /// Removes what is of no use when phase 2 is finished.
    ///
    /// # Errors
    /// If a file is there and cannot be removed.
    pub fn remove(&self, settings: &FitSettings) -> Result<()> {
        let tunings = settings.interpolate.last_weights(&settings.tune).len();
        (0..tunings).try_for_each(|index| remove_if_there(&self.state(index)))?;
        remove_if_there(self.trajectories)
    }
}

impl Fitter<'_> {
    /// Phase 2 for the noise levels of `plan`, starting from the weights of `model`; `model` itself stays as it is. The outcome is
    /// the best by the held-out error where that stops early, and the last `to_the_end`: where images decide afterwards
    /// ([`Fitter::interpolate`]), the least error is not what is wanted, and the averages of [`InterpolateSettings`] are kept, of a tuning for
    /// each of its weights of the last level. Where nothing is `saved`, what was done is lost when it ends early.
    ///
    /// # Errors
    /// If the plan's levels do not fall, images are lacking, an update diverges, or the observer asks for the end
    /// ([`Error::Stopped`] where the state is saved).
    pub fn tune<M: Tunable>(&self, model: &M, plan: &Plan, saved: Option<Saved>, to_the_end: bool) -> Result<Tuned<M>> {
        let settings = self.settings;
        if !to_the_end {
            return self.tune_once(model, plan, saved, to_the_end);
        }
        let mut all = None::<Tuned<M>>;
        let last_weights = settings.interpolate.last_weights(&settings.tune);
        for (index, &last_weight) in last_weights.iter().enumerate() {
            let tune = TuneSettings { last_weight, ..settings.tune.clone() };
            let settings = FitSettings { tune, ..settings.clone() };
            let state = saved.map(|saved| saved.state(index));
            let saved = saved.zip(state.as_deref()).map(|(saved, state)| Saved { state, ..saved });
            let mut tuned = self.with_settings(&settings).tune_once(model, plan, saved, to_the_end)?;
            if last_weights.len() > 1 {
                tuned.averages.iter_mut().for_each(|average| average.last_weight = Some(last_weight));
            }
            match &mut all {
                Some(all) => all.averages.append(&mut tuned.averages),
                None => all = Some(tuned),
            }
        }
        all.context("phase 2 was given no weight of the last level")
    }

    /// With the settings' weight of the last level.
    fn tune_once<M: Tunable>(
        &self,
        model: &M,
        plan: &Plan,
        saved: Option<Saved>,
        to_the_end: bool,
    ) -> Result<Tuned<M>> {
        let settings = &self.settings.tune;
        let weights = settings.weights(self.images.is_some());
        let levels = Schedule::new(plan.sigmas()).context("phase 2 needs a plan whose noise levels fall")?;
        let trajectories = match (weights, saved) {
            (TuneWeights::Rollout(_), Some(saved)) => Some(self.trajectories(plan, saved.trajectories)?),
            (TuneWeights::Rollout(_), None) => Some(self.unsaved_trajectories(plan)?),
            _ => None,
        };
        let features = self.features.map(Differentiable);
        let source = match &trajectories {
            Some(trajectories) => TrainingSource::from(TrajectoryDataset {
                trajectories,
                images: self.images,
                features: features.as_ref().map(|map| map as &dyn FeatureMap),
            }),
            None => TrainingSource::from(self.needed_images()?),
        };
        let stops_early = self.settings.early_stop && !to_the_end;
        let each = trajectories.as_ref().map_or(1, Trajectories::steps);
        let UpdateSize { batch, microbatch } = settings.update_size(each);
        let all = settings.updates * batch as u64;
        let config = TrainConfig {
            batch,
            microbatch,
            learning_rate: settings.rate(),
            // Adam's first steps are as long as the rate, whatever the gradient: they would throw off a network that is nearly right
            rampup_images: all / 20,
            decay_images: settings.decays(stops_early).then_some(all),
            adam: AdamConfig::default(),
            ema: EmaConfig { halflife_images: settings.ema_images / each as f64, rampup_ratio: None },
            loss: level_loss(&levels, weights),
            augment: None,
            xflip: settings.xflip,
            seed: self.settings.seed,
        };
        let halflife_images = config.ema.halflife_images;
        let mut tuner = Tuner::new(Trainer::new(model.duplicate()?, source, config)?);
        if to_the_end {
            tuner = tuner.keeping(self.settings.interpolate.averages(settings.updates, halflife_images));
        }
        if let Some(Saved { state, resume: true, .. }) = saved
            && state.exists()
        {
            tuner.load(state)?;
        }
        let tune = settings.config(stops_early);
        let name = format!("phase 2, {} steps", plan.nfe());
        let done = tuner.history().last().map_or(0, |evaluation| evaluation.iteration);
        let _saving = saved.map(|_| Saving::new(self.observer));
        let mut progress = Progress::new(self.observer, &name, "updates", tune.iterations, done);
        let ranks = tuner.ranks();
        let tuned = tuner.run(plan, &self.held_out, tune, |tuner, stats, evaluated| {
            let error = tuner.history().last().map_or(f64::NAN, |evaluation| evaluation.rollout_error);
            progress.set(stats.iteration, format!("loss {:.4}, rollout error {error:.5}", stats.loss));
            let stop = ranks.any(self.observer.cancelled())?; // all of them, after the same update
            if let Some(saved) = saved.filter(|_| evaluated || stop) {
                tuner.save(saved.state)?;
            }
            if stop {
                ranks.wait()?; // until the first has saved
                return Err(fewstep_nn::Error::Stopped { iteration: stats.iteration });
            }
            Ok(())
        });
        drop(progress);
        let model = tuned.map_err(|error| match (error, saved) {
            (fewstep_nn::Error::Stopped { iteration }, Some(_)) => {
                Error::Stopped { place: format!("in phase 2 for {} evaluations after {iteration} updates", plan.nfe()) }
            }
            (fewstep_nn::Error::Stopped { .. }, None) => fewstep_search::Error::Cancelled.into(),
            (error, Some(saved)) => failed(error, saved.state, &ranks),
            (error, None) => error.into(),
        })?;
        let rollout_error = self.rollout_error(&model, plan)?;
        let averages =
            tuner.averages().into_iter().map(|average| TunedAverage { average, last_weight: None }).collect();
        Ok(Tuned { model, rollout_error, evaluations: tuner.history().to_vec(), averages })
    }
}
