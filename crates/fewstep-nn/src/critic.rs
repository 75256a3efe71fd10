//! A critic: it learns to tell a student's images from those that they should look like, while the student learns to be taken for
//! them.
//!
//! A regression leaves out what it cannot predict, and its images are smooth. A critic tells that they are. Its features are
//! those of the encoder of the network itself, before it was tuned, of images with a little noise: a network that removes noise
//! knows at every scale what images look like (Lin et al. 2024, Sauer et al. 2024, Yin et al. 2024). Only small heads on these features
//! learn.

use std::cell::RefCell;

use fewstep_core::group::Group;
use tch::{Device, Kind, Tensor};

use crate::adam::{Adam, AdamConfig};
use crate::error::{Error, Result};
use crate::flat::FlatWeights;
use crate::params::{Builder, Init, InitMode, Origin};
use crate::random::{Purpose, Stream};
use crate::ranks::Ranks;
use crate::tunable::{Encoder, Tunable};
use crate::unet::Conditions;

/// Channels of a head's hidden layers.
const HIDDEN: i64 = 32;

/// Kernels and strides of a head's convolutions; all but the last have a leaky ReLU, which leaves a score for every second place of
/// every second row.
const LAYERS: [(i64, i64); 3] = [(1, 1), (3, 2), (1, 1)];

/// Steep heads are held back: weight of the squared slope of the sum of an image's scores, divided by the number of places, the mean over
/// resolutions. It counts in the first update of a round, with the weight of all of them, as a slope's slope is dear (Karras et al. 2020).
const SLOPE_WEIGHT: f64 = 3e-2;

/// The heads' own learning rate; it never falls, as the student never stops changing.
const LEARNING_RATE: f64 = 1e-3;

/// With less memory than usual, as what is to be told apart moves.
const ADAM: AdamConfig = AdamConfig { beta1: 0.5, beta2: 0.99, eps: 1e-8 };

/// Updates of the heads in a round, each on images of its own.
const UPDATES: u64 = 2;

/// Images are seen under noise of levels between these, log-uniform, in units of sigma_data: with little every detail shows, with
/// much only what is large.
const NOISE: [f64; 2] = [0.04, 2.0];

/// One image in so many of a batch is shown to a critic: updates are many, and the encoder is what costs.
const SHOWN_ONE_IN: usize = 3;

/// How many of a batch's first so many images are shown to a critic.
pub fn shown_images(images: usize) -> usize {
    images.div_ceil(SHOWN_ONE_IN)
}

/// Which of the images of a batch from `first` on, so many, are shown to a critic: their places among these.
pub fn shown_of(first: usize, images: usize) -> Vec<i64> {
    (0..images).filter(|place| (first + place).is_multiple_of(SHOWN_ONE_IN)).map(|place| place as i64).collect()
}

/// Images and what they are of.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// `[N, C, H, W]`.
    pub images: &'a Tensor,
    /// `[N, label_dim]`, for class-conditional networks.
    pub class_labels: Option<&'a Tensor>,
}

/// Heads on a network's encoder, with what trains them.
#[derive(Debug)]
pub struct Critic {
    /// The network's, before it is tuned.
    encoder: Box<dyn Encoder>,
    device: Device,
    /// Least and greatest noise level of the images, within what the network knows.
    noise_range: [f64; 2],
    /// Weight and bias of every convolution, for each of its encoder's resolutions.
    heads: Vec<Vec<[Tensor; 2]>>,
    weights: FlatWeights,
    adam: Adam,
    /// What was compared since the last round: of every resolution, `[N, 2, c, h, w]` maps of images and of those that they should
    /// look like.
    seen: RefCell<Vec<Vec<Tensor>>>,
}

impl Critic {
    /// One that knows nothing yet, on the encoder of `network` as it is now; its weights follow from `seed`.
    ///
    /// # Errors
    /// If the network has no encoder, or cannot be copied.
    pub fn new(network: &impl Tunable, seed: u64) -> Result<Self> {
        let (encoder, device, spec) = (network.encoder()?, network.device(), network.spec());
        let shape: Vec<i64> = std::iter::once(1).chain(spec.shape.iter().map(|size| *size as i64)).collect();
        let blank = Tensor::f_zeros(shape.as_slice(), (Kind::Float, device))?;
        let maps = tch::no_grad(|| encoder.encoded(&blank, &Tensor::from(1.0), &Conditions::default()))?;
        let mut builder = Builder::new(Origin::Fresh(Stream::new(seed, Purpose::CriticWeights, 0)), device);
        let mut heads = Vec::new();
        for (place, map) in maps.iter().enumerate() {
            let mut head = Vec::new();
            let mut c_in = map.size()[1];
            for (layer, (kernel, _)) in LAYERS.into_iter().enumerate() {
                let last = layer + 1 == LAYERS.len();
                let c_out = if last { 1 } else { HIDDEN };
                // He et al. 2015 for what a ReLU follows; the scores begin near 0
                let init = Init::new(InitMode::KaimingNormal, if last { 0.1 } else { std::f64::consts::SQRT_2 });
                let fan = (c_in * kernel * kernel, c_out * kernel * kernel);
                let name = format!("{place}.{layer}");
                let weight = builder.weight(&format!("{name}.weight"), &[c_out, c_in, kernel, kernel], fan, init)?;
                head.push([weight, builder.weight(&format!("{name}.bias"), &[c_out], fan, init)?]);
                c_in = c_out;
            }
            heads.push(head);
        }
        let weights = FlatWeights::new(&builder.finish()?);
        let adam = Adam::new(ADAM, &weights.values);
        let (sigma_data, (low, high)) = (network.parameterisation().sigma_data(), spec.levels.supported);
        let noise_range = NOISE.map(|level| (level * sigma_data).clamp(low, high));
        Ok(Self { encoder, device, noise_range, heads, weights, adam, seen: RefCell::default() })
    }

    /// What the encoder makes of images under `noise` times `levels`, every place of every map of unit mean square (a map of one
    /// channel, of which that would leave the sign, is as it is).
    fn maps(&self, shown: Shown, noise: &Tensor, levels: &Tensor) -> Result<Vec<Tensor>> {
        let conditions = Conditions { class_labels: shown.class_labels, ..Conditions::default() };
        let noise = noise.f_mul(&levels.f_reshape([-1, 1, 1, 1])?)?;
        let noised = shown.images.f_to_kind(Kind::Float)?.f_add(&noise)?;
        let maps = self.encoder.encoded(&noised, levels, &conditions)?;
        let unit = |map: Tensor| match map.size()[1] {
            1 => Ok(map),
            _ => {
                let square = map.f_square()?.f_mean_dim(&[1][..], true, Kind::Float)?;
                Ok(map.f_div(&square.f_add_scalar(1e-6)?.f_sqrt()?)?)
            }
        };
        maps.into_iter().map(unit).collect()
    }

    /// How much every place of the maps looks as it should, `[N, 1, h, w]` each: only differences mean anything.
    fn scores(&self, maps: &[Tensor]) -> Result<Vec<Tensor>> {
        let score = |(map, head): (&Tensor, &Vec<[Tensor; 2]>)| {
            let mut x = map.shallow_clone();
            for (layer, ([weight, bias], (kernel, stride))) in head.iter().zip(LAYERS).enumerate() {
                let pad = (kernel - 1) / 2;
                x = x.f_conv2d(weight, Some(bias), [stride, stride], [pad, pad], [1, 1], 1)?;
                if layer + 1 < LAYERS.len() {
                    x = x.f_leaky_relu()?;
                }
            }
            Ok(x)
        };
        maps.iter().zip(&self.heads).map(score).collect()
    }

    /// How much less the images `found` look as they should than `wanted` do: `log(1 + exp(s(wanted) - s(found)))`, the mean over
    /// places, images and resolutions (the relativistic loss of Jolicoeur-Martineau 2019). `log 2` where they cannot be told apart.
    /// Both are seen under the same noise, drawn from `stream`; what was seen, a map of every resolution, is kept for
    /// [`Critic::learn`].
    ///
    /// # Errors
    /// If there are not as many images of the same shape.
    pub fn distance(&self, found: Shown, wanted: Shown, stream: &mut Stream) -> Result<Tensor> {
        let shapes = [found, wanted].map(|shown| shown.images.size());
        if shapes[0] != shapes[1] {
            return Err(Error::Input(format!(
                "a critic cannot compare images {:?} with images {:?}",
                shapes[0], shapes[1]
            )));
        }
        let device = self.device;
        let [low, high] = self.noise_range.map(f64::ln);
        let levels = (stream.uniform(&[found.images.size()[0]], device) * (high - low) + low).exp();
        let noise = stream.normal(&found.images.size(), device);
        let found = self.maps(found, &noise, &levels)?;
        let wanted = tch::no_grad(|| self.maps(wanted, &noise, &levels))?;
        let distance = lost(&self.scores(&found)?, &tch::no_grad(|| self.scores(&wanted))?);
        let pairs = found.iter().zip(&wanted).map(|(found, wanted)| Tensor::f_stack(&[&found.detach(), wanted], 1));
        self.seen.borrow_mut().push(pairs.collect::<std::result::Result<_, _>>()?);
        distance
    }

    /// Forgets what was compared since the last round.
    pub(crate) fn forget(&mut self) {
        self.seen.take();
    }

    /// A round: a few updates towards telling apart what was compared since the last one, with the slopes kept small (Mescheder et al.
    /// 2018; with the relativistic loss, Huang et al. 2024), the graph of one comparison alive at a time. Returns the mean loss before
    /// the last update, without the slopes': `log 2` for one that cannot tell. Of the processes `ranks` each has compared some, and all
    /// learn from all of them.
    ///
    /// # Errors
    /// If the loss is not finite; that update is not made, one before it stays.
    pub fn learn(&mut self, ranks: &Ranks) -> Result<f64> {
        let seen = self.seen.take();
        let mut loss = std::f64::consts::LN_2;
        let own: i64 = seen.iter().map(|pairs| count(pairs)).sum();
        let all: Vec<i64> = ranks.gather(&[own as f64])?.concat().iter().map(|count| *count as i64).collect();
        let (first, total): (i64, i64) = (all[..ranks.rank()].iter().sum(), all.iter().sum());
        let updates = if total == 0 { 0 } else { UPDATES };
        for update in 0..updates {
            let (mut sum, mut gradient) = (0.0, self.weights.values.zeros_like());
            let (mut before, mut own) = (first, 0);
            for pairs in &seen {
                let share = share(pairs, update as i64 - before, total);
                before += count(pairs);
                let images = count(&share);
                if images > 0 {
                    let (loss, slope) = self.round(&share, update)?;
                    sum += loss * images as f64;
                    gradient += slope * images as f64;
                    own += images;
                }
            }
            ranks.sum(&mut gradient)?;
            let sums = ranks.gather(&[sum, own as f64])?;
            let [sum, own] = [0, 1].map(|at| sums.iter().map(|sums| sums[at]).sum::<f64>());
            gradient /= own;
            loss = sum / own;
            if !loss.is_finite() || gradient.isfinite().all().int64_value(&[]) == 0 {
                let advice = "the update was not made; give the critic less weight, or do without".to_owned();
                let (what, iteration) = ("the critic's loss or its gradient", self.adam.step);
                let value = if loss.is_finite() { f64::NAN } else { loss };
                return Err(Error::Diverged { what, value, iteration, level: String::new(), advice });
            }
            self.adam.update(&mut self.weights.values, &gradient, LEARNING_RATE);
        }
        Ok(loss)
    }

    /// The loss of an update's share of a comparison, and the gradient of it, in the first update with the slopes' penalty.
    fn round(&self, pairs: &[Tensor], update: u64) -> Result<(f64, Tensor)> {
        let leaf = |pairs: &Tensor| pairs.flatten(0, 1).detach().set_requires_grad(true);
        let maps: Vec<Tensor> = pairs.iter().map(leaf).collect();
        let scores = self.scores(&maps)?;
        let of = |side: i64| scores.iter().map(|scores| scores.slice(0, side, None, 2)).collect::<Vec<Tensor>>();
        let mut loss = lost(&of(1), &of(0))?; // the student's is the other way round
        let value = loss.double_value(&[]);
        if update > 0 {
            return Ok((value, self.weights.gradient(&loss)?));
        }
        let sum: Tensor = scores.iter().map(|scores| scores.sum(Kind::Float)).sum();
        let slopes = Tensor::f_run_backward(&[&sum], &maps, true, true)?;
        let squares = slopes.iter().zip(&scores).map(|(slope, scores)| {
            slope.square().sum(Kind::Float) / (scores.numel() / 2) as f64 // one of both sides, as the loss is
        });
        loss += squares.sum::<Tensor>() * (UPDATES as f64 * SLOPE_WEIGHT / 2.0 / maps.len() as f64);
        Ok((value, self.weights.gradient(&loss)?))
    }

    /// Says that so many rounds led here.
    pub(crate) fn set_rounds(&mut self, rounds: u64) {
        self.adam.step = rounds * UPDATES;
    }

    /// Everything that the next round depends on beside their number.
    pub(crate) fn vectors(&mut self) -> [(&'static str, &mut Tensor); 3] {
        [
            ("critic.weights", &mut self.weights.values),
            ("critic.adam.mean", &mut self.adam.mean),
            ("critic.adam.square", &mut self.adam.square),
        ]
    }
}

/// How many images a comparison is of.
fn count(pairs: &[Tensor]) -> i64 {
    pairs.first().map_or(0, |pairs| pairs.size()[0])
}

/// The pairs of the update whose turn is at `first`, one in [`UPDATES`]; all of them where a round's `total` is too few to share out.
fn share(pairs: &[Tensor], first: i64, total: i64) -> Vec<Tensor> {
    let updates = UPDATES as i64;
    let of_update = |pairs: &Tensor| match total < updates {
        true => pairs.shallow_clone(),
        false => pairs.slice(0, first.rem_euclid(updates), None, updates),
    };
    pairs.iter().map(of_update).collect()
}

/// `log(1 + exp(high - low))`, the mean over places, images and resolutions: what is lost where the `low` scores are not above the
/// `high` ones.
fn lost(low: &[Tensor], high: &[Tensor]) -> Result<Tensor> {
    let of_each = low.iter().zip(high).map(|(low, high)| Ok((high - low).f_softplus()?.mean(Kind::Float)));
    let sum: Tensor = of_each.collect::<Result<Vec<Tensor>>>()?.into_iter().sum();
    Ok(sum / low.len() as f64)
}
