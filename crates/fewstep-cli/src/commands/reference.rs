//! `fewstep ref`: what `eval` compares with.

use std::path::PathBuf;

use anyhow::Result;
use fewstep_eval::{Keep, Reference};
use serde::Serialize;

use crate::inputs::{DataArgs, DeviceArgs, FeatureArgs, check_extension, check_new_file};
use crate::measure;
use crate::ui::Output;

/// Arguments of `fewstep ref`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep ref --data cifar10.zip --features inception.safetensors --out cifar10-ref.npz\n  fewstep ref --data cifar10.zip --features inception.safetensors --keep-features --out ref.npz"
)]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub features: FeatureArgs,
    /// Where to: an npz file with mu, sigma and what they are of
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: PathBuf,
    /// Store every image's features as well, for kid, precision-recall and density-coverage (8 KiB an image with Inception)
    #[arg(long, help_heading = "Output")]
    pub keep_features: bool,
    /// Replace the file if it exists
    #[arg(long, help_heading = "Output")]
    pub overwrite: bool,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Compute")]
    pub batch: usize,
    #[command(flatten)]
    pub compute: DeviceArgs,
}

/// What a run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    out: String,
    images: usize,
    data: String,
    features: String,
    features_sha256: String,
    dimensions: usize,
    features_kept: bool,
}

/// Computes the statistics.
pub fn run(args: Args, output: Output) -> Result<()> {
    let device = args.compute.resolve()?;
    check_extension(&args.out, "npz")?;
    check_new_file(&args.out, args.overwrite)?;
    let dataset = args.data.open()?;
    let (height, width) = dataset.resolution();
    let network = args.features.open([dataset.channels(), height, width], device)?;
    let keep = Keep { features: args.keep_features, ..Keep::default() };
    let collected = measure::collect(&dataset, 0..dataset.len(), network.as_ref(), keep, args.batch, "reference")?;
    let reference = Reference::from_collected(dataset.name(), collected);
    reference.write(&args.out)?;
    measure::warn_if_few(&reference.statistics);
    let outcome = Outcome {
        out: args.out.display().to_string(),
        images: dataset.len(),
        data: dataset.name().to_owned(),
        features: network.id().name.clone(),
        features_sha256: network.id().sha256.clone(),
        dimensions: reference.statistics.dim(),
        features_kept: args.keep_features,
    };
    output.result(&outcome, || {
        format!(
            "{}: {} images of {}, {} features of {}",
            outcome.out,
            outcome.images,
            outcome.data,
            outcome.dimensions,
            network.id()
        )
    })
}
