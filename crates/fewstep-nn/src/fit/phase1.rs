//! Phase 1: learn the noise levels by Adam on theta (Eq. 13), with the gradient of Eq. 14 on forward-noised minibatches.

use fewstep_core::objective::{Objective, loss_and_gradient};
use fewstep_core::optimise::Adam;
use fewstep_core::schedule::{Parameterisation, Scale, Schedule};
use serde::{Deserialize, Serialize};

use super::noised::{NoiseSharing, Noised};
use crate::data::{EpochOrder, Images};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::random;

/// Settings of phase 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnConfig {
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
pub struct LearnStep {
    /// Updates made, this one included.
    pub iteration: u64,
    /// The objective before the update, a pixel, averaged over the batch.
    pub loss: f64,
    /// The levels after it.
    pub sigmas: Vec<f64>,
}

/// Phase 1 in progress: small enough to be saved as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learner {
    config: LearnConfig,
    parameterisation: Parameterisation,
    theta: Vec<f64>,
    adam: Adam,
    iteration: u64,
}

impl Learner {
    /// Starts from `initial`, whose first and last level stay.
    pub fn new(initial: &Schedule, config: LearnConfig) -> Self {
        let (parameterisation, theta) = Parameterisation::from_schedule(initial, config.parameter);
        let adam = Adam::new(config.learning_rate);
        Self { config, parameterisation, theta, adam, iteration: 0 }
    }

    /// Whether all updates have been made.
    pub fn is_done(&self) -> bool {
        self.iteration >= self.config.iterations
    }

    /// The levels as they are.
    pub fn schedule(&self) -> Result<Schedule> {
        self.parameterisation
            .sigmas(&self.theta)
            .map_err(|error| Error::Input(format!("phase 1 left the range: {error}")))
    }

    /// One update; memory does not depend on the number of levels, since each level's graph is freed before the next.
    pub fn step(&mut self, model: &Model, images: &Images) -> Result<LearnStep> {
        let schedule = self.schedule()?;
        random::reseed(self.config.seed, self.iteration);
        let batch = self.config.batch.min(images.len());
        let start = self.iteration * batch as u64;
        let indices = EpochOrder::new(self.config.seed, images.len()).indices(start, batch);
        let minibatch = images.batch(&indices, model)?;
        let pixels = minibatch.images.numel() as f64;
        let mut noised = Noised::new(model, minibatch, schedule.len(), self.config.noise);
        let (loss, mut d_sigma) = loss_and_gradient(self.config.objective, &schedule, &mut noised)?;
        let loss = loss.total / pixels;
        if !loss.is_finite() {
            let advice = "lower the learning rate of phase 1".to_owned();
            return Err(Error::Diverged { loss, iteration: self.iteration, level: String::new(), advice });
        }
        d_sigma.iter_mut().for_each(|d| *d /= pixels);
        let d_theta =
            self.parameterisation.pullback(&self.theta, &d_sigma).map_err(|error| Error::Input(error.to_string()))?;
        self.adam.step(&mut self.theta, &d_theta).map_err(|error| Error::Input(format!("phase 1: {error}")))?;
        self.iteration += 1;
        Ok(LearnStep { iteration: self.iteration, loss, sigmas: self.schedule()?.levels().to_vec() })
    }
}
