//! Data sets through a feature network.

use std::ops::Range;

use fewstep_core::observe::{Observer, Progress};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collected, Collector, Keep, Reference, Statistics};
use fewstep_io::dataset::Dataset;

use crate::error::{Result, ensure};

/// Fewer images than this many times the dimension give a covariance whose own error shows in every distance from it.
const IMAGES_PER_DIMENSION: u64 = 10;

/// Batches between two checks whether the observer asks for the end.
const BATCHES: usize = 16;

/// What the network makes of a part of a data set; `name` is what the observer is told.
///
/// # Errors
/// If images cannot be read or do not fit the network, or the observer asks for the end.
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
    let (together, mut done) = (BATCHES.saturating_mul(batch), 0);
    for start in range.clone().step_by(together) {
        if observer.cancelled() {
            return Err(fewstep_search::Error::Cancelled.into());
        }
        let part = start..start.saturating_add(together).min(range.end);
        let length = part.len() as u64;
        collector.push_dataset(dataset, part, batch, &mut |of_part, _| progress.set(done + of_part, ""))?;
        done += length;
    }
    progress.finish();
    Ok(collector.finish()?)
}

/// Statistics of a data set for others to be compared with, and every image's features where they are asked for.
///
/// # Errors
/// As [`collect`].
pub fn reference(
    dataset: &Dataset,
    network: &dyn FeatureNetwork,
    keep_features: bool,
    batch: usize,
    observer: &dyn Observer,
) -> Result<Reference> {
    let keep = Keep { features: keep_features, ..Keep::default() };
    let collected = collect(dataset, 0..dataset.len(), network, keep, batch, ("reference", observer))?;
    Ok(Reference::from_collected(dataset.name(), collected))
}

/// Channels, height and width of a data set's images.
pub fn shape_of(dataset: &Dataset) -> [usize; 3] {
    let (height, width) = dataset.resolution();
    [dataset.channels(), height, width]
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
