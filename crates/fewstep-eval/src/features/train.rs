//! Trains the small classifier: AdamW, one learning-rate cycle, shifts and flips.
//!
//! Batch normalisation makes a few epochs suffice. When training ends it is folded into the convolutions, so the saved
//! network is convolutions and ReLUs alone and an image's features do not depend on its batch.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fewstep_core::noise;
use fewstep_io::atomic::OutFile;
use fewstep_io::dataset::Images;
use fewstep_nn::random::{self, Purpose, Stream};
use fewstep_nn::tch::nn::{self, OptimizerConfig};
use fewstep_nn::tch::{self, Device, Kind, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::small::{SmallCnn, SmallCnnConfig, Weights};
use super::trainable::Trainable;
use super::{FeatureId, FeatureNetwork};
use crate::error::{Error, Result};
use crate::images;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainOptions {
    /// Fixes initialisation, order and augmentation: the same seed and thread count give the same weights.
    pub seed: u64,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// Peak of the learning-rate cycle.
    pub learning_rate: f64,
    /// Largest shift of an image, in pixels, each way.
    pub max_shift: usize,
    /// Whether to mirror every other image left to right.
    pub flip: bool,
    /// Type that the convolutions compute in while training; weights stay in f32. bf16 is three times as fast as f32 on
    /// processors with instructions for it.
    pub kind: Kind,
    /// Where to compute.
    pub device: Device,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 6,
            batch: 128,
            learning_rate: 4e-3,
            max_shift: 2,
            flip: true,
            kind: Kind::BFloat16,
            device: Device::Cpu,
        }
    }
}

/// Where training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps made.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Cross-entropy of the last step's batch, in nats.
    pub loss: f64,
}

/// What training gives.
#[derive(Debug)]
pub struct Trained {
    weights: Weights,
    /// Share of the test images that the folded network classifies rightly.
    pub test_accuracy: f64,
}

impl Trained {
    /// Writes the network with its test accuracy and `notes` in the metadata, and opens it from there.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save<'a>(&self, out: impl Into<OutFile<'a>>, notes: &BTreeMap<String, String>) -> Result<SmallCnn> {
        let out = out.into();
        let mut notes = notes.clone();
        notes.insert("test_accuracy".to_owned(), format!("{:.4}", self.test_accuracy));
        self.weights.save(out.clone(), &notes)?;
        SmallCnn::load(out.path(), Device::Cpu)
    }
}

/// Trains a classifier of `train`'s labels and measures it on `test`. `progress` is called after every step, and may end the training.
///
/// # Errors
/// If a set has no labels or no images, the two differ in channels, the loss stops being finite, or `progress` ends the training
/// ([`Error::Stopped`]).
pub fn train_classifier(
    train: &Images,
    test: &Images,
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained> {
    let (train, test) = (Labelled::new(train, "training")?, Labelled::new(test, "test")?);
    let channels = train.pixels.size()[1];
    if test.pixels.size()[1] != channels {
        return Err(Error::Input("the training and the test images differ in their number of channels".to_owned()));
    }
    let classes = train.labels.max().int64_value(&[]).max(test.labels.max().int64_value(&[])) + 1;
    let config = SmallCnnConfig::new(channels, classes);
    config.validate().map_err(Error::Input)?;
    let least = config.min_resolution();
    if [&train, &test].iter().any(|set| set.pixels.size()[2].min(set.pixels.size()[3]) < least) {
        return Err(Error::Input(format!("the images are too small for the classifier ({least}x{least} at least)")));
    }
    let store = nn::VarStore::new(options.device);
    let mut stream = Stream::new(options.seed, Purpose::ClassifierWeights, 0);
    let net = Trainable::new(&store.root(), config, &mut stream);
    fit(&net, &store, &train, options, progress)?;
    let weights = net.fold();
    let test_accuracy = accuracy(&weights, &test)?;
    Ok(Trained { weights, test_accuracy })
}

/// Images and their classes as tensors on the CPU.
struct Labelled {
    /// u8 `[N, C, H, W]`
    pixels: Tensor,
    /// i64 `[N]`
    labels: Tensor,
}

impl Labelled {
    fn new(set: &Images, which: &str) -> Result<Self> {
        let pixels = images::tensor(set)?;
        let labels = set
            .labels
            .as_ref()
            .ok_or_else(|| Error::Input(format!("the {which} images have no labels, and a classifier needs them")))?;
        if labels.len() as i64 != pixels.size()[0] {
            return Err(Error::Input(format!("{} labels for {} {which} images", labels.len(), pixels.size()[0])));
        }
        let labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        Ok(Self { pixels, labels: Tensor::from_slice(&labels) })
    }

    fn len(&self) -> usize {
        self.pixels.size()[0] as usize
    }
}

fn fit(
    net: &Trainable,
    store: &nn::VarStore,
    data: &Labelled,
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<()> {
    let mut optimiser = nn::AdamW { wd: 1e-2, ..Default::default() }.build(store, options.learning_rate)?;
    let batch = options.batch.clamp(1, data.len());
    // The rest of an epoch that fills no batch is left out: its normalisation would be noisier than the others'.
    let per_epoch = data.len() / batch;
    let steps = per_epoch * options.epochs;
    for step in 0..steps {
        let (epoch, start) = (step / per_epoch, step % per_epoch * batch);
        let order = random::permutation(options.seed, epoch as u64, data.len());
        let Some(indices) = order.get(start..start + batch) else { continue };
        let indices = Tensor::from_slice(indices);
        let mut rng = ChaCha12Rng::seed_from_u64(noise::mix(options.seed, (1 << 32) + step as u64));
        let images = augment(&data.pixels.index_select(0, &indices), options, &mut rng)?;
        let labels = data.labels.index_select(0, &indices).to_device(options.device);
        let features = net.features(&images.f_to_device(options.device)?, options.kind, true)?;
        let loss = net.scores(&features).cross_entropy_for_logits(&labels);
        optimiser.set_lr(options.learning_rate * cycle((step as f64 + 0.5) / steps as f64));
        optimiser.backward_step(&loss);
        let loss = loss.double_value(&[]);
        if !loss.is_finite() {
            return Err(Error::Input(format!(
                "the classifier's loss became {loss} at step {step}: lower its learning rate"
            )));
        }
        if progress(Progress { step: step + 1, steps, loss }).is_break() {
            return Err(Error::Stopped);
        }
    }
    Ok(())
}

/// One cycle: up from 1/25 to 1 over the first quarter, then down to 0, both along a cosine (Smith and Topin 2018).
fn cycle(done: f64) -> f64 {
    let ease = |t: f64| 0.5 - 0.5 * (std::f64::consts::PI * t).cos();
    if done < 0.25 { 0.04 + 0.96 * ease(done / 0.25) } else { 1.0 - ease((done - 0.25) / 0.75) }
}

/// Shifts each image by up to `max_shift` pixels, repeating its border, and mirrors every other one.
fn augment(images: &Tensor, options: &TrainOptions, rng: &mut ChaCha12Rng) -> Result<Tensor> {
    let size = images.size();
    let [n, h, w] = [size[0], size[2], size[3]];
    let shift = options.max_shift as i64;
    let (mut rows, mut columns) = (Vec::with_capacity((n * h) as usize), Vec::with_capacity((n * w) as usize));
    for _ in 0..n {
        let (dy, dx) = (rng.random_range(-shift..=shift), rng.random_range(-shift..=shift));
        let mirror = options.flip && rng.random::<bool>();
        rows.extend((0..h).map(|y| (y + dy).clamp(0, h - 1)));
        columns.extend((0..w).map(|x| (if mirror { w - 1 - x } else { x } + dx).clamp(0, w - 1)));
    }
    let rows = Tensor::from_slice(&rows).view([n, 1, h, 1]).expand(&size, false);
    let columns = Tensor::from_slice(&columns).view([n, 1, 1, w]).expand(&size, false);
    Ok(images.f_gather(2, &rows, false)?.f_gather(3, &columns, false)?)
}

fn accuracy(weights: &Weights, data: &Labelled) -> Result<f64> {
    let net = weights.network(FeatureId { name: String::new(), sha256: String::new() })?;
    let mut right = 0.0;
    for (images, labels) in data.pixels.split(500, 0).iter().zip(data.labels.split(500, 0)) {
        let logits = net.activations(images)?.logits;
        let logits = logits.ok_or_else(|| Error::Input("the classifier gives no scores".to_owned()))?;
        right += tch::no_grad(|| logits.argmax(1, false).eq_tensor(&labels).sum(Kind::Int64).double_value(&[]));
    }
    Ok(right / data.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes that a linear rule on 8x8 images separates: bright above or bright below.
    fn halves(count: usize, seed: u64) -> Images {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let labels: Vec<u32> = (0..count).map(|i| (i % 2) as u32).collect();
        let pixel = |label: u32, y: usize, rng: &mut ChaCha12Rng| {
            let bright = (y < 4) == (label == 0);
            rng.random_range(0..100u8) + if bright { 100 } else { 0 }
        };
        let data = labels
            .iter()
            .flat_map(|&label| (0..64).map(move |i| (label, i / 8)))
            .map(|(label, y)| pixel(label, y, &mut rng))
            .collect();
        Images::new(data, 1, 8, 8, Some(labels)).unwrap()
    }

    fn quick() -> TrainOptions {
        TrainOptions { epochs: 4, batch: 16, flip: true, max_shift: 1, ..Default::default() }
    }

    #[test]
    fn shifts_repeat_the_border() {
        let images = Tensor::arange(16, (Kind::Uint8, Device::Cpu)).view([1, 1, 4, 4]);
        let options = TrainOptions { max_shift: 2, flip: false, ..Default::default() };
        for seed in 0..20 {
            let shifted = augment(&images, &options, &mut ChaCha12Rng::seed_from_u64(seed)).unwrap();
            let rows = Vec::<u8>::try_from(shifted.select(3, 0).reshape([-1])).unwrap();
            assert!(rows.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 4), "{rows:?}");
        }
        assert_ne!(cycle(0.1), cycle(0.2));
        assert!((cycle(0.25) - 1.0).abs() < 1e-12 && cycle(1.0) < 1e-12);
    }

    #[test]
    fn sets_without_labels_or_of_other_channels_are_refused() {
        let good = halves(16, 1);
        let error = |train: &Images, test: &Images| {
            train_classifier(train, test, &quick(), &mut |_| ControlFlow::Continue(())).unwrap_err().to_string()
        };
        assert!(error(&Images { labels: None, ..good.clone() }, &good).contains("training images have no labels"));
        assert!(error(&Images { labels: Some(vec![0]), ..good.clone() }, &good).contains("1 labels for 16"));
        assert!(error(&Images { data: Vec::new(), ..good.clone() }, &good).contains("no images"));
    }
}
