//! Forward-noised data as the objectives of fewstep-core see it: D(y + sigma n_i; sigma) and its derivative in sigma.

use fewstep_core::objective::ForwardNoised;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::data::Minibatch;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::random::Stream;
use crate::tensor::Batch;
use crate::unet::Conditions;

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
    model: &'a Model,
    clean: Batch,
    class_labels: Option<Tensor>,
    /// One tensor, or one a level.
    noise: Vec<Tensor>,
}

impl<'a> Noised<'a> {
    /// Draws the noise for `levels` levels from `stream`.
    pub fn new(model: &'a Model, batch: Minibatch, levels: usize, sharing: NoiseSharing, stream: &mut Stream) -> Self {
        let draws = if sharing == NoiseSharing::Shared { 1 } else { levels };
        let noise = (0..draws).map(|_| stream.normal(&batch.images.size(), batch.images.device())).collect();
        Self { model, clean: Batch(batch.images), class_labels: batch.class_labels, noise }
    }

    fn denoise(&self, level: usize, sigma: &Tensor) -> Tensor {
        let noise = &self.noise[level % self.noise.len()];
        let x = &self.clean.0 + noise * sigma.to_device(self.model.device());
        let conditions = Conditions { class_labels: self.class_labels.as_ref(), ..Conditions::default() };
        self.model.denoise(&x, sigma, &conditions)
    }
}

fn scalar(sigma: f64) -> Tensor {
    Tensor::from_slice(&[sigma as f32])
}

impl ForwardNoised<Batch> for Noised<'_> {
    type Error = Error;

    fn clean(&self) -> &Batch {
        &self.clean
    }

    fn denoised(&mut self, level: usize, sigma: f64) -> Result<Batch> {
        Ok(Batch(tch::no_grad(|| self.denoise(level, &scalar(sigma)))))
    }

    fn pullback(&mut self, level: usize, sigma: f64, cotangent: &Batch) -> Result<f64> {
        let sigma = scalar(sigma).set_requires_grad(true);
        let product = (self.denoise(level, &sigma) * &cotangent.0).sum(Kind::Float);
        let gradient = Tensor::f_run_backward(&[product], &[&sigma], false, false)?;
        Ok(gradient[0].double_value(&[0]))
    }
}
