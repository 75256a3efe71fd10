//! Forward-noised data as the objectives of fewstep-core see it: D(y + sigma n_i; sigma) and its derivative in sigma.

use fewstep_core::objective::ForwardNoised;
use fewstep_core::space::VectorSpace;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::data::Minibatch;
use crate::denoiser::{Labels, TorchDenoiser};
use crate::error::{Error, Result};
use crate::tensor::Batch;

/// Whether the noise of a sample differs between levels (the paper leaves it open).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseSharing {
    /// n_i drawn afresh for every level i.
    #[default]
    Independent,
    /// One n for all levels: the points y + sigma n lie on a line.
    Shared,
}

/// A minibatch with the noise of every level.
#[derive(Debug)]
pub struct Noised<'a> {
    denoiser: &'a dyn TorchDenoiser,
    clean: Batch,
    labels: Labels,
    /// One tensor, or one a level.
    noise: Vec<Tensor>,
}

impl<'a> Noised<'a> {
    /// Draws the noise for `levels` levels from libtorch's generator.
    pub fn new(denoiser: &'a dyn TorchDenoiser, batch: Minibatch, levels: usize, sharing: NoiseSharing) -> Self {
        let draws = if sharing == NoiseSharing::Shared { 1 } else { levels };
        let noise = (0..draws).map(|_| batch.images.randn_like()).collect();
        Self { denoiser, clean: Batch(batch.images), labels: Labels(batch.class_labels), noise }
    }

    fn noise(&self, level: usize) -> &Tensor {
        &self.noise[level % self.noise.len()]
    }

    /// y + sigma n_i.
    fn noisy(&self, level: usize, sigma: f64) -> Batch {
        Batch(&self.clean.0 + self.noise(level) * sigma)
    }
}

impl ForwardNoised<Batch> for Noised<'_> {
    type Error = Error;

    fn clean(&self) -> &Batch {
        &self.clean
    }

    fn denoised(&mut self, level: usize, sigma: f64) -> Result<Batch> {
        let mut outputs = self.denoiser.denoise(&[(&self.noisy(level, sigma), sigma)], &self.labels)?;
        outputs.pop().ok_or_else(|| Error::Input("the denoiser did not answer".to_owned()))
    }

    fn pullback(&mut self, level: usize, sigma: f64, cotangent: &Batch) -> Result<f64> {
        let denoiser = self.denoiser.differentiable();
        let denoiser = denoiser.ok_or_else(|| Error::Input("the denoiser has no derivative".to_owned()))?;
        let (d_x, d_sigma) = denoiser.pullback(&self.noisy(level, sigma), sigma, &self.labels, cotangent)?;
        Ok(d_sigma + d_x.dot(&Batch(self.noise(level).shallow_clone()))) // x moves along its noise
    }
}
