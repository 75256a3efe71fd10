//! `fewstep features`: a small classifier whose last hidden layer gives features.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::features::train::{TrainOptions, train_classifier};
use fewstep_io::dataset::{Dataset, Images};
use serde::Serialize;

use crate::inputs::{Compute, DataArgs, check_extension, check_new_file, open_data};
use crate::ui::{self, Output, Progress};

/// Without a test set, every so many-th image is kept for the test.
const HELD_OUT: usize = 10;

/// Arguments of `fewstep features`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fewstep features --data train-images-idx3-ubyte.gz --test t10k-images-idx3-ubyte.gz --pad-to 32 --out features.safetensors"
)]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    /// Labelled images to test on [default: one image of every ten of --data, kept out of the training]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub test: Option<PathBuf>,
    /// Where to: a .safetensors file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: PathBuf,
    /// Replace the file if it exists
    #[arg(long, help_heading = "Output")]
    pub overwrite: bool,

    /// Passes over the training images
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().epochs, help_heading = "Training")]
    pub epochs: usize,
    /// Images an update
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().batch, help_heading = "Training")]
    pub batch: usize,
    /// Highest learning rate of the cycle
    #[arg(long, value_name = "RATE", default_value_t = TrainOptions::default().learning_rate, help_heading = "Training")]
    pub lr: f64,
    /// Shift images by up to so many pixels
    #[arg(long, value_name = "PIXELS", default_value_t = TrainOptions::default().max_shift, help_heading = "Training")]
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
    sha256: String,
    test_accuracy: f64,
    training_images: usize,
    test_images: usize,
}

/// Trains, tests and saves the network.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    ensure!(args.batch > 0 && args.epochs > 0, "--batch and --epochs must be at least 1");
    ensure!(args.lr.is_finite() && args.lr > 0.0, "--lr must be a positive number");
    check_extension(&args.out, "safetensors")?;
    check_new_file(&args.out, args.overwrite)?;
    let data = args.data.open()?;
    let (train, test) = match &args.test {
        Some(path) => (data.load_all()?, open_data(path, args.data.pad_to, None)?.load_all()?),
        None => split(&data)?,
    };
    let options = TrainOptions {
        seed: args.seed,
        epochs: args.epochs,
        batch: args.batch,
        learning_rate: args.lr,
        max_shift: args.max_shift,
        flip: !args.no_flip,
        kind,
        device,
    };
    let steps = args.epochs * (train.len() / args.batch.clamp(1, train.len().max(1)));
    let mut progress = Progress::new("features", "steps", steps as u64, 0);
    let trained = train_classifier(&train, &test, &options, &mut |at| {
        progress.set(at.step as u64, format!("loss {:.4}", at.loss))
    })?;
    progress.finish();
    let notes = BTreeMap::from([
        ("data".to_owned(), data.name().to_owned()),
        ("data_sha256".to_owned(), data.fingerprint()?),
        ("training".to_owned(), format!("{} images, {} epochs, seed {}", train.len(), args.epochs, args.seed)),
    ]);
    let network = trained.save(&args.out, &notes)?;
    let chance = 1.0 / data.num_classes().max(1) as f64;
    if trained.test_accuracy < 2.0 * chance.min(0.45) {
        ui::note(format!(
            "warning: guessing would be right on {:.0} % of the test images: distances between such features mean little; \
             train longer (--epochs), or on more images",
            100.0 * chance
        ));
    }
    let outcome = Outcome {
        out: args.out.display().to_string(),
        sha256: network.id().sha256.clone(),
        test_accuracy: trained.test_accuracy,
        training_images: train.len(),
        test_images: test.len(),
    };
    output.result(&outcome, || {
        let Outcome { out, test_accuracy, training_images, test_images, .. } = &outcome;
        let accuracy = 100.0 * test_accuracy;
        format!("{out}: trained on {training_images} images, right on {accuracy:.2}% of {test_images} test images")
    })
}

/// Training and test images of one data set.
fn split(data: &Dataset) -> Result<(Images, Images)> {
    let all = data.load_all()?;
    let labels = all.labels.as_deref();
    let labels =
        labels.with_context(|| format!("the data set {} has no labels, and a classifier needs them", data.name()))?;
    ensure!(
        all.len() >= HELD_OUT,
        "the data set {} has {} images, too few to keep some for a test: give --test",
        data.name(),
        all.len()
    );
    let part = |held_out: bool| {
        let chosen = (0..all.len()).filter(|&index| is_test(index) == held_out);
        let (mut pixels, mut classes) = (Vec::new(), Vec::new());
        for index in chosen {
            pixels.extend_from_slice(all.image(index).unwrap_or_default());
            classes.extend(labels.get(index).copied());
        }
        Images::new(pixels, all.channels, all.height, all.width, Some(classes))
    };
    Ok((part(false)?, part(true)?))
}

/// One image of every ten, a place earlier in each: of data whose classes take turns, every tenth would be one class.
fn is_test(index: usize) -> bool {
    (index + index / HELD_OUT) % HELD_OUT == HELD_OUT - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_images_are_a_tenth_of_every_class_sorted_or_in_turns() {
        let classes: [fn(usize) -> usize; 2] = [|index| index / 100, |index| index % 10];
        for class in classes {
            let mut counts = [0; 10];
            (0..1000).filter(|&index| is_test(index)).for_each(|index| counts[class(index)] += 1);
            assert_eq!(counts, [10; 10]);
        }
    }
}
