//! Phase 1 by Adam: the paper's objectives by gradient, saved on the way and gone on with.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::atomic;
use fewstep_nn::fit::{LearnConfig, LearnStep, Learner};
use fewstep_nn::{Error, Model};
use serde::{Deserialize, Serialize};

use super::{Fitter, Learned, Phase1Settings, euler};
use crate::gallery::read;
use crate::ui::Progress;
use crate::{interrupt, runs, ui};

/// Time between two saves: a save holds every update so far, so that late ones are large.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Levels on their way: what a later run goes on from.
#[derive(Debug, Serialize, Deserialize)]
struct Learning {
    learner: Learner,
    /// The best levels by the held-out error; without early stopping the last that were looked at.
    best: Plan,
    rollout_error: f64,
    since_best: u64,
    steps: Vec<LearnStep>,
    looks: Vec<(u64, f64)>,
}

impl Learning {
    fn new(fitter: &Fitter, model: &Model, initial: &Schedule, settings: &Phase1Settings) -> Result<Self> {
        let config = LearnConfig {
            objective: settings.objective,
            noise: settings.noise,
            parameter: settings.parameter,
            iterations: settings.iterations,
            batch: settings.batch,
            learning_rate: settings.learning_rate,
            seed: settings.seed,
        };
        let best = euler(initial)?;
        let rollout_error = judged(fitter, model, &best, 0)?;
        let (steps, looks) = (Vec::new(), vec![(0, rollout_error)]);
        Ok(Self { learner: Learner::new(initial, config), best, rollout_error, since_best: 0, steps, looks })
    }

    /// The held-out error of the levels as they are, rounded to those that the network knows. Where two of these are the same level
    /// nothing changes, and the answer is why.
    fn look(&mut self, fitter: &Fitter, model: &Model) -> Result<Option<String>> {
        let levels = match self.learner.schedule()?.round(&model.config().precond) {
            Ok(levels) => levels,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let plan = euler(&levels)?;
        let error = judged(fitter, model, &plan, self.learner.iteration())?;
        self.looks.push((self.learner.iteration(), error));
        self.since_best += 1;
        if error < self.rollout_error || !fitter.settings.early_stop {
            (self.rollout_error, self.best, self.since_best) = (error, plan, 0);
        }
        Ok(None)
    }
}

/// The held-out error of a plan, which ends phase 1 if it is no number.
fn judged(fitter: &Fitter, model: &Model, plan: &Plan, iteration: u64) -> Result<f64> {
    let value = fitter.judge.rollout_error(model, plan)?;
    if !value.is_finite() {
        let advice = "nothing of this look was kept".to_owned();
        let (what, level) = ("the held-out rollout error of the levels", String::new());
        return Err(Error::Diverged { what, value, iteration, level, advice }.into());
    }
    Ok(value)
}

impl Fitter<'_> {
    /// Phase 1 by Adam from `initial`, keeping the best levels by the held-out rollout error (without early stopping the last).
    /// Levels that come to coincide end it: those before stand. It goes on from `state` if that file is there.
    pub fn phase1_by_adam(
        &self,
        model: &Model,
        initial: &Schedule,
        settings: &Phase1Settings,
        state: &Path,
    ) -> Result<Learned> {
        let images = self.needed_images()?;
        let mut now = match read::<Learning>(state)? {
            Some(saved) => saved,
            None => Learning::new(self, model, initial, settings)?,
        };
        let name = format!("phase 1, {} steps", initial.len());
        let patience = if self.settings.early_stop { settings.patience.max(1) } else { u64::MAX };
        let mut progress = Progress::new(&name, "updates", settings.iterations, now.learner.iteration());
        let listener = interrupt::listen()?;
        let (mut saved, mut ended) = (None::<Instant>, None);
        while !now.learner.is_done() && now.since_best < patience && ended.is_none() {
            let step = match now.learner.step(model, images) {
                Ok(step) => step,
                Err(error @ Error::Coinciding { .. }) => {
                    let looked_at = now.looks.last().is_some_and(|(last, _)| *last == now.learner.iteration());
                    let rounded = if looked_at { None } else { now.look(self, model)? };
                    ended = rounded.or(Some(error.to_string()));
                    break;
                }
                Err(error) => return Err(runs::failed(error, state)),
            };
            let iteration = step.iteration;
            progress.set(iteration, format!("objective {:.4}", step.loss));
            now.steps.push(step);
            if iteration.is_multiple_of(settings.check_every.max(1)) || now.learner.is_done() {
                ended = now.look(self, model)?;
                if saved.is_none_or(|saved| saved.elapsed() > SAVE_EVERY) && ended.is_none() && !interrupt::asked() {
                    atomic::write_json(state, &now)?;
                    saved = Some(Instant::now());
                }
            }
            // asked after the look, which takes a while
            if interrupt::asked() && ended.is_none() {
                atomic::write_json(state, &now)?;
                progress.finish();
                return interrupt::stopped(&format!(
                    "in phase 1 for {} steps after {iteration} updates",
                    initial.len()
                ));
            }
        }
        progress.finish();
        drop(listener);
        if let Some(reason) = ended {
            let which = if self.settings.early_stop { "best" } else { "last" };
            ui::note(format!("{name}: it ends here, as {reason}; the {which} of those looked at before stand"));
        }
        let Learning { best: plan, rollout_error, steps, looks, .. } = now;
        Ok(Learned { plan, rollout_error, steps, looks })
    }
}
