//! Images of a plan, and how far their features are from the training set's.

use anyhow::Result;
use fewstep_core::plan::Plan;
use fewstep_eval::Statistics;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::frechet::frechet_distance;
use fewstep_eval::moments::Moments;
use fewstep_io::dataset::Images;
use fewstep_nn::Model;
use fewstep_nn::sample::{Seeded, to_u8};
use fewstep_nn::tch::Tensor;

use crate::assets;
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
        let mut moments = Moments::new(self.reference.dim())?;
        let mut first: Option<Tensor> = None;
        let mut progress = Progress::new(&format!("{} evaluations", plan.nfe()), "images", self.seeds.len() as u64, 0);
        let seeded = Seeded { seeds: &self.seeds, class: None, batch: self.batch };
        let mut failure = None;
        seeded.run(model, plan, |start, images| {
            let images = to_u8(images);
            progress.set(start as u64, "");
            let taken = self.features.features(&images).and_then(|features| moments.update(&features));
            failure = failure.take().or(taken.err());
            let so_far = first.as_ref().map_or(0, |first| first.size()[0]);
            if so_far < (GRID * GRID) as i64 {
                let images = images.to_device(fewstep_nn::tch::Device::Cpu);
                first = Some(first.take().map_or_else(|| images.shallow_clone(), |first| Tensor::cat(&[&first, &images], 0)));
            }
            Ok(())
        })?;
        progress.finish();
        if let Some(error) = failure {
            return Err(error.into());
        }
        let statistics = moments.statistics(Some(self.features.id().clone()))?;
        let frechet = frechet_distance(&statistics, &self.reference)?;
        let grid = first.map(|images| grid(&images)).transpose()?.unwrap_or_default();
        Ok(Measured { frechet, grid, nfe: plan.nfe() })
    }
}

fn grid(images: &Tensor) -> Result<Vec<u8>> {
    let size = images.size();
    let count = size[0].min((GRID * GRID) as i64);
    let images = images.narrow(0, 0, count).contiguous();
    let mut bytes = vec![0u8; images.numel()];
    images.f_copy_data_u8(&mut bytes, images.numel())?;
    let [c, h, w] = [size[1], size[2], size[3]].map(|n| n as usize);
    Ok(fewstep_io::png::encode_grid(&Images::new(bytes, c, h, w, None)?, GRID, 2)?)
}
