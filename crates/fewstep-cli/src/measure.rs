//! Data sets through a feature network, with a progress bar.

use std::ops::Range;

use anyhow::Result;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collected, Collector, Keep, Statistics};
use fewstep_io::dataset::Dataset;

use crate::ui::{self, Progress};

/// Fewer images than this many times the dimension give a covariance whose own error shows in every distance from it.
const IMAGES_PER_DIMENSION: u64 = 10;

/// What the network makes of a part of a data set; `name` stands before the progress bar.
pub fn collect(
    dataset: &Dataset,
    range: Range<usize>,
    network: &dyn FeatureNetwork,
    keep: Keep,
    batch: usize,
    name: &str,
) -> Result<Collected> {
    anyhow::ensure!(batch > 0, "--batch must be at least 1");
    let mut collector = Collector::new(network, keep);
    let mut progress = Progress::new(name, "img", range.len() as u64, 0);
    collector.push_dataset(dataset, range, batch, &mut |done, _| progress.set(done, ""))?;
    progress.finish();
    Ok(collector.finish()?)
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
