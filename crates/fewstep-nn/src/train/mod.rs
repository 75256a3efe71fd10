//! Training: the recipe of Karras et al. 2022 (Appendix F.1), from scratch or, with another loss, as phase 2 of a fit.

mod gradients;
mod loss;
mod rollout;
mod state;
mod trajectories;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::adam::{Adam, AdamConfig};
use crate::augment::AugmentConfig;
use crate::critic::Critic;
use crate::data::{EpochOrder, Images, Minibatch};
use crate::distance::Measure;
use crate::ema::{self, EmaConfig};
use crate::error::{Error, Result};
use crate::flat::{FlatWeights, unflatten};
use crate::model::Model;
use crate::random::{Purpose, Rows, Stream};
use crate::ranks::Ranks;
use crate::tunable::Tunable;

use self::gradients::{Buckets, GradientSum};

pub use self::loss::Loss;
pub use self::rollout::{CriticOf, GradientFlow, RolloutLoss, StepWeights};
pub use self::trajectories::{CacheEntry, Trajectories, TrajectoryDataset};

/// Updates after which processes compare their weights.
const COMPARED_EVERY: u64 = 100;

/// What diverges most often.
const LOSS: &str = "the loss";

/// Settings of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Images an update.
    pub batch: usize,
    /// Images held by the graph at once; the batch is accumulated from parts of this size.
    pub microbatch: usize,
    /// Learning rate after the ramp.
    pub learning_rate: f64,
    /// The learning rate rises linearly over the first so many images.
    pub rampup_images: u64,
    /// It then falls to zero, as a cosine does, at so many images; without, it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_images: Option<u64>,
    /// Optimiser.
    pub adam: AdamConfig,
    /// Moving average of the weights.
    pub ema: EmaConfig,
    /// Loss.
    pub loss: Loss,
    /// Augmentation, if any.
    pub augment: Option<AugmentConfig>,
    /// Whether images are mirrored at random (for data whose mirror image is as likely).
    pub xflip: bool,
    /// Seed of everything random.
    pub seed: u64,
}

/// What one update did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepStats {
    /// Updates made, this one included.
    pub iteration: u64,
    /// Images seen, this update's included.
    pub images: u64,
    /// Mean loss of the batch.
    pub loss: f64,
    /// Euclidean norm of the gradient.
    pub grad_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
}

/// What a network learns from.
#[derive(Clone, Copy, Debug)]
pub enum TrainingSource<'a> {
    /// Clean images, noised: to denoise.
    Images(&'a Images),
    /// A teacher's trajectories: to end up where it does.
    Trajectories(TrajectoryDataset<'a>),
}

impl<'a> From<&'a Images> for TrainingSource<'a> {
    fn from(images: &'a Images) -> Self {
        Self::Images(images)
    }
}

impl<'a> From<&'a Trajectories> for TrainingSource<'a> {
    fn from(trajectories: &'a Trajectories) -> Self {
        Self::Trajectories(TrajectoryDataset::from(trajectories))
    }
}

impl<'a> From<TrajectoryDataset<'a>> for TrainingSource<'a> {
    fn from(dataset: TrajectoryDataset<'a>) -> Self {
        Self::Trajectories(dataset)
    }
}

impl TrainingSource<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Images(images) => images.len(),
            Self::Trajectories(dataset) => dataset.trajectories.len(),
        }
    }
}

/// A training run: network, optimiser, moving average, position in the data.
#[derive(Debug)]
pub struct Trainer<'a, M = Model> {
    config: TrainConfig,
    model: M,
    source: TrainingSource<'a>,
    order: EpochOrder,
    /// The order of the images beside trajectories, where the loss takes some.
    data_order: Option<EpochOrder>,
    weights: FlatWeights,
    buckets: Buckets,
    average: Tensor,
    adam: Adam,
    /// Where the loss asks for one.
    critic: Option<Critic>,
    iteration: u64,
    seen: u64,
}

impl<'a, M: Tunable> Trainer<'a, M> {
    /// Starts a run from the weights that `model` has.
    pub fn new(model: M, source: impl Into<TrainingSource<'a>>, config: TrainConfig) -> Result<Self> {
        let source = source.into();
        if config.batch == 0 || config.microbatch == 0 || !config.batch.is_multiple_of(config.microbatch) {
            return Err(Error::Input(format!(
                "a batch of {} cannot be accumulated from parts of {}; choose a microbatch that divides it",
                config.batch, config.microbatch
            )));
        }
        if source.len() < config.batch {
            let (count, batch) = (source.len(), config.batch);
            return Err(Error::Input(match source {
                TrainingSource::Images(_) => {
                    format!("the data set has {count} images, fewer than one batch of {batch}")
                }
                TrainingSource::Trajectories(_) => {
                    format!("there are {count} trajectories of the teacher, fewer than one batch of {batch}")
                }
            }));
        }
        let data_order = match (&config.loss, source) {
            (Loss::Rollout(loss), TrainingSource::Trajectories(dataset)) => {
                Measure::new(loss.distance, dataset.features)?;
                dataset.images_for(*loss)?.map(|images| EpochOrder::new(config.seed, images.len()))
            }
            (Loss::Rollout(_), TrainingSource::Images(_)) => {
                return Err(Error::Input("this loss needs a teacher's trajectories, not images".to_owned()));
            }
            (_, TrainingSource::Trajectories(_)) => {
                return Err(Error::Input("this loss needs images, not trajectories".to_owned()));
            }
            (_, TrainingSource::Images(_)) => None,
        };
        let weights = FlatWeights::new(model.params());
        let (average, buckets) = (weights.values.copy(), Buckets::new(&weights));
        let adam = Adam::new(config.adam, &weights.values);
        let critic = match config.loss {
            Loss::Rollout(loss) if !(loss.critic >= 0.0 && loss.critic.is_finite()) => {
                return Err(Error::Input(format!("a critic's weight cannot be {}", loss.critic)));
            }
            Loss::Rollout(loss) if loss.critic > 0.0 => Some(Critic::new(&model, config.seed)?),
            _ => None,
        };
        let order = EpochOrder::new(config.seed, source.len());
        let (iteration, seen) = (0, 0);
        Ok(Self { config, model, source, order, data_order, weights, buckets, average, adam, critic, iteration, seen })
    }

    /// The processes that train together.
    pub fn ranks(&self) -> Ranks {
        self.model.ranks()
    }

    /// Images seen so far.
    pub fn images_seen(&self) -> u64 {
        self.seen
    }

    /// One update.
    pub fn step(&mut self) -> Result<StepStats> {
        let TrainConfig { batch, microbatch, seed, .. } = self.config;
        if let Some(critic) = &mut self.critic {
            critic.forget(); // an update that failed leaves nothing
        }
        let ranks = self.model.ranks();
        let mut sum = GradientSum::new(&self.weights, &self.buckets, ranks.clone());
        let own = own_rows(&ranks, batch)?;
        for first in own.clone().step_by(microbatch) {
            let images = microbatch.min(own.end - first);
            let start = self.seen + first as u64;
            let indices = self.order.indices(start, images);
            // Anew every update, so that a resumed run needs no generator state to repeat itself; and the batch's, however it is divided.
            let rows = Rows { first: first as u64, of: Some(batch as u64) };
            let mut stream = Stream::new(seed, Purpose::Training, self.iteration).rows(rows);
            sum.begin_part(images as f64 / microbatch as f64); // in units of a whole part
            let last = first + images == own.end;
            match self.source {
                TrainingSource::Images(data) => self.denoising(data, &indices, &mut stream, (&mut sum, last))?,
                TrainingSource::Trajectories(dataset) => {
                    let of_data = self.data_order.as_mut().map(|order| order.indices(start, images));
                    self.rollout(dataset, first, &indices, of_data.as_deref(), &mut stream, (&mut sum, last))?;
                }
            }
        }
        if self.iteration.is_multiple_of(COMPARED_EVERY) {
            let norm = self.weights.values.norm().double_value(&[]);
            ranks.check_same("network", &norm.to_bits().to_string())?; // on machines of different kinds they may drift apart
        }
        let (loss, mut gradient) = sum.finish()?;
        let parts = (batch / microbatch) as f64;
        let loss = loss / parts;
        gradient /= parts;
        let grad_norm = gradient.norm().double_value(&[]);
        if !grad_norm.is_finite() {
            return Err(self.diverged("the gradient's norm", grad_norm, None));
        }
        if let Some(critic) = &mut self.critic {
            critic.learn(&ranks).map_err(|error| match error {
                Error::Diverged { what, value, level, advice, .. } => {
                    Error::Diverged { what, value, iteration: self.iteration, level, advice }
                }
                error => error,
            })?;
        }
        let learning_rate = self.learning_rate();
        self.adam.update(&mut self.weights.values, &gradient, learning_rate);
        self.iteration += 1;
        self.seen += batch as u64;
        ema::update(&mut self.average, &self.weights.values, self.config.ema.beta(self.seen, batch as u64));
        Ok(StepStats { iteration: self.iteration, images: self.seen, loss, grad_norm, learning_rate })
    }

    /// Adds the loss of the images at `indices`, the `last` of a batch or not, and its gradient.
    fn denoising(
        &self,
        images: &Images,
        indices: &[i64],
        stream: &mut Stream,
        (sum, last): (&mut GradientSum, bool),
    ) -> Result<()> {
        let minibatch = self.clean(images, indices, stream)?;
        let augment = self.config.augment.as_ref();
        let evaluated = self.config.loss.evaluate(&self.model, &minibatch, augment, stream)?;
        let loss = evaluated.mean.double_value(&[]);
        if !loss.is_finite() {
            return Err(self.diverged(LOSS, loss, evaluated.bad_level()));
        }
        sum.add_value(loss);
        sum.add(&evaluated.mean, last)
    }

    /// The images at `indices`, mirrored at random if that is asked for.
    fn clean(&self, images: &Images, indices: &[i64], stream: &mut Stream) -> Result<Minibatch> {
        let mut minibatch = images.batch(indices, &self.model)?;
        if self.config.xflip {
            minibatch.images = mirror_at_random(&minibatch.images, stream);
        }
        Ok(minibatch)
    }

    /// Something left the numbers. Nothing of this update was applied.
    fn diverged(&self, what: &'static str, value: f64, level: Option<f64>) -> Error {
        let advice = "the update was not made; a lower learning rate helps most often".to_owned();
        let level = level.map_or_else(String::new, |sigma| format!(" at the noise level {sigma:.4}"));
        Error::Diverged { what, value, iteration: self.iteration, level, advice }
    }

    fn learning_rate(&self) -> f64 {
        let ramp = match self.config.rampup_images {
            0 => 1.0,
            images => (self.seen as f64 / images as f64).min(1.0),
        };
        let decay = self.config.decay_images.map_or(1.0, |images| {
            let done = (self.seen as f64 / (images as f64).max(1.0)).min(1.0);
            0.5 * (1.0 + (std::f64::consts::PI * done).cos())
        });
        self.config.learning_rate * ramp * decay
    }

    /// Images an update.
    pub fn batch(&self) -> usize {
        self.config.batch
    }

    /// The weights as they are, flat.
    pub fn weights(&self) -> &Tensor {
        &self.weights.values
    }

    /// The averaged weights, flat.
    pub fn average(&self) -> &Tensor {
        &self.average
    }

    /// A network with the averaged weights, independent of the run.
    pub fn averaged(&self) -> Result<M> {
        let model = self.model.duplicate()?;
        unflatten(&self.average, model.params())?;
        Ok(model)
    }
}

/// The images of a batch that this process learns from.
fn own_rows(ranks: &Ranks, batch: usize) -> Result<Range<usize>> {
    let (rank, size) = (ranks.rank(), ranks.size());
    if size > batch {
        return Err(Error::Input(format!(
            "a batch of {batch} cannot be shared by {size} processes: take fewer of them"
        )));
    }
    Ok(batch * rank / size..batch * (rank + 1) / size)
}

fn mirror_at_random(images: &Tensor, stream: &mut Stream) -> Tensor {
    let chosen = stream.uniform(&[images.size()[0], 1, 1, 1], images.device()).less(0.5);
    images.flip([3]).where_self(&chosen, images)
}
