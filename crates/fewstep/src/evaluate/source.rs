//! The images to measure: stored, or made from a model and a plan without touching the disk.

use std::cell::RefCell;
use std::ops::Range;

use fewstep_core::denoiser::Guidance;
use fewstep_core::observe::{Observer, Progress};
use fewstep_core::plan::Plan;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collected, Collector, Keep};
use fewstep_io::dataset::Dataset;
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::{Ranks, TorchDenoiser};
use serde::Serialize;

use crate::error::Result;
use crate::measure;
use crate::models::OpenModel;
use crate::sampling;
use crate::scorer::{extract_all, take_all};

/// Where the images to measure come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Files, or arrays in one.
    Stored {
        /// The images.
        dataset: &'a Dataset,
        /// What they are called.
        place: &'a str,
    },
    /// A model, whose samples are images or can be decoded into some.
    Sampled {
        /// The model.
        opened: &'a OpenModel,
        /// The sampler.
        plan: &'a Plan,
        /// What samples start from.
        latents: &'a sampling::Source,
    },
}

/// How images were made that were not there.
#[derive(Clone, Debug, Serialize)]
pub struct Sampled {
    /// SHA-256 of the model's file.
    pub model_sha256: String,
    /// Guidance, if there was any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
    /// The plan's solver.
    pub solver: String,
    /// Evaluations an image.
    pub nfe: usize,
    /// Network calls an image: more than evaluations under guidance.
    pub calls: usize,
    /// The class of all images, where there is one.
    pub class: Option<usize>,
    /// SHA-256 of the file that latents come from; none where they come from seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents_sha256: Option<String>,
}

impl Source<'_> {
    /// How many images there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Stored { dataset, .. } => dataset.len(),
            Self::Sampled { latents, .. } => latents.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where they come from, as it was named.
    pub fn place(&self) -> &str {
        match self {
            Self::Stored { place, .. } => place,
            Self::Sampled { opened, .. } => &opened.name,
        }
    }

    /// Channels, height and width.
    ///
    /// # Errors
    /// If a model's samples are no images and cannot be decoded.
    pub fn shape(&self) -> Result<[usize; 3]> {
        match self {
            Self::Stored { dataset, .. } => Ok(measure::shape_of(dataset)),
            Self::Sampled { opened, .. } => opened.pixel_shape(),
        }
    }

    /// The lowest and the highest of the numbers by which the images of a range are known: seeds, or places in the order of names or
    /// in the file of latents. Between two seeds there may be others.
    pub fn numbers(&self, range: &Range<usize>) -> [u64; 2] {
        match self {
            Self::Stored { .. } => [range.start as u64, range.end.saturating_sub(1) as u64],
            Self::Sampled { latents, .. } => latents.ends(range.clone()),
        }
    }

    /// How the images are made, if they are made now.
    pub fn sampled_by(&self) -> Option<Sampled> {
        match self {
            Self::Stored { .. } => None,
            Self::Sampled { opened, plan, latents } => Some(Sampled {
                model_sha256: opened.hash.clone(),
                guidance: opened.spec().guidance.clone(),
                solver: plan.solver.clone(),
                nfe: plan.nfe(),
                calls: plan.nfe() * opened.spec().calls,
                class: latents.class(),
                latents_sha256: latents.sha256().map(str::to_owned),
            }),
        }
    }

    /// What each feature network makes of a range of the images; `name` is what the observer is told.
    pub(super) fn collect(
        &self,
        range: Range<usize>,
        networks: &[Box<dyn FeatureNetwork>],
        keep: Keep,
        batch: usize,
        (name, observer, ranks): (&str, &dyn Observer, &Ranks),
    ) -> Result<Vec<Collected>> {
        let (denoiser, plan, latents) = match self {
            Self::Stored { dataset, .. } => {
                let of = |network: &dyn FeatureNetwork| {
                    measure::collect(dataset, range.clone(), network, keep, batch, (name, observer), ranks)
                };
                return networks.iter().map(|network| of(&**network)).collect();
            }
            Self::Sampled { opened, plan, latents } => (opened.denoiser(), *plan, *latents),
        };
        let collectors: Vec<_> = networks.iter().map(|network| Collector::new(&**network, keep)).collect();
        let collectors = RefCell::new(collectors);
        let mut progress = Progress::new(observer, name, "img", range.len() as u64, 0);
        let (first, all) = (range.start, range.collect::<Vec<usize>>());
        let extract = |indices: &[usize]| {
            let (samples, _) = latents.samples(denoiser, plan, indices, observer)?;
            let images = TorchDenoiser::pixels(denoiser, &samples)?.to_device(Device::Cpu);
            extract_all(&collectors.borrow(), &images, (indices[0] - first) as u64)
        };
        let take = |extracted: Vec<Tensor>| {
            let done = take_all(&mut collectors.borrow_mut(), extracted)?;
            progress.set(done, format!("{} evaluations each", plan.nfe()));
            Ok(())
        };
        ranks.in_order(all.chunks(batch), extract, take)?;
        progress.finish();
        Ok(collectors.into_inner().into_iter().map(Collector::finish).collect::<fewstep_eval::Result<_>>()?)
    }
}
