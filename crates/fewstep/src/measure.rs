//! Mean and covariance of the features of many images.

use anyhow::Result;
use fewstep_eval::Statistics;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::moments::Moments;
use fewstep_io::dataset::Dataset;
use fewstep_nn::tch::{Kind, Tensor};

use crate::ui::{self, Progress};

/// Fewer images than this many times the dimension give a covariance whose own error shows in the distance.
const IMAGES_PER_DIMENSION: u64 = 10;

/// Takes images and keeps the moments of their features.
pub struct Measurement<'a> {
    network: &'a dyn FeatureNetwork,
    moments: Option<Moments>,
}

impl<'a> Measurement<'a> {
    /// Nothing measured yet.
    pub fn new(network: &'a dyn FeatureNetwork) -> Self {
        Self { network, moments: None }
    }

    /// Takes u8 images `[N, C, H, W]`.
    pub fn add(&mut self, images: &Tensor) -> Result<()> {
        let features = self.network.features(images)?;
        let moments = match &mut self.moments {
            Some(moments) => moments,
            // The first batch tells the dimension.
            none => none.insert(Moments::new(features.size()[1] as usize)?),
        };
        Ok(moments.update(&features)?)
    }

    /// Statistics of everything taken.
    pub fn statistics(self) -> Result<Statistics> {
        let moments = self.moments.map_or_else(|| Moments::new(1), Ok)?;
        Ok(moments.statistics(Some(self.network.id().clone()))?)
    }
}

/// Statistics of all images of a data set; `name` stands before the progress bar.
pub fn of_dataset(dataset: &Dataset, network: &dyn FeatureNetwork, batch: usize, name: &str) -> Result<Statistics> {
    anyhow::ensure!(batch > 0, "--batch must be at least 1");
    let (height, width) = dataset.resolution();
    let mut measurement = Measurement::new(network);
    let mut progress = Progress::new(name, "img", dataset.len() as u64, 0);
    for start in (0..dataset.len()).step_by(batch) {
        let end = (start + batch).min(dataset.len());
        let mut pixels = Vec::with_capacity((end - start) * dataset.channels() * height * width);
        for index in start..end {
            pixels.extend(dataset.image(index)?);
        }
        let shape = [end - start, dataset.channels(), height, width].map(|size| size as i64);
        measurement.add(&Tensor::f_from_data_size(&pixels, &shape, Kind::Uint8)?)?;
        progress.set(end as u64, "");
    }
    progress.finish();
    measurement.statistics()
}

/// Says so where a distance would mostly measure how few images there are.
pub fn warn_if_few(statistics: &Statistics, what: &str) {
    let (dim, Some(images)) = (statistics.dim() as u64, statistics.num_images) else { return };
    if images < IMAGES_PER_DIMENSION * dim {
        ui::note(format!(
            "warning: {images} {what} are few for {dim} features: the distance comes out too large; compare it only with \
             distances of as many images, or use {} and more",
            IMAGES_PER_DIMENSION * dim
        ));
    }
}
