//! Training a small classifier whose last hidden layer gives features.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fewstep_core::observe::{Observer, Progress};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::features::train::{TrainOptions, train_classifier};
use fewstep_io::atomic::OutFile;
use fewstep_io::dataset::{Dataset, Images};
use fewstep_nn::tch::{Device, Kind};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result, ensure};

/// Without a test set, every so many-th image is kept for the test.
const HELD_OUT: usize = 10;

/// How a feature network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureTrainSettings {
    /// Passes over the training images, from 1 to a million.
    pub epochs: usize,
    /// Images an update.
    pub batch: usize,
    /// Highest learning rate of the cycle.
    pub learning_rate: f64,
    /// Images are shifted by up to so many pixels.
    pub max_shift: usize,
    /// Whether images are mirrored at random.
    pub flip: bool,
    /// Seed of weights, order and shifts.
    pub seed: u64,
}

impl Default for FeatureTrainSettings {
    fn default() -> Self {
        let TrainOptions { seed, epochs, batch, learning_rate, max_shift, flip, .. } = TrainOptions::default();
        Self { epochs, batch, learning_rate, max_shift, flip, seed }
    }
}

/// Epochs at most: more are a slip of the hand.
const MOST_EPOCHS: usize = 1_000_000;

impl FeatureTrainSettings {
    /// As the training of images of this height and width takes them.
    fn options(&self, (height, width): (usize, usize), device: Device, kind: Kind) -> Result<TrainOptions> {
        let Self { epochs, batch, learning_rate, max_shift, flip, seed } = *self;
        ensure!(batch > 0, "the batch must be at least 1");
        ensure!((1..=MOST_EPOCHS).contains(&epochs), "the epochs must be from 1 to a million, and not {epochs}");
        let positive = learning_rate.is_finite() && learning_rate > 0.0;
        ensure!(positive, "the learning rate must be a positive number, not {learning_rate}");
        ensure!(
            max_shift < height.min(width),
            "images of {width}x{height} pixels cannot be shifted by up to {max_shift}: nothing of them would be left; \
             take a shift below {}",
            height.min(width)
        );
        Ok(TrainOptions { seed, epochs, batch, learning_rate, max_shift, flip, kind, device })
    }
}

/// What a training of features came to.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureTraining {
    /// SHA-256 of the network's file.
    pub sha256: String,
    /// Share of the test images that it classifies rightly.
    pub test_accuracy: f64,
    /// Images that it was trained on.
    pub training_images: usize,
    /// Images that it was tested on.
    pub test_images: usize,
    /// Share of the test images that guessing would classify rightly.
    pub chance: f64,
}

impl FeatureTraining {
    /// Whether the network is hardly better than guessing: distances between such features mean little.
    pub fn is_poor(&self) -> bool {
        self.test_accuracy < 2.0 * self.chance.min(0.45)
    }
}

/// Trains a classifier of `data`'s labels, tests it on `test` (or on one image of every ten of `data`, kept out of the training), and
/// writes it to `out`, a .safetensors file.
///
/// # Errors
/// If there are no labels, the images do not fit each other, the training diverges, the observer asks for the end, or the file cannot
/// be written.
pub fn train_features(
    data: &Dataset,
    test: Option<&Dataset>,
    out: OutFile,
    settings: &FeatureTrainSettings,
    (device, kind): (Device, Kind),
    observer: &dyn Observer,
) -> Result<FeatureTraining> {
    let options = settings.options(data.resolution(), device, kind)?;
    let (train, test) = match test {
        Some(test) => (data.load_all()?, test.load_all()?),
        None => split(data)?,
    };
    let steps = settings.epochs * (train.len() / settings.batch.clamp(1, train.len().max(1)));
    let mut progress = Progress::new(observer, "features", "steps", steps as u64, 0);
    let trained = train_classifier(&train, &test, &options, &mut |at| {
        progress.set(at.step as u64, format!("loss {:.4}", at.loss));
        if observer.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.finish();
    let notes = BTreeMap::from([
        ("data".to_owned(), data.name().to_owned()),
        ("data_sha256".to_owned(), data.fingerprint()?),
        ("training".to_owned(), format!("{} images, {} epochs, seed {}", train.len(), settings.epochs, settings.seed)),
    ]);
    let network = trained.save(out, &notes)?;
    Ok(FeatureTraining {
        sha256: network.id().sha256.clone(),
        test_accuracy: trained.test_accuracy,
        training_images: train.len(),
        test_images: test.len(),
        chance: 1.0 / data.num_classes().max(1) as f64,
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
