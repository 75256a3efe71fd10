//! Mean and covariance of the features of a data set's images.

use anyhow::Result;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collector, Keep, Statistics};
use fewstep_io::dataset::Dataset;
use fewstep_nn::tch::{Kind, Tensor};

use crate::ui::{self, Progress};

/// Fewer images than this many times the dimension give a covariance whose own error shows in every distance from it.
const IMAGES_PER_DIMENSION: u64 = 10;

/// Statistics of all images of a data set; `name` stands before the progress bar.
pub fn of_dataset(dataset: &Dataset, network: &dyn FeatureNetwork, batch: usize, name: &str) -> Result<Statistics> {
    anyhow::ensure!(batch > 0, "--batch must be at least 1");
    let (height, width) = dataset.resolution();
    let mut collector = Collector::new(network, Keep::default());
    let mut progress = Progress::new(name, "img", dataset.len() as u64, 0);
    for start in (0..dataset.len()).step_by(batch) {
        let end = (start + batch).min(dataset.len());
        let mut pixels = Vec::with_capacity((end - start) * dataset.channels() * height * width);
        for index in start..end {
            pixels.extend(dataset.image(index)?);
        }
        let shape = [end - start, dataset.channels(), height, width].map(|size| size as i64);
        collector.push(&Tensor::f_from_data_size(&pixels, &shape, Kind::Uint8)?)?;
        progress.set(end as u64, "");
    }
    progress.finish();
    Ok(collector.finish()?.statistics)
}

/// Says so where reference statistics are of too few images.
pub fn warn_if_few(reference: &Statistics) {
    let (dim, Some(images)) = (reference.dim() as u64, reference.num_images) else { return };
    if images < IMAGES_PER_DIMENSION * dim {
        ui::note(format!(
            "warning: {images} reference images are few for {dim} features: distances from them come out too large; use {} and more",
            IMAGES_PER_DIMENSION * dim
        ));
    }
}
