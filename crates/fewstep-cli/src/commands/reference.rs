//! `fewstep ref`: what `eval` compares with.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep::measure;
use fewstep_eval::features::{Convention, inception};
use serde::Serialize;

use crate::inputs::{DataArgs, DeviceArgs, FeatureArgs, check_extension, check_new_file};
use crate::ranks;
use crate::ui::{self, Output, Terminal};

/// Arguments of `fewstep ref`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep ref --data cifar10.zip --features inception.safetensors --out cifar10-ref.npz\n  fewstep ref --data cifar10.zip --features inception.safetensors --keep-features --out ref.npz"
)]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    /// Use at most so many images
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_images: Option<usize>,
    #[command(flatten)]
    pub features: FeatureArgs,
    /// How Inception's images are resized: tf1 (EDM, torch-fidelity) or pytorch-fid
    #[arg(long, value_name = "NAME", default_value = "tf1", help_heading = "Features")]
    pub resize: String,
    /// Where to: an npz file with mu, sigma and what they are of
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: PathBuf,
    /// Store every image's features as well: kid, precision-recall and density-coverage need them
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
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let device = args.compute.resolve()?;
    check_extension(&args.out, "npz")?;
    let out = check_new_file(&args.out, args.overwrite)?;
    let dataset = args.data.open(args.max_images)?;
    let resize = Convention::parse(&args.resize)?;
    let network = args.features.options(resize).open(measure::shape_of(&dataset), device)?;
    ensure!(
        resize == Convention::default() || network.id().name.starts_with(inception::NAME),
        "--resize is for Inception, and {} does not resize images so: leave it out",
        network.id().name
    );
    let ranks = ranks::join()?;
    let reference = measure::reference(&dataset, network.as_ref(), args.keep_features, args.batch, terminal, &ranks)?;
    if ranks.is_first() {
        reference.write(out)?;
    }
    if let Some(warning) = measure::few_images(&reference.statistics) {
        ui::note(warning);
    }
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
