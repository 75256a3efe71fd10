//! Images of a plan, and how far their features are from a reference.

use std::time::Instant;

use anyhow::{Result, ensure};
use fewstep_core::plan::Plan;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collector, FrechetReference, Keep, Statistics};
use fewstep_nn::Model;
use fewstep_nn::sample::Seeded;
use fewstep_nn::tch::{Device, Tensor};

use crate::pixels;
use crate::ui::Progress;

/// Columns and rows of the grids in reports.
const GRID: usize = 8;

/// The same seeds and the same judge for every row of a table.
pub struct Studio<'a> {
    features: &'a dyn FeatureNetwork,
    reference: FrechetReference,
    batch: usize,
}

/// What is said of a plan.
#[derive(Debug)]
pub struct Measured {
    /// Frechet distance to the reference.
    pub frechet: f64,
    /// The first 64 images as PNG.
    pub grid: Vec<u8>,
    /// Seconds an image for sampling alone.
    pub seconds: f64,
}

impl<'a> Studio<'a> {
    /// A judge by these features of the distance from this reference, which must be of the same features.
    pub fn new(features: &'a dyn FeatureNetwork, reference: &Statistics, batch: usize) -> Result<Self> {
        Ok(Self { features, reference: FrechetReference::new(reference)?, batch })
    }

    /// Samples `model` under `plan` from `seeds` and measures the images, rounded to bytes.
    pub fn measure(&self, model: &Model, plan: &Plan, seeds: &[u64]) -> Result<Measured> {
        let mut collector = Collector::new(self.features, Keep::default());
        let mut first = Vec::new();
        let mut progress = Progress::new(&format!("{} evaluations", plan.nfe()), "images", seeds.len() as u64, 0);
        let (mut seconds, mut started, mut failure) = (0.0, Instant::now(), None);
        Seeded { seeds, class: None, batch: self.batch }.run(model, plan, |start, images| {
            let images = &images.to_device(Device::Cpu); // waits for a GPU, so that its time is counted
            seconds += started.elapsed().as_secs_f64();
            failure = failure.take().or(collector.push_sampled(images).err());
            if start < GRID * GRID {
                first.push(images.shallow_clone());
            }
            progress.set(start as u64 + images.size()[0] as u64, "");
            started = Instant::now();
            Ok(())
        })?;
        progress.finish();
        if let Some(error) = failure {
            return Err(error.into());
        }
        ensure!(!first.is_empty(), "there are no seeds to make images from");
        let frechet = self.reference.distance(&collector.finish()?.statistics)?;
        Ok(Measured { frechet, grid: grid(&first)?, seconds: seconds / seeds.len() as f64 })
    }
}

/// The first 64 images as one PNG; `batches`: `[N, C, H, W]` each.
pub fn grid(batches: &[Tensor]) -> Result<Vec<u8>> {
    let images = Tensor::cat(batches, 0);
    let count = images.size()[0].min((GRID * GRID) as i64);
    Ok(fewstep_io::png::encode_grid(&pixels::to_images(&images.narrow(0, 0, count))?, GRID, 2)?)
}
