//! One pass over images for every metric: the network runs once an image.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use fewstep_io::Dataset;
use fewstep_nn::pixels::to_u8;
use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::features::{Activations, FeatureNetwork};
use crate::images;
use crate::moments::Moments;
use crate::statistics::Statistics;
use crate::watch::Watch;

/// What to keep of each image besides the running moments, which are all that a Frechet distance needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Features: for KID, precision and recall, density and coverage, bootstrap and extrapolation. 4 d bytes an image.
    pub features: bool,
    /// Class scores: for the inception score.
    pub logits: bool,
    /// The images: for the sliced Wasserstein distance.
    pub images: bool,
}

impl Keep {
    /// What either keeps.
    pub fn and(self, other: Self) -> Self {
        Self {
            features: self.features || other.features,
            logits: self.logits || other.logits,
            images: self.images || other.images,
        }
    }
}

/// Takes images batch by batch.
pub struct Collector<'a> {
    network: &'a dyn FeatureNetwork,
    keep: Keep,
    moments: Option<Moments>,
    features: Vec<Tensor>,
    logits: Vec<Tensor>,
    images: Vec<Tensor>,
}

/// What a [`Collector`] has taken.
#[derive(Debug)]
pub struct Collected {
    /// Mean and covariance of the features, with the network's name and hash.
    pub statistics: Statistics,
    /// `[N, d]`, if kept.
    pub features: Option<Tensor>,
    /// `[N, classes]`, if kept.
    pub logits: Option<Tensor>,
    /// u8 `[N, C, H, W]`, if kept.
    pub images: Option<Tensor>,
}

impl<'a> Collector<'a> {
    /// A collector that has taken nothing.
    pub fn new(network: &'a dyn FeatureNetwork, keep: Keep) -> Self {
        Self { network, keep, moments: None, features: Vec::new(), logits: Vec::new(), images: Vec::new() }
    }

    /// Images taken so far.
    pub fn count(&self) -> u64 {
        self.moments.as_ref().map_or(0, Moments::count)
    }

    /// What is to be taken of u8 images `[N, C, H, W]`: the work, which another process may have done for [`Collector::take`]. A list of
    /// [`Collector::extracted_length`] tensors.
    ///
    /// # Errors
    /// If they do not fit the network, or it has no class scores and those were to be kept.
    pub fn extract(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let Activations { features, logits } = self.network.activations(images)?;
        let mut extracted = vec![features];
        if self.keep.logits {
            extracted.push(logits.ok_or_else(|| {
                let id = self.network.id();
                Error::Input(format!(
                    "the feature network {id} gives no class scores, so there is no inception score with it"
                ))
            })?);
        }
        if self.keep.images {
            extracted.push(images.to_device(fewstep_nn::tch::Device::Cpu).copy());
        }
        Ok(extracted)
    }

    /// Tensors of a [`Collector::extract`].
    pub fn extracted_length(&self) -> usize {
        1 + usize::from(self.keep.logits) + usize::from(self.keep.images)
    }

    /// Takes what was extracted from the next images, as often as there were batches of them.
    ///
    /// # Errors
    /// If another network extracted it.
    pub fn take(&mut self, extracted: impl IntoIterator<Item = Tensor>) -> Result<()> {
        let mut extracted = extracted.into_iter();
        while let Some(features) = extracted.next() {
            let dim = features.size().get(1).map_or(0, |&d| d as usize);
            if self.moments.is_none() {
                self.moments = Some(Moments::new(dim)?);
            }
            if let Some(moments) = &mut self.moments {
                moments.update(&features)?;
            }
            if self.keep.logits {
                self.logits.extend(extracted.next());
            }
            if self.keep.features {
                self.features.push(features);
            }
            if self.keep.images {
                self.images.extend(extracted.next());
            }
        }
        Ok(())
    }

    /// Takes u8 images `[N, C, H, W]`.
    ///
    /// # Errors
    /// As [`Collector::extract`].
    pub fn push(&mut self, images: &Tensor) -> Result<()> {
        let extracted = self.extract(images)?;
        self.take(extracted)
    }

    /// What is to be taken of a part of a data set, `batch` at once; the next batch is decoded while the network sees this one.
    /// `watch` counts images.
    ///
    /// # Errors
    /// If some of the data set's images cannot be used (all of them are counted), or as [`Collector::extract`].
    pub fn extract_dataset(
        &self,
        dataset: &Dataset,
        range: Range<usize>,
        batch: usize,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Tensor>> {
        let (start, total) = (range.start, range.len() as u64);
        let (mut done, mut extracted) = (0, Vec::new());
        thread::scope(|scope| {
            // One batch waits, one is being decoded, one is with the network.
            let (sender, receiver) = mpsc::sync_channel(1);
            scope.spawn(move || {
                for first in range.clone().step_by(batch.max(1)) {
                    // Nobody listens any more once the network has failed.
                    if sender.send(dataset.load(first..(first + batch.max(1)).min(range.end))).is_err() {
                        return;
                    }
                }
            });
            for images in receiver {
                let images = images::tensor(&images?)?;
                extracted.extend(self.extract(&images)?);
                done += images.size()[0] as u64;
                watch(done, total);
            }
            Ok::<_, Error>(())
        })?;
        // A thread that died without a word must not pass for a short data set.
        if done < total {
            return Err(Error::Input(format!("reading stopped after {done} of {total} images, from {start} on")));
        }
        Ok(extracted)
    }

    /// Takes the images of a part of a data set ([`Collector::extract_dataset`]).
    ///
    /// # Errors
    /// As the same.
    pub fn push_dataset(
        &mut self,
        dataset: &Dataset,
        range: Range<usize>,
        batch: usize,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let extracted = self.extract_dataset(dataset, range, batch, watch)?;
        self.take(extracted)
    }

    /// Takes a sampler's images ([`Collector::extract_sampled`]).
    ///
    /// # Errors
    /// As the same (none of the batch is taken).
    pub fn push_sampled(&mut self, images: &Tensor) -> Result<()> {
        let extracted = self.extract_sampled(images, self.count())?;
        self.take(extracted)
    }

    /// What is to be taken of a sampler's images, f32 `[N, C, H, W]` in -1 to 1, rounded to u8 as EDM stores them; `before` images come
    /// before them.
    ///
    /// # Errors
    /// If any image holds NaN or infinity, or as [`Collector::extract`].
    pub fn extract_sampled(&self, images: &Tensor, before: u64) -> Result<Vec<Tensor>> {
        if images.dim() != 4 {
            return Err(Error::Input(format!("images of shape {:?} where [N, C, H, W] is needed", images.size())));
        }
        let bad = images.flatten(1, -1).isfinite().logical_not().any_dim(1, false).to_kind(Kind::Int64);
        let count = bad.sum(Kind::Int64).int64_value(&[]);
        if count > 0 {
            let first = before as i64 + bad.argmax(0, false).int64_value(&[]);
            let n = images.size()[0];
            return Err(Error::Input(format!(
                "{count} of {n} sampled images hold values that are not finite, the first is image {first}: the model or the \
                 plan diverges there"
            )));
        }
        self.extract(&to_u8(images))
    }

    /// Everything taken.
    ///
    /// # Errors
    /// If it has taken fewer than two images, which have no covariance.
    pub fn finish(self) -> Result<Collected> {
        let moments = self.moments.ok_or_else(|| Error::Input("there were no images to measure".to_owned()))?;
        let joined = |parts: &[Tensor], kept: bool| kept.then(|| Tensor::cat(parts, 0));
        Ok(Collected {
            statistics: moments.statistics(Some(self.network.id().clone()))?,
            features: joined(&self.features, self.keep.features),
            logits: joined(&self.logits, self.keep.logits),
            images: joined(&self.images, self.keep.images),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeatureId;
    use fewstep_nn::tch::{self, Device};

    /// Mean and maximum of an image.
    struct Summary(FeatureId);

    impl FeatureNetwork for Summary {
        fn id(&self) -> &FeatureId {
            &self.0
        }

        fn activations(&self, images: &Tensor) -> Result<Activations> {
            let x = images.to_kind(Kind::Float).flatten(1, -1);
            let features = Tensor::stack(&[x.mean_dim(1, false, Kind::Float), x.amax(1, false)], 1);
            Ok(Activations { features, logits: None })
        }
    }

    fn network() -> Summary {
        Summary(FeatureId { name: "summary".into(), sha256: "0".into() })
    }

    #[test]
    fn keeps_what_was_asked_for_in_order() {
        tch::manual_seed(1);
        let images = Tensor::randint(256, [7, 1, 3, 3], (Kind::Uint8, Device::Cpu));
        let network = network();
        let mut collector = Collector::new(&network, Keep { features: true, images: true, logits: false });
        for part in images.split(3, 0) {
            collector.push(&part).unwrap();
        }
        let all = collector.finish().unwrap();
        assert_eq!(all.images.unwrap(), images);
        assert_eq!(all.features.unwrap(), network.features(&images).unwrap());
        assert!(all.logits.is_none());
        assert_eq!((all.statistics.num_images, all.statistics.features), (Some(7), Some(network.0.clone())));
    }

    #[test]
    fn sampled_images_are_rounded_as_edm_does_and_nan_is_named() {
        let network = network();
        let mut collector = Collector::new(&network, Keep { images: true, ..Keep::default() });
        let x = Tensor::from_slice(&[-1.0f32, -0.999, 0.0, 1.0]).view([4, 1, 1, 1]);
        collector.push_sampled(&x).unwrap();
        let bad = x.copy();
        let _ = bad.get(2).fill_(f64::NAN);
        let error = collector.push_sampled(&bad).unwrap_err().to_string();
        assert!(error.contains("1 of 4") && error.contains("image 6"), "{error}");
        let kept = collector.finish().unwrap().images.unwrap();
        assert_eq!(Vec::<u8>::try_from(kept.reshape([-1])).unwrap(), [0, 0, 128, 255]);
    }

    #[test]
    fn data_sets_are_taken_in_parts_and_in_order() {
        let pixels: Vec<u8> = (0..11 * 4).map(|i| (i * 5) as u8).collect();
        let images = fewstep_io::dataset::Images::new(pixels, 1, 2, 2, None).unwrap();
        let dataset = Dataset::from_images("numbers", images.clone()).unwrap();
        let network = network();
        let mut collector = Collector::new(&network, Keep { images: true, ..Keep::default() });
        let mut seen = Vec::new();
        collector.push_dataset(&dataset, 2..11, 4, &mut |done, total| seen.push((done, total))).unwrap();
        assert_eq!(seen, [(4, 9), (8, 9), (9, 9)]);
        let kept = collector.finish().unwrap().images.unwrap();
        assert_eq!(kept, super::images::tensor(&images).unwrap().narrow(0, 2, 9));
        let mut past = Collector::new(&network, Keep::default());
        assert!(past.push_dataset(&dataset, 8..12, 2, &mut crate::watch::unwatched).is_err());
    }

    #[test]
    fn missing_scores_and_missing_images_are_errors() {
        let network = network();
        let mut collector = Collector::new(&network, Keep { logits: true, ..Keep::default() });
        let images = Tensor::zeros([2, 1, 2, 2], (Kind::Uint8, Device::Cpu));
        assert!(collector.push(&images).unwrap_err().to_string().contains("no class scores"));
        assert!(Collector::new(&network, Keep::default()).finish().unwrap_err().to_string().contains("no images"));
    }
}
