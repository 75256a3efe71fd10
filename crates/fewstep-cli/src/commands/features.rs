//! `fewstep features`: a small classifier whose last hidden layer gives features.

use std::path::PathBuf;

use anyhow::Result;
use fewstep::data::open_data;
use fewstep::feature_training::{FeatureTrainSettings, FeatureTraining, train_features};
use serde::Serialize;

use crate::inputs::{Compute, DataArgs, check_extension, check_new_file};
use crate::ui::{self, Output, Terminal};

/// Arguments of `fewstep features`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fewstep features --data train-images-idx3-ubyte.gz --test t10k-images-idx3-ubyte.gz --pad-to 32 --out features.safetensors"
)]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    /// Use at most so many images
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_images: Option<usize>,
    /// Labelled images to test on [default: a tenth of --data, kept out of the training]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub test: Option<PathBuf>,
    /// Where to: a .safetensors file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: PathBuf,
    /// Replace the file if it exists
    #[arg(long, help_heading = "Output")]
    pub overwrite: bool,

    /// Passes over the training images
    #[arg(long, value_name = "N", default_value_t = FeatureTrainSettings::default().epochs, help_heading = "Training")]
    pub epochs: usize,
    /// Images an update
    #[arg(long, value_name = "N", default_value_t = FeatureTrainSettings::default().batch, help_heading = "Training")]
    pub batch: usize,
    /// Highest learning rate of the cycle
    #[arg(long, value_name = "RATE", default_value_t = FeatureTrainSettings::default().learning_rate, help_heading = "Training")]
    pub lr: f64,
    /// Shift images by up to so many pixels
    #[arg(long, value_name = "PIXELS", default_value_t = FeatureTrainSettings::default().max_shift, help_heading = "Training")]
    pub max_shift: usize,
    /// Do not mirror images
    #[arg(long, help_heading = "Training")]
    pub no_flip: bool,
    /// Seed of weights, order and shifts
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Training")]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
}

/// What a run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    out: String,
    #[serde(flatten)]
    training: FeatureTraining,
}

/// Trains, tests and saves the network.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let place = args.compute.resolve()?;
    check_extension(&args.out, "safetensors")?;
    let out = check_new_file(&args.out, args.overwrite)?;
    let data = args.data.open(args.max_images)?;
    let test = args.test.as_ref().map(|path| open_data(path, args.data.pad_to, None)).transpose()?;
    let settings = FeatureTrainSettings {
        epochs: args.epochs,
        batch: args.batch,
        learning_rate: args.lr,
        max_shift: args.max_shift,
        flip: !args.no_flip,
        seed: args.seed,
    };
    let training = train_features(&data, test.as_ref(), out, &settings, place, terminal)?;
    if training.is_poor() {
        ui::note(format!(
            "warning: guessing would be right on {:.0} % of the test images: distances between such features mean little; \
             train longer (--epochs), or on more images",
            100.0 * training.chance
        ));
    }
    let outcome = Outcome { out: args.out.display().to_string(), training };
    output.result(&outcome, || {
        let Outcome { out, training } = &outcome;
        let FeatureTraining { test_accuracy, training_images, test_images, .. } = training;
        let accuracy = 100.0 * test_accuracy;
        format!("{out}: trained on {training_images} images, right on {accuracy:.2}% of {test_images} test images")
    })
}
