//! Data sets through a feature network.

use std::cell::RefCell;
use std::ops::Range;

use fewstep_core::observe::{Observer, Progress};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collected, Collector, Keep, Reference, Statistics};
use fewstep_io::dataset::Dataset;
use fewstep_nn::Ranks;
use fewstep_nn::tch::Tensor;

use crate::error::{Error, Result, ensure};

/// Fewer images than this many times the dimension give a covariance whose own error shows in every distance from it.
const IMAGES_PER_DIMENSION: u64 = 10;

/// Batches between two checks whether the observer asks for the end.
const BATCHES: usize = 16;

/// What the network makes of a part of a data set, by all processes of `ranks`; `name` is what the observer is told.
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
    ranks: &Ranks,
) -> Result<Collected> {
    ensure!(batch > 0, "a batch must have at least 1 image");
    if ranks.size() > 1 {
        let what = format!("{} {range:?} {} {keep:?} {batch}", dataset.fingerprint()?, network.id());
        ranks.check_same("images or feature network", &what)?;
    }
    let collector = RefCell::new(Collector::new(network, keep));
    let progress = RefCell::new(Progress::new(observer, name, "img", range.len() as u64, 0));
    let together = BATCHES.saturating_mul(batch);
    let extract = |start: usize| {
        if observer.cancelled() {
            return Err(fewstep_search::Error::Cancelled.into());
        }
        let (part, collector) = (start..start.saturating_add(together).min(range.end), collector.borrow());
        let done = collector.count();
        let mut watch = |of_part: u64, _| progress.borrow_mut().set(done + of_part, "");
        Ok::<_, Error>(collector.extract_dataset(dataset, part, batch, &mut watch)?)
    };
    let take = |extracted: Vec<Tensor>| {
        let mut collector = collector.borrow_mut();
        collector.take(extracted)?;
        progress.borrow_mut().set(collector.count(), "");
        Ok(())
    };
    ranks.in_order(range.clone().step_by(together), extract, take)?;
    progress.into_inner().finish();
    Ok(collector.into_inner().finish()?)
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
    ranks: &Ranks,
) -> Result<Reference> {
    let keep = Keep { features: keep_features, ..Keep::default() };
    let collected = collect(dataset, 0..dataset.len(), network, keep, batch, ("reference", observer), ranks)?;
    let mut reference = Reference::from_collected(dataset.name(), collected);
    reference.statistics.image_shape = Some(shape_of(dataset));
    Ok(reference)
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
