//! Forward-noised data as the objectives of fewstep-core see it: D(y + sigma n_i; sigma) and its derivative in sigma.

use fewstep_core::denoiser::{Denoiser, Shared, SharedConditions, Spec, Spread};
use fewstep_core::objective::ForwardNoised;
use fewstep_core::space::VectorSpace;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::data::Minibatch;
use crate::denoiser::{Labels, TorchDenoiser, spread};
use crate::error::{Error, Result};
use crate::random::Stream;
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
    denoiser: Spread<&'a dyn TorchDenoiser>,
    clean: Shared<Batch>,
    labels: SharedConditions<Labels>,
    /// One for all levels, or one for each.
    noise: Vec<Shared<Batch>>,
}

impl<'a> Noised<'a> {
    /// Draws the noise for `levels` levels from `stream`. The denoiser's processes share the samples out, each by its place.
    ///
    /// # Errors
    /// If memory does not suffice.
    pub fn new(
        denoiser: &'a dyn TorchDenoiser,
        batch: Minibatch,
        levels: usize,
        sharing: NoiseSharing,
        stream: &mut Stream,
    ) -> Result<Self> {
        let denoiser = spread(denoiser);
        let places: Vec<u64> = (0..batch.images.size()[0] as u64).collect();
        let own: Vec<i64> = denoiser.own_seeds(&places).into_iter().map(|place| place as i64).collect();
        let own = Tensor::f_from_slice(&own)?.f_to_device(batch.images.device())?;
        let shared = |all: &Tensor| Ok::<_, Error>(denoiser.shared(Batch(all.f_index_select(0, &own)?), &places));
        let draws = if sharing == NoiseSharing::Shared { 1 } else { levels };
        let noise = (0..draws).map(|_| shared(&stream.normal(&batch.images.size(), batch.images.device())));
        let (noise, clean) = (noise.collect::<Result<_>>()?, shared(&batch.images)?);
        let labels = batch.class_labels.map(|labels| labels.f_index_select(0, &own)).transpose()?;
        let labels = denoiser.shared_conditions(Labels(labels), &places);
        Ok(Self { denoiser, clean, labels, noise })
    }

    /// Whether sums over its samples can be relied on ([`Denoiser::check`]).
    ///
    /// # Errors
    /// If another process has gone.
    pub fn check(&self) -> Result<()> {
        Ok(self.denoiser.check()?)
    }

    /// The noise of a level, and the samples with it.
    fn noisy(&self, level: usize, sigma: f64) -> (&Shared<Batch>, Shared<Batch>) {
        let noise = &self.noise[level % self.noise.len()];
        (noise, Shared::combine(&[(1.0, &self.clean), (sigma, noise)]))
    }
}

/// Refuses a denoiser whose samples are not the images of its training data: noise cannot be added to them.
///
/// # Errors
/// If images and samples differ in shape.
pub fn check_images_are_samples(pixel_shape: Option<[usize; 3]>, spec: &Spec) -> Result<()> {
    match pixel_shape {
        Some(shape) if spec.shape == shape => Ok(()),
        _ => Err(Error::Input(format!(
            "this adds noise to training images, and the model's samples are of shape {:?}, which is not that of its images: take \
             a method that needs none (all but paper and bound)",
            spec.shape
        ))),
    }
}

impl ForwardNoised<Shared<Batch>> for Noised<'_> {
    type Error = Error;

    fn clean(&self) -> &Shared<Batch> {
        &self.clean
    }

    fn denoised(&mut self, level: usize, sigma: f64) -> Result<Shared<Batch>> {
        let (_, x) = self.noisy(level, sigma);
        let mut outputs = self.denoiser.denoise(&[(&x, sigma)], &self.labels)?;
        outputs.pop().ok_or_else(|| Error::Input("the denoiser answered nothing".to_owned()))
    }

    /// `d<D(y + sigma n; sigma), cotangent> / dsigma`: through the samples, along the noise, and through the level.
    fn pullback(&mut self, level: usize, sigma: f64, cotangent: &Shared<Batch>) -> Result<f64> {
        let denoiser = self.denoiser.differentiable().ok_or_else(|| {
            Error::Input("phase 1 by Adam follows the model's derivative, and this one has none".to_owned())
        })?;
        let (noise, x) = self.noisy(level, sigma);
        let (d_x, d_sigma) = denoiser.pullback(&x, sigma, &self.labels, cotangent)?;
        let along = d_x.dot(noise);
        self.denoiser.check()?;
        Ok(along + d_sigma)
    }
}
