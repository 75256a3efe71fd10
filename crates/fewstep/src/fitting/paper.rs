//! Phase 1 by Adam: the paper's objectives by gradient, saved on the way and resumed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fewstep_core::observe::{Event, Progress, Saving};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::atomic;
use fewstep_nn::fit::{ScheduleConfig, ScheduleOptimiser, ScheduleStep};
use fewstep_nn::{Error as NetworkError, TorchDenoiser};
use serde::{Deserialize, Serialize};

use super::settings::PaperSettings;
use super::{FitSettings, Fitter, FoundPlan};
use crate::error::{Error, Result};
use crate::plans::euler;
use crate::runs::{failed, read, remove_if_there};
use crate::scorer::ImageScorer;

/// Time between two saves: a save holds every update so far, so that late ones are large.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Levels being optimised: what a later run resumes.
#[derive(Debug, Serialize, Deserialize)]
struct Optimisation {
    optimiser: ScheduleOptimiser,
    /// The best levels by the held-out error; without early stopping the last that were evaluated.
    best: Plan,
    rollout_error: f64,
    since_best: u64,
    steps: Vec<ScheduleStep>,
    evaluations: Vec<(u64, f64)>,
}

impl Optimisation {
    fn new(fitter: &Fitter, model: &dyn TorchDenoiser, initial: &Schedule) -> Result<Self> {
        let paper = &fitter.settings.paper;
        let config = ScheduleConfig {
            objective: paper.objective(),
            noise: paper.noise,
            parameter: paper.scale,
            iterations: paper.iterations,
            batch: paper.batch,
            learning_rate: paper.learning_rate,
            seed: fitter.settings.seed,
        };
        let best = euler(initial)?;
        let rollout_error = finite_error(fitter, model, &best, 0)?;
        let (steps, evaluations) = (Vec::new(), vec![(0, rollout_error)]);
        Ok(Self {
            optimiser: ScheduleOptimiser::new(initial, config),
            best,
            rollout_error,
            since_best: 0,
            steps,
            evaluations,
        })
    }

    /// Evaluates the held-out error of the levels as they are, rounded to those that the network knows. Where two of these are the
    /// same level nothing changes, and the answer is why.
    fn evaluate(&mut self, fitter: &Fitter, model: &dyn TorchDenoiser, stops_early: bool) -> Result<Option<String>> {
        let levels = match self.optimiser.schedule()?.round(&model.spec().levels) {
            Ok(levels) => levels,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let plan = euler(&levels)?;
        let error = finite_error(fitter, model, &plan, self.optimiser.iteration())?;
        self.evaluations.push((self.optimiser.iteration(), error));
        self.since_best += 1;
        if error < self.rollout_error || !stops_early {
            (self.rollout_error, self.best, self.since_best) = (error, plan, 0);
        }
        Ok(None)
    }
}

/// The held-out error of a plan, which ends the optimisation if it is no number.
fn finite_error(fitter: &Fitter, model: &dyn TorchDenoiser, plan: &Plan, iteration: u64) -> Result<f64> {
    let value = fitter.rollout_error(model, plan)?;
    if !value.is_finite() {
        let advice = "nothing of this evaluation was kept".to_owned();
        let (what, level) = ("the held-out rollout error of the levels", String::new());
        return Err(NetworkError::Diverged { what, value, iteration, level, advice }.into());
    }
    Ok(value)
}

/// The file of learning number `index` of several, where that of the first is `state`.
fn state_of(state: &Path, index: usize) -> PathBuf {
    if index == 0 { state.to_owned() } else { state.with_extension(format!("{index}.json")) }
}

impl Fitter<'_> {
    /// Phase 1 by Adam from `initial`, and what images choose of it where there is a `scorer`: among levels on the way to the learned ones,
    /// a learning for each of the settings' objectives and scales. It resumes from the file `state` and others beside it.
    ///
    /// # Errors
    /// As [`Fitter::optimise_levels`] and [`Fitter::chosen_levels`].
    pub fn learn_levels(
        &self,
        model: &dyn TorchDenoiser,
        initial: &Schedule,
        state: &Path,
        scorer: Option<&ImageScorer>,
    ) -> Result<FoundPlan> {
        let mut learned = Vec::new();
        for (index, paper) in self.learnings(scorer.is_some()).into_iter().enumerate() {
            let by = paper.learned_by();
            let settings = FitSettings { paper, ..self.settings.clone() };
            let fitter = self.with_settings(&settings);
            learned.push((by, fitter.optimise_levels(model, initial, &state_of(state, index), scorer.is_some())?));
        }
        self.chosen_levels(model, initial, learned, scorer)
    }

    /// Removes the files that [`Fitter::learn_levels`] resumes from.
    ///
    /// # Errors
    /// If one is there and cannot be removed.
    pub fn remove_learning(&self, state: &Path, chooses: bool) -> Result<()> {
        let learnings = self.learnings(chooses).len();
        (0..learnings).try_for_each(|index| remove_if_there(&state_of(state, index)))
    }

    /// The settings of each learning; one alone where no images choose.
    fn learnings(&self, chooses: bool) -> Vec<PaperSettings> {
        let FitSettings { paper, interpolate, .. } = self.settings;
        if chooses { interpolate.learnings(paper) } else { vec![paper.clone()] }
    }

    /// Phase 1 by Adam from `initial`, keeping the best levels by the held-out rollout error; the last without early stopping, and `to_the_end`,
    /// where images choose afterwards ([`Fitter::chosen_levels`]).
    /// Levels that come to coincide end it: those before stand. It resumes from the file `state` if that is there.
    ///
    /// # Errors
    /// If there are no images, an update diverges, or the observer asks for the end ([`Error::Stopped`]: the state is saved).
    pub fn optimise_levels(
        &self,
        model: &dyn TorchDenoiser,
        initial: &Schedule,
        state: &Path,
        to_the_end: bool,
    ) -> Result<FoundPlan> {
        let images = self.needed_images()?;
        let paper = &self.settings.paper;
        let mut now = match read::<Optimisation>(state)? {
            Some(saved) => saved,
            None => Optimisation::new(self, model, initial)?,
        };
        let name = format!("phase 1, {} steps", initial.len());
        let stops_early = self.settings.early_stop && !to_the_end;
        let patience = if stops_early { paper.patience.max(1) } else { u64::MAX };
        let ranks = model.ranks();
        let _saving = Saving::new(self.observer);
        let mut progress = Progress::new(self.observer, &name, "updates", paper.iterations, now.optimiser.iteration());
        let (mut saved, mut ended) = (None::<Instant>, None);
        while !now.optimiser.is_done() && now.since_best < patience && ended.is_none() {
            let step = match now.optimiser.step(model, images) {
                Ok(step) => step,
                Err(error @ NetworkError::Coinciding { .. }) => {
                    let evaluated = now.evaluations.last().is_some_and(|(last, _)| *last == now.optimiser.iteration());
                    let rounded = if evaluated { None } else { now.evaluate(self, model, stops_early)? };
                    ended = rounded.or(Some(error.to_string()));
                    break;
                }
                Err(error) => return Err(failed(error, state, &ranks)),
            };
            let iteration = step.iteration;
            progress.set(iteration, format!("objective {:.4}", step.loss));
            now.steps.push(step);
            if iteration.is_multiple_of(paper.check_every.max(1)) || now.optimiser.is_done() {
                ended = now.evaluate(self, model, stops_early)?;
                let due = saved.is_none_or(|saved| saved.elapsed() > SAVE_EVERY);
                if due && ended.is_none() && !self.observer.cancelled() {
                    atomic::write_json(state, &now)?;
                    saved = Some(Instant::now());
                }
            }
            // after the evaluation, which takes a while; all processes after the same update
            if ranks.any(self.observer.cancelled())? && ended.is_none() {
                atomic::write_json(state, &now)?;
                ranks.wait()?; // until the first has saved
                let place = format!("in phase 1 for {} steps after {iteration} updates", initial.len());
                return Err(Error::Stopped { place });
            }
        }
        drop(progress);
        if let Some(reason) = ended {
            let which = if stops_early { "best" } else { "last" };
            let text = format!("{name}: it ends here, as {reason}; the {which} of the levels evaluated before stand");
            self.observer.event(Event::Note(&text));
        }
        let Optimisation { best: plan, rollout_error, steps, evaluations, .. } = now;
        Ok(FoundPlan { plan, rollout_error, steps, evaluations, interpolation: Vec::new() })
    }
}
