//! The image scorer: images of a plan, and how far their features are from a reference.

use std::time::Instant;

use fewstep_core::observe::{Observer, Progress};
use fewstep_core::plan::Plan;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collector, FrechetReference, Keep, Statistics};
use fewstep_nn::TorchDenoiser;
use fewstep_nn::tch::{Device, Tensor};
use fewstep_search::sample;

use crate::error::{Result, ensure};
use crate::pixels;

/// Columns and rows of the grids in reports.
const GRID: usize = 8;

/// Scores samplers by the Frechet distance of their images.
pub struct ImageScorer<'a> {
    features: &'a dyn FeatureNetwork,
    reference: FrechetReference,
    batch: usize,
}

/// The score of a sampler.
#[derive(Clone, Debug)]
pub struct Score {
    /// Frechet distance to the reference.
    pub frechet: f64,
    /// The first 64 images as PNG.
    pub grid: Vec<u8>,
    /// Seconds an image for sampling alone.
    pub seconds: f64,
}

impl<'a> ImageScorer<'a> {
    /// A scorer by the distance of these features from this reference, which must be of the same features.
    pub fn new(features: &'a dyn FeatureNetwork, reference: &Statistics, batch: usize) -> Result<Self> {
        Ok(Self { features, reference: FrechetReference::new(reference)?, batch })
    }

    /// Samples `denoiser` under `plan` from `seeds` and measures the images, rounded to bytes.
    ///
    /// # Errors
    /// If the plan does not fit, the denoiser fails, its samples are no images, or there are no seeds.
    pub fn score(
        &self,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        seeds: &[u64],
        observer: &dyn Observer,
    ) -> Result<Score> {
        ensure!(!seeds.is_empty(), "there are no seeds to make images from");
        let mut collector = Collector::new(self.features, Keep::default());
        let mut first = Vec::new();
        let name = format!("{} evaluations", plan.nfe());
        let mut progress = Progress::new(observer, &name, "images", seeds.len() as u64, 0);
        let (mut seconds, mut started) = (0.0, Instant::now());
        sample(&denoiser, plan, seeds, self.batch, observer, |start, samples| {
            let mut measure = || -> Result<()> {
                let images = denoiser.pixels(samples)?.to_device(Device::Cpu); // waits for a GPU, so that its time is counted
                seconds += started.elapsed().as_secs_f64();
                collector.push_sampled(&images)?;
                if start < GRID * GRID {
                    first.push(images.shallow_clone());
                }
                progress.set(start as u64 + images.size()[0] as u64, "");
                started = Instant::now();
                Ok(())
            };
            measure().map_err(|error| fewstep_search::Error::Denoiser(Box::new(error)))
        })?;
        let frechet = self.reference.distance(&collector.finish()?.statistics)?;
        Ok(Score { frechet, grid: grid(&first)?, seconds: seconds / seeds.len() as f64 })
    }
}

/// Samples of `seeds` by `denoiser` under `plan`, as images `[N, C, H, W]` on the CPU.
///
/// # Errors
/// If the plan does not fit, the denoiser fails, or its samples are no images.
pub fn images(
    denoiser: &dyn TorchDenoiser,
    plan: &Plan,
    seeds: &[u64],
    batch: usize,
    observer: &dyn Observer,
) -> Result<Tensor> {
    let mut parts = Vec::new();
    sample(&denoiser, plan, seeds, batch, observer, |_, samples| {
        let pixels = denoiser.pixels(samples).map_err(|error| fewstep_search::Error::Denoiser(Box::new(error)))?;
        parts.push(pixels.to_device(Device::Cpu));
        Ok(())
    })?;
    Ok(Tensor::f_cat(&parts, 0)?)
}

/// The first 64 images as one PNG; `batches`: `[N, C, H, W]` each.
pub fn grid(batches: &[Tensor]) -> Result<Vec<u8>> {
    let images = Tensor::cat(batches, 0);
    let count = images.size()[0].min((GRID * GRID) as i64);
    Ok(fewstep_io::png::encode_grid(&pixels::to_images(&images.narrow(0, 0, count))?, GRID, 2)?)
}
