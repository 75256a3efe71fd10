//! The images to measure: stored, or made from a model and a plan without touching the disk.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use fewstep_core::plan::Plan;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Collected, Collector, Keep, Protocol};
use fewstep_io::dataset::Dataset;
use fewstep_nn::tch::{Device, Kind};
use serde::Serialize;

use super::Args;
use crate::inputs::{Latents, Numbers, OpenModel, open_data, open_model};
use crate::measure;
use crate::ui::Progress;

/// Where the images to measure come from.
pub enum Source {
    /// Files, or arrays in one.
    Stored { dataset: Dataset, place: String },
    /// A model.
    Sampled { model: Box<OpenModel>, plan: Plan, latents: Latents, class: Option<i64> },
}

/// How images were made that were not there.
#[derive(Debug, Serialize)]
pub struct Sampled {
    pub model_sha256: String,
    pub solver: String,
    pub nfe: usize,
    pub class: Option<i64>,
}

impl Source {
    /// Opens what was typed.
    pub fn open(args: &Args, protocol: Option<&Protocol>, device: Device, kind: Kind) -> Result<Self> {
        match (&args.model, &args.images) {
            (Some(name), _) => Self::sampled(args, protocol, open_model(name, device, kind)?),
            (None, Some(path)) => {
                let dataset = open_data(path, args.pad_to, args.max_images)?;
                Ok(Self::Stored { dataset, place: path.display().to_string() })
            }
            (None, None) => bail!("give images to measure, or a model to sample from with --model"),
        }
    }

    fn sampled(args: &Args, protocol: Option<&Protocol>, model: OpenModel) -> Result<Self> {
        ensure!(
            args.max_images.is_none() && args.pad_to.is_none(),
            "--max-images and --pad-to are for stored images: with --model, --seeds says how many"
        );
        let plan = args.plan.resolve(&model)?;
        let mut latents = args.latents.clone();
        if let Some(protocol) = protocol {
            latents.seeds = Numbers(protocol.seed_ranges().flatten().collect());
        }
        let class = latents.class;
        Ok(Self::Sampled { plan, latents: latents.resolve(&model.model)?, class, model: Box::new(model) })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Stored { dataset, .. } => dataset.len(),
            Self::Sampled { latents, .. } => latents.len(),
        }
    }

    /// Where they come from, as it was typed.
    pub fn place(&self) -> &str {
        match self {
            Self::Stored { place, .. } => place,
            Self::Sampled { model, .. } => &model.name,
        }
    }

    /// Channels, height and width.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Stored { dataset, .. } => shape_of(dataset),
            Self::Sampled { model, .. } => model.model.image_shape().map(|size| size as usize),
        }
    }

    /// The first and the last image of a range under the numbers by which they are known: seeds, or places in the order of
    /// names.
    pub fn numbers(&self, range: &Range<usize>) -> [u64; 2] {
        let last = range.end.saturating_sub(1);
        match self {
            Self::Stored { .. } => [range.start as u64, last as u64],
            Self::Sampled { latents, .. } => [latents.number(range.start), latents.number(last)],
        }
    }

    /// What the network makes of a range of the images; `name` stands before the progress bar.
    pub fn collect(
        &self,
        range: Range<usize>,
        network: &dyn FeatureNetwork,
        keep: Keep,
        batch: usize,
        name: &str,
    ) -> Result<Collected> {
        let (model, plan, latents) = match self {
            Self::Stored { dataset, .. } => return measure::collect(dataset, range, network, keep, batch, name),
            Self::Sampled { model, plan, latents, .. } => (&model.model, plan, latents),
        };
        let mut collector = Collector::new(network, keep);
        let mut progress = Progress::new(name, "img", range.len() as u64, 0);
        let all: Vec<usize> = range.collect();
        for indices in all.chunks(batch) {
            collector.push_sampled(&latents.images(model, plan, indices)?)?;
            progress.set(collector.count(), format!("{} evaluations each", plan.nfe()));
        }
        progress.finish();
        Ok(collector.finish()?)
    }

    /// How the images were made, if they were made now.
    pub fn sampled_by(&self) -> Option<Sampled> {
        match self {
            Self::Stored { .. } => None,
            Self::Sampled { model, plan, class, .. } => Some(Sampled {
                model_sha256: model.hash.clone(),
                nfe: plan.nfe(),
                solver: plan.solver.clone(),
                class: *class,
            }),
        }
    }
}

/// Channels, height and width of a data set's images.
pub fn shape_of(dataset: &Dataset) -> [usize; 3] {
    let (height, width) = dataset.resolution();
    [dataset.channels(), height, width]
}
