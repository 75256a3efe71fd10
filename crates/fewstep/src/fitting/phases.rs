//! One phase at a time, with progress and early stopping.

use std::path::Path;

use anyhow::{Context, Result};
use fewstep_core::objective::BoundTable;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::search::minimise_bound;
use fewstep_eval::features::Differentiable;
use fewstep_nn::Model;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::distance::FeatureMap;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::fit::{TuneConfig, TuneWeights, Tuner, level_loss};
use fewstep_nn::train::{Course, Lessons, TrainConfig, Trainer, Trajectories};

use super::settings::Parts;
use super::{Fitter, Learned, LrSchedule, Phase2Settings, Tuned, euler};
use crate::searching::{Cache, Found, Method};
use crate::ui::Progress;
use crate::{interrupt, runs};

/// Where an unfinished phase 2 keeps its state, for a later `--resume`.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The file.
    pub path: &'a Path,
    /// Where the teacher's trajectories are kept.
    pub trajectories: Cache<'a>,
    /// Whether to go on from it if it is there.
    pub resume: bool,
}

impl Fitter<'_> {
    /// Phase 1 from the table: the exact minimum of the bound over the grid, for `steps` levels.
    pub fn phase1_from_table(&self, model: &Model, table: &BoundTable, steps: usize) -> Result<Learned> {
        let found = minimise_bound(table, steps)
            .into_iter()
            .find(|found| found.schedule.len() == steps)
            .with_context(|| format!("the table's grid is too small for {steps} steps"))?;
        self.judged(model, euler(&found.schedule)?)
    }

    /// Phase 1 by a search over a teacher: the plan for `steps` evaluations that `method` found.
    pub fn searched(&self, model: &Model, method: &Method, found: &Found, steps: usize) -> Result<Learned> {
        self.judged(model, found.plan(method, steps)?.clone())
    }

    fn judged(&self, model: &Model, plan: Plan) -> Result<Learned> {
        let rollout_error = self.judge.rollout_error(model, &plan)?;
        Ok(Learned { plan, rollout_error, steps: Vec::new(), looks: vec![(0, rollout_error)] })
    }

    /// Phase 2 for the noise levels of `plan`, starting from the weights of `model`; `model` itself stays as it is. The outcome is
    /// the best by the held-out error where that stops early, and the last `to_the_end`: where images decide afterwards
    /// ([`Fitter::settle`]), the least error is not what is looked for.
    pub fn phase2(
        &self,
        model: &Model,
        plan: &Plan,
        settings: &Phase2Settings,
        saved: Option<Saved>,
        to_the_end: bool,
    ) -> Result<Tuned> {
        let levels = Schedule::new(plan.sigmas()).context("phase 2 needs a plan whose noise levels fall")?;
        let trajectories = match settings.weights {
            TuneWeights::Rollout(_) => {
                Some(self.trajectories(plan, settings.trajectories, saved.map(|saved| saved.trajectories))?)
            }
            _ => None,
        };
        let features = self.features.map(Differentiable);
        let lessons = match &trajectories {
            Some(trajectories) => Lessons::from(Course {
                trajectories,
                images: self.images,
                features: features.as_ref().map(|map| map as &dyn FeatureMap),
            }),
            None => Lessons::from(self.needed_images()?),
        };
        let each = trajectories.as_ref().map_or(1, Trajectories::steps);
        let Parts { batch, microbatch } = settings.parts(each);
        let config = TrainConfig {
            batch,
            microbatch,
            learning_rate: settings.learning_rate,
            // Adam's first steps are as long as the rate, whatever the gradient: they would throw off a network that is nearly right
            rampup_images: settings.tune.iterations * batch as u64 / 20,
            decay_images: match settings.lr_schedule {
                LrSchedule::Constant => None,
                LrSchedule::Cosine => Some(settings.tune.iterations * batch as u64),
            },
            adam: AdamConfig::default(),
            ema: EmaConfig { halflife_images: settings.ema_images / each as f64, rampup_ratio: None },
            loss: level_loss(&levels, settings.weights),
            augment: None,
            xflip: settings.xflip,
            seed: settings.seed,
        };
        let mut tuner = Tuner::new(Trainer::new(model.duplicate()?, lessons, config)?);
        if let Some(Saved { path, resume: true, .. }) = saved
            && path.exists()
        {
            tuner.load(path)?;
        }
        let patience = if self.settings.early_stop && !to_the_end { settings.tune.patience } else { u64::MAX };
        let tune = TuneConfig { patience, ..settings.tune };
        let name = format!("phase 2, {} steps", plan.nfe());
        let done = tuner.history().last().map_or(0, |look| look.iteration);
        let mut progress = Progress::new(&name, "updates", tune.iterations, done);
        let listener = saved.map(|_| interrupt::listen()).transpose()?;
        let tuned = tuner.run(plan, &self.judge, tune, |tuner, stats, looked| {
            let error = tuner.history().last().map_or(f64::NAN, |look| look.rollout_error);
            progress.set(stats.iteration, format!("loss {:.4}, rollout error {error:.5}", stats.loss));
            let asked = saved.is_some() && interrupt::asked();
            if let Some(Saved { path, .. }) = saved.filter(|_| looked || asked) {
                tuner.save(path)?;
            }
            if asked { Err(fewstep_nn::Error::Stopped { iteration: stats.iteration }) } else { Ok(()) }
        });
        progress.finish();
        drop(listener);
        let model = match tuned {
            Err(fewstep_nn::Error::Stopped { iteration }) => {
                return interrupt::stopped(&format!(
                    "in phase 2 for {} evaluations after {iteration} updates",
                    plan.nfe()
                ));
            }
            tuned => tuned.map_err(|error| match saved {
                Some(Saved { path, .. }) => runs::failed(error, path),
                None => error.into(),
            })?,
        };
        let rollout_error = self.judge.rollout_error(&model, plan)?;
        Ok(Tuned { model, rollout_error, looks: tuner.history().to_vec() })
    }
}
