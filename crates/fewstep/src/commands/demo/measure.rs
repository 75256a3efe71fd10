//! Images of a plan, and how far their features are from the training set's.

use anyhow::Result;
use fewstep_core::plan::Plan;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::frechet::frechet_distance;
use fewstep_eval::{Collector, Keep, Statistics};
use fewstep_nn::Model;
use fewstep_nn::sample::{Seeded, to_u8};
use fewstep_nn::tch::Tensor;

use crate::assets;
use crate::pixels;
use crate::ui::Progress;

/// Columns and rows of the grids in the report.
const GRID: usize = 8;

/// The same seeds and the same judge for every row of the table.
pub struct Studio {
    features: Box<dyn FeatureNetwork>,
    reference: Statistics,
    seeds: Vec<u64>,
    batch: usize,
}

/// What is said of one row.
#[derive(Debug)]
pub struct Measured {
    /// Frechet distance to the training set's features.
    pub frechet: f64,
    /// The first 64 images as PNG.
    pub grid: Vec<u8>,
    /// Network evaluations an image.
    pub nfe: usize,
}

impl Studio {
    /// A judge over the images of seeds 0 to `count` - 1.
    pub fn new(model: &Model, count: usize, batch: usize) -> Result<Self> {
        let (features, reference) = (assets::features(model.device())?, assets::reference()?);
        Ok(Self { features, reference, seeds: (0..count.max(2) as u64).collect(), batch })
    }

    /// Samples `model` under `plan` and measures the images.
    pub fn measure(&self, model: &Model, plan: &Plan) -> Result<Measured> {
        let mut collector = Collector::new(&*self.features, Keep::default());
        let mut first = Vec::new();
        let mut progress = Progress::new(&format!("{} evaluations", plan.nfe()), "images", self.seeds.len() as u64, 0);
        let seeded = Seeded { seeds: &self.seeds, class: None, batch: self.batch };
        let mut failure = None;
        seeded.run(model, plan, |start, images| {
            failure = failure.take().or(collector.push(&to_u8(images)).err());
            if start < GRID * GRID {
                first.push(images.shallow_clone());
            }
            progress.set(start as u64 + images.size()[0] as u64, "");
            Ok(())
        })?;
        progress.finish();
        if let Some(error) = failure {
            return Err(error.into());
        }
        let frechet = frechet_distance(&collector.finish()?.statistics, &self.reference)?;
        Ok(Measured { frechet, grid: grid(&first)?, nfe: plan.nfe() })
    }
}

/// The first images as one PNG.
fn grid(batches: &[Tensor]) -> Result<Vec<u8>> {
    let images = Tensor::cat(batches, 0);
    let count = images.size()[0].min((GRID * GRID) as i64);
    Ok(fewstep_io::png::encode_grid(&pixels::to_images(&images.narrow(0, 0, count))?, GRID, 2)?)
}
