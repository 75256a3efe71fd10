//! Data sets through a feature network.

use std::ops::Range;

use fewstep_core::observe::{Observer, Progress};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collected, Collector, Keep, Statistics};
use fewstep_io::dataset::Dataset;

use crate::error::{Result, ensure};

/// Fewer images than this many times the dimension give a covariance whose own error shows in every distance from it.
const IMAGES_PER_DIMENSION: u64 = 10;

/// What the network makes of a part of a data set; `name` is what the observer is told.
pub fn collect(
    dataset: &Dataset,
    range: Range<usize>,
    network: &dyn FeatureNetwork,
    keep: Keep,
    batch: usize,
    (name, observer): (&str, &dyn Observer),
) -> Result<Collected> {
    ensure!(batch > 0, "a batch must have at least 1 image");
    let mut collector = Collector::new(network, keep);
    let mut progress = Progress::new(observer, name, "img", range.len() as u64, 0);
    collector.push_dataset(dataset, range, batch, &mut |done, _| progress.set(done, ""))?;
    progress.finish();
    Ok(collector.finish()?)
}

/// A sentence where reference statistics are of too few images.
pub fn few_images(reference: &Statistics) -> Option<String> {
    let (dim, images) = (reference.dim() as u64, reference.num_images?);
    (images < IMAGES_PER_DIMENSION * dim).then(|| {
        format!(
            "warning: {images} reference images are few for {dim} features: distances from them come out too large; use {} and more",
            IMAGES_PER_DIMENSION * dim
        )
    })
}
