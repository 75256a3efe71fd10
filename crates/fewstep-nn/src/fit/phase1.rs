//! Phase 1: learn the noise levels by Adam on theta (Eq. 13), with the gradient of Eq. 14 on forward-noised minibatches.

use fewstep_core::objective::{ForwardNoised, Objective, loss_and_gradient};
use fewstep_core::optimise::Adam;
use fewstep_core::schedule::{Scale, Schedule, SoftmaxIncrements};
use fewstep_core::space::VectorSpace;
use serde::{Deserialize, Serialize};

use super::noised::{NoiseSharing, Noised, check_images_are_samples};
use crate::data::{EpochOrder, Images};
use crate::denoiser::TorchDenoiser;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Settings of phase 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleConfig {
    /// What is minimised.
    pub objective: Objective,
    /// Whether noise is shared along the levels.
    pub noise: NoiseSharing,
    /// Scale in which theta shares out the range.
    pub parameter: Scale,
    /// Updates.
    pub iterations: u64,
    /// Images an update.
    pub batch: usize,
    /// Learning rate of Adam on theta.
    pub learning_rate: f64,
    /// Seed of data order and noise.
    pub seed: u64,
}

/// One update of the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleStep {
    /// Updates made, this one included.
    pub iteration: u64,
    /// The objective before the update, a pixel, averaged over the batch.
    pub loss: f64,
    /// The levels after it.
    pub sigmas: Vec<f64>,
}

/// Phase 1 in progress: small enough to be saved as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleOptimiser {
    config: ScheduleConfig,
    #[serde(rename = "parameterisation")]
    increments: SoftmaxIncrements,
    theta: Vec<f64>,
    adam: Adam,
    iteration: u64,
}

impl ScheduleOptimiser {
    /// Starts from `initial`, whose first and last level stay.
    pub fn new(initial: &Schedule, config: ScheduleConfig) -> Self {
        let (increments, theta) = SoftmaxIncrements::from_schedule(initial, config.parameter);
        let adam = Adam::new(config.learning_rate);
        Self { config, increments, theta, adam, iteration: 0 }
    }

    /// Whether all updates have been made.
    pub fn is_done(&self) -> bool {
        self.iteration >= self.config.iterations
    }

    /// Updates made.
    pub fn iteration(&self) -> u64 {
        self.iteration
    }

    /// The levels as they are.
    pub fn schedule(&self) -> Result<Schedule> {
        self.schedule_of(&self.theta)
    }

    fn schedule_of(&self, theta: &[f64]) -> Result<Schedule> {
        let coinciding = |error: fewstep_core::schedule::ScheduleError| Error::Coinciding {
            iteration: self.iteration,
            reason: error.to_string(),
        };
        self.increments.sigmas(theta).map_err(coinciding)
    }

    /// One update; one level's graph is alive at a time, and beside it the noise of all.
    ///
    /// # Errors
    /// If the images are not what the denoiser makes, or it has no derivative; [`Error::Diverged`] where the objective or its gradient is not finite, [`Error::Coinciding`] where levels would meet. The
    /// update is not made then.
    pub fn step(&mut self, denoiser: &dyn TorchDenoiser, images: &Images) -> Result<ScheduleStep> {
        check_images_are_samples(denoiser.pixel_shape(), denoiser.spec())?;
        let schedule = self.schedule()?;
        let batch = self.config.batch;
        if batch == 0 || batch > images.len() {
            return Err(Error::Input(format!(
                "phase 1 takes {batch} images an update, which must be 1 to the {} of the data set",
                images.len()
            )));
        }
        let start = self.iteration * batch as u64;
        let indices = EpochOrder::new(self.config.seed, images.len()).indices(start, batch);
        let minibatch = images.batch(&indices, denoiser)?;
        let pixels = minibatch.images.numel() as f64;
        let mut stream = Stream::new(self.config.seed, Purpose::Learning, self.iteration);
        let mut noised = Noised::new(denoiser, minibatch, schedule.len(), self.config.noise, &mut stream)?;
        let (loss, mut d_sigma) = loss_and_gradient(self.config.objective, &schedule, &mut noised)?;
        noised.check()?;
        let loss = loss.total / pixels;
        if !loss.is_finite() {
            let bad = |place: usize, sigma: f64| {
                noised.denoised(place, sigma).is_ok_and(|output| !output.norm_squared().is_finite())
            };
            return Err(self.diverged("the objective", loss, first(&schedule, bad)));
        }
        if let Some(slope) = d_sigma.iter().find(|slope| !slope.is_finite()) {
            let bad = |place: usize, _| !d_sigma[place].is_finite();
            return Err(self.diverged("the objective's gradient", *slope, first(&schedule, bad)));
        }
        d_sigma.iter_mut().for_each(|d| *d /= pixels);
        let d_theta =
            self.increments.pullback(&self.theta, &d_sigma).map_err(|error| Error::Input(error.to_string()))?;
        let (mut adam, mut theta) = (self.adam.clone(), self.theta.clone());
        adam.step(&mut theta, &d_theta).map_err(|error| Error::Input(format!("phase 1: {error}")))?;
        let sigmas = self.schedule_of(&theta)?.levels().to_vec();
        (self.adam, self.theta) = (adam, theta);
        self.iteration += 1;
        Ok(ScheduleStep { iteration: self.iteration, loss, sigmas })
    }

    fn diverged(&self, what: &'static str, value: f64, level: Option<f64>) -> Error {
        let level = level.map_or_else(String::new, |sigma| format!(" at the noise level {sigma:.4}"));
        let advice = "the update was not made; a lower learning rate of phase 1 helps most often".to_owned();
        Error::Diverged { what, value, iteration: self.iteration, level, advice }
    }
}

/// The first level for which something holds.
fn first(schedule: &Schedule, mut holds: impl FnMut(usize, f64) -> bool) -> Option<f64> {
    let mut levels = schedule.levels().iter().enumerate();
    levels.find(|(place, sigma)| holds(*place, **sigma)).map(|(_, sigma)| *sigma)
}
