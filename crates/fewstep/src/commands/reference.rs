//! `fewstep ref`: what `eval` compares with.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::inputs::{DataArgs, DeviceArgs, FeatureArgs, check_extension, check_new_file};
use crate::measure;
use crate::ui::Output;

/// Arguments of `fewstep ref`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fewstep ref --data cifar10.zip --features inception.safetensors --out cifar10-ref.npz"
)]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub features: FeatureArgs,
    /// Where to: an npz file with mu, sigma and what they are of
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: PathBuf,
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
}

/// Computes the statistics.
pub fn run(args: Args, output: Output) -> Result<()> {
    let device = args.compute.resolve()?;
    check_extension(&args.out, "npz")?;
    check_new_file(&args.out, args.overwrite)?;
    let dataset = args.data.open()?;
    let (height, width) = dataset.resolution();
    let network = args.features.open([dataset.channels(), height, width], device)?;
    let statistics = measure::of_dataset(&dataset, network.as_ref(), args.batch, "reference")?;
    statistics.write(&args.out)?;
    measure::warn_if_few(&statistics);
    let outcome = Outcome {
        out: args.out.display().to_string(),
        images: dataset.len(),
        data: dataset.name().to_owned(),
        features: network.id().name.clone(),
        features_sha256: network.id().sha256.clone(),
        dimensions: statistics.dim(),
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
