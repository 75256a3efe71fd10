//! `fewstep eval`: the Frechet distance of images from a reference.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fewstep_core::plan::Plan;
use fewstep_eval::features::{FeatureId, FeatureNetwork};
use fewstep_eval::{Collector, FrechetReference, Keep, Statistics};
use fewstep_io::dataset::Dataset;
use fewstep_io::npz;
use serde::Serialize;

use crate::assets;
use crate::inputs::{
    Compute, FeatureArgs, LatentArgs, Latents, OpenModel, PlanArgs, has_extension, open_data, open_model,
};
use crate::measure;
use crate::pixels;
use crate::ui::{self, Output, Progress};

/// Arguments of `fewstep eval`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep eval samples/ --ref cifar10-32x32.npz --features pt_inception-2015-12-05-6726825d.pth\n  fewstep eval --model fashion-mnist --steps 8 --solver ipndm4 --seeds 0-4999"
)]
pub struct Args {
    /// Images: a folder, an npz file or any data set; or let --model make some
    #[arg(value_name = "IMAGES", required_unless_present = "model", conflicts_with = "model")]
    pub images: Option<PathBuf>,
    /// Measure images that this model makes: a file, or the name of the built-in one
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Compare with: statistics (.npz with mu and sigma) or a data set [default: the training images of Fashion-MNIST]
    #[arg(long = "ref", value_name = "PATH")]
    pub reference: Option<PathBuf>,
    /// Pad the images of data sets on both sides with zeros to squares of this size
    #[arg(long, value_name = "PIXELS")]
    pub pad_to: Option<usize>,
    /// Use at most so many of the images
    #[arg(long, value_name = "N")]
    pub max_images: Option<usize>,
    #[command(flatten)]
    pub features: FeatureArgs,
    #[command(flatten)]
    pub latents: LatentArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    #[command(flatten)]
    pub compute: Compute,
}

/// What a run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    frechet_distance: f64,
    images: u64,
    of: String,
    reference: String,
    reference_images: Option<u64>,
    features: String,
    features_sha256: String,
    dimensions: usize,
    #[serde(flatten)]
    sampled: Option<Sampled>,
}

/// How images were made that were not there.
#[derive(Debug, Serialize)]
struct Sampled {
    model_sha256: String,
    solver: String,
    nfe: usize,
    class: Option<i64>,
}

/// Where the images to measure come from.
enum Source {
    Stored { dataset: Dataset, place: String },
    Sampled { model: Box<OpenModel>, plan: Plan, latents: Latents },
}

/// Measures the distance.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let source = match (&args.model, &args.images) {
        (Some(name), _) => sampled(&args, open_model(name, device, kind)?)?,
        (None, Some(path)) => {
            let dataset = open_data(path, args.pad_to, args.max_images)?;
            Source::Stored { dataset, place: path.display().to_string() }
        }
        (None, None) => bail!("give images to measure, or a model to sample from with --model"),
    };
    let network = args.features.open(source.shape(), device)?;
    // The reference first: it is the side that can be wrong.
    let (reference, reference_name) = reference(&args, network.as_ref(), source.shape())?;
    FeatureId::check_same(Some(network.id()), reference.features.as_ref())?;
    let statistics = source.measure(network.as_ref(), args.latents.batch)?;
    let prepared = FrechetReference::new(&reference)?;
    let distance = prepared.distance(&statistics)?;
    if let Some(warning) = prepared.bias_warning(distance, statistics.num_images.unwrap_or_default()) {
        ui::note(format!("warning: {warning}"));
    }
    let (of, sampled) = source.provenance(&args);
    let outcome = Outcome {
        frechet_distance: distance,
        images: statistics.num_images.unwrap_or_default(),
        of,
        reference: reference_name,
        reference_images: reference.num_images,
        features: network.id().name.clone(),
        features_sha256: network.id().sha256.clone(),
        dimensions: reference.dim(),
        sampled,
    };
    output.result(&outcome, || in_words(&outcome))
}

fn in_words(outcome: &Outcome) -> String {
    let Outcome { frechet_distance, images, of, reference, features, features_sha256, dimensions, sampled, .. } =
        outcome;
    let sampled = sampled
        .as_ref()
        .map_or(String::new(), |Sampled { solver, nfe, .. }| format!(" by {solver}, {nfe} evaluations an image"));
    let short = features_sha256.get(..12).unwrap_or(features_sha256);
    let count = outcome.reference_images.map_or(String::new(), |count| format!(" ({count} images)"));
    format!(
        "Frechet distance {frechet_distance:.4}\n\
         images     {images} of {of}{sampled}\n\
         reference  {reference}{count}\n\
         features   {dimensions} of {features} (sha256 {short}...)"
    )
}

fn sampled(args: &Args, model: OpenModel) -> Result<Source> {
    ensure!(
        args.max_images.is_none() && args.pad_to.is_none(),
        "--max-images and --pad-to are for stored images: with --model, --seeds says how many"
    );
    let plan = args.plan.resolve(&model.model)?;
    let latents = args.latents.resolve(&model.model)?;
    Ok(Source::Sampled { model: Box::new(model), plan, latents })
}

impl Source {
    fn shape(&self) -> [usize; 3] {
        match self {
            Self::Stored { dataset, .. } => shape_of(dataset),
            Self::Sampled { model, .. } => model.model.image_shape().map(|size| size as usize),
        }
    }

    fn measure(&self, network: &dyn FeatureNetwork, batch: usize) -> Result<Statistics> {
        let (model, plan, latents) = match self {
            Self::Stored { dataset, .. } => return measure::of_dataset(dataset, network, batch, "images"),
            Self::Sampled { model, plan, latents } => (&model.model, plan, latents),
        };
        let mut collector = Collector::new(network, Keep::default());
        let mut progress = Progress::new("images", "img", latents.len() as u64, 0);
        let all: Vec<usize> = (0..latents.len()).collect();
        for indices in all.chunks(batch) {
            collector.push_sampled(&latents.images(model, plan, indices)?)?;
            progress.set(indices.last().map_or(0, |&last| last as u64 + 1), format!("{} evaluations each", plan.nfe()));
        }
        progress.finish();
        Ok(collector.finish()?.statistics)
    }

    fn provenance(self, args: &Args) -> (String, Option<Sampled>) {
        match self {
            Self::Stored { place, .. } => (place, None),
            Self::Sampled { model, plan, .. } => {
                let sampled = Sampled {
                    model_sha256: model.hash,
                    nfe: plan.nfe(),
                    solver: plan.solver,
                    class: args.latents.class,
                };
                (model.name, Some(sampled))
            }
        }
    }
}

fn shape_of(dataset: &Dataset) -> [usize; 3] {
    let (height, width) = dataset.resolution();
    [dataset.channels(), height, width]
}

/// The statistics to compare with and their name.
fn reference(args: &Args, network: &dyn FeatureNetwork, shape: [usize; 3]) -> Result<(Statistics, String)> {
    let Some(path) = &args.reference else {
        ensure!(args.features.features.is_none(), "with --features there is no default reference: give one with --ref");
        return Ok((assets::reference()?, format!("{} training images", assets::DATA_NAME)));
    };
    ensure!(path.exists(), "the reference {} does not exist: check the path", path.display());
    let name = path.display().to_string();
    let is_images = has_extension(path, "npz") && {
        let arrays = npz::read(path)?;
        arrays.contains_key("images") || arrays.contains_key("arr_0")
    };
    if has_extension(path, "npz") && !is_images {
        return Ok((Statistics::read(path)?, name));
    }
    let dataset = open_data(path, args.pad_to.filter(|_| !is_images), None)?;
    let found = shape_of(&dataset);
    ensure!(
        found == shape,
        "the images are {} but those of the reference {name} are {}: both sides must have one size and one number of channels \
         (--pad-to pads data sets)",
        pixels::words(shape),
        pixels::words(found)
    );
    let statistics = measure::of_dataset(&dataset, network, args.latents.batch, "reference")?;
    measure::warn_if_few(&statistics);
    Ok((statistics, name))
}
