//! Learning from a teacher's trajectories: the student takes its own states under a plan, and every state is pulled to where the
//! teacher is. One step's graph is alive at a time.

use std::cell::RefCell;

use fewstep_core::denoiser::BoundDenoiser;
use fewstep_core::execute::Start;
use fewstep_core::plan::{Combination, Source};
use fewstep_search::states_gradient;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::gradients::GradientSum;
use super::trajectories::{TrajectoryDataset, TrajectoryMinibatch};
use super::{LOSS, Loss, Trainer};
use crate::critic;
use crate::distance::{Criticism, Distance, Measure};
use crate::error::{Error, Result};
use crate::random::{Purpose, Rows, Stream};
use crate::tensor::{Batch, leaf};
use crate::tunable::Tunable;
use crate::unet::Conditions;

/// What a step away from the teacher counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutLoss {
    /// How far from the teacher a state is.
    pub distance: Distance,
    /// What each step's distance counts.
    #[serde(default)]
    pub weights: StepWeights,
    /// Which evaluations learn from it; files that do not say so are of a time when there was one way.
    #[serde(default = "GradientFlow::step")]
    pub flow: GradientFlow,
    /// Weight of the denoising error of data at the plan's last level, beside 1 for the distance of the image.
    #[serde(default)]
    pub data: f64,
    /// Weight of how well a critic ([`Critic`](crate::critic::Critic)) tells the images from what they should look like, beside 1 for
    /// the distance of the image.
    #[serde(default)]
    pub critic: f64,
    /// What that is.
    #[serde(default)]
    pub critic_of: CriticOf,
}

impl RolloutLoss {
    /// The distance alone, all else as by default.
    pub fn of(distance: Distance) -> Self {
        Self {
            distance,
            weights: StepWeights::default(),
            flow: GradientFlow::default(),
            data: 0.0,
            critic: 0.0,
            critic_of: CriticOf::default(),
        }
    }

    /// Whether it takes clean images beside trajectories.
    pub fn needs_images(&self) -> bool {
        self.data > 0.0 || self.critic > 0.0 && self.critic_of == CriticOf::Data
    }
}

/// What a critic tells a student's images from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticOf {
    /// The teacher's images from the same latents.
    #[default]
    Teacher,
    /// Clean images.
    Data,
}

/// What the distance of a step's state from the teacher's counts, by the noise level that the step leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepWeights {
    /// `sigma_data^2 / (sigma_data^2 + sigma^2)`: as much as data stand out of the noise there, which is about as much
    /// as it matters to the image.
    #[default]
    Signal,
    /// The same for every step.
    Equal,
    /// The image alone.
    Image,
}

impl StepWeights {
    /// The weight of a step to `sigma`, 0 for the image, for data of this standard deviation.
    pub fn of(self, sigma: f64, sigma_data: f64) -> f64 {
        match self {
            Self::Signal => sigma_data.powi(2) / (sigma_data.powi(2) + sigma * sigma),
            Self::Equal => 1.0,
            Self::Image => f64::from(u8::from(sigma == 0.0)),
        }
    }
}

/// Which evaluations learn from the distance of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GradientFlow {
    /// The newest: earlier states are taken as they are.
    Step,
    /// All before it: an early evaluation learns what serves the image. All but the last are repeated with a graph, which
    /// costs up to three tenths more (docs/tuning.md).
    Through,
    /// All before it in plans of up to 4 evaluations, the newest in longer ones: there a batch of as many evaluations holds
    /// few trajectories, and gradients through them all are noise.
    #[default]
    ByBudget,
}

impl GradientFlow {
    /// Whether all evaluations of a plan of so many learn.
    pub fn is_through(self, nfe: usize) -> bool {
        self == Self::Through || self == Self::ByBudget && nfe <= FEW_EVALUATIONS
    }

    fn step() -> Self {
        Self::Step
    }
}

/// Most evaluations of a plan through all of which gradients go by default.
const FEW_EVALUATIONS: usize = 4;

/// The vectors of a run so far, without a graph.
struct Run<'a> {
    minibatch: &'a TrajectoryMinibatch<'a>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl<'a> Run<'a> {
    fn new(minibatch: &'a TrajectoryMinibatch<'a>) -> Self {
        Self { minibatch, inputs: Vec::new(), outputs: Vec::new() }
    }

    /// The combination's value; the newest output, which has a graph, in place of the one kept.
    fn value(&self, terms: &Combination, newest: Option<&Tensor>) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (source, c) in terms.terms() {
            let value = match source {
                Source::Latent => Some(&self.minibatch.latent),
                Source::Constant => self.minibatch.constant.as_ref(),
                Source::Input(k) => self.inputs.get(k),
                Source::Output(k) if k == self.outputs.len() => newest,
                Source::Output(k) => self.outputs.get(k),
            };
            let value = value.ok_or_else(|| Error::Input(format!("the plan uses {source} before it is known")))?;
            let term = value.f_mul_scalar(c)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => sum.f_add(&term)?,
            });
        }
        sum.ok_or_else(|| Error::Input("the plan has a combination without terms".to_owned()))
    }
}

impl<M: Tunable> Trainer<'_, M> {
    /// Adds the mean loss of a step of the trajectories at `indices`, the `last` of a batch or not, which are the batch's from `first` on, with that of the images `of_data` if
    /// the loss counts them, and its gradient: every evaluation's graph is freed before the next is made.
    pub(super) fn rollout(
        &self,
        dataset: TrajectoryDataset,
        first: usize,
        indices: &[i64],
        of_data: Option<&[i64]>,
        stream: &mut Stream,
        (sum, last): (&mut GradientSum, bool),
    ) -> Result<()> {
        let Loss::Rollout(loss) = self.config.loss else {
            return Err(Error::Input("trajectories need the rollout loss".to_owned()));
        };
        let minibatch = TrajectoryMinibatch::new(dataset.trajectories, indices, self.model.device())?;
        let (shown, weight) = self.shown(first, indices.len(), loss.critic);
        let data = match (dataset.images_for(loss)?, of_data) {
            (Some(images), Some(indices)) => Some(self.clean(images, indices, stream)?),
            _ => None,
        };
        let mut measure = Measure::new(loss.distance, dataset.features)?;
        let [before, all] = [first, self.config.batch].map(|images| critic::shown_images(images) as u64);
        let noise = Stream::new(stream.seed(), Purpose::Critic, 0).rows(Rows { first: before, of: Some(all) });
        let noise = RefCell::new(noise);
        if let Some(critic) = &self.critic {
            measure = measure.criticised(Criticism {
                critic,
                weight,
                shown: &shown,
                class_labels: minibatch.class_labels.as_ref(),
                data: data.as_ref().filter(|_| loss.critic_of == CriticOf::Data),
                stream: &noise,
            });
        }
        let denoises = data.as_ref().filter(|_| loss.data > 0.0);
        let (weights, rolled_out_last) = (loss.weights, last && denoises.is_none());
        if loss.flow.is_through(minibatch.plan.nfe()) {
            self.through(weights, &measure, &minibatch, (sum, rolled_out_last))?;
        } else {
            self.step_by_step(weights, &measure, &minibatch, (sum, rolled_out_last))?;
        }
        let plan = minibatch.plan;
        if let (Some(data), Some(stage)) = (denoises, plan.stages.last()) {
            let denoising = Loss::Levels { sigmas: vec![stage.sigma], weights: vec![loss.data / plan.nfe() as f64] };
            let mean = denoising.evaluate(&self.model, data, None, stream)?.mean;
            sum.add_value(self.finite(&mean, stage.sigma)?);
            sum.add(&mean, last)?;
        }
        Ok(())
    }

    /// Which images of a part of the batch, so many from `first` on, the critic is shown, if there is one, and what its word counts there
    /// of `weight`: the parts come to what a whole batch would.
    fn shown(&self, first: usize, images: usize, weight: f64) -> (Vec<i64>, f64) {
        if self.critic.is_none() {
            return (Vec::new(), 0.0);
        }
        let (shown, all) = (critic::shown_of(first, images), critic::shown_images(self.config.batch));
        let weight = weight * (shown.len() * self.config.batch) as f64 / (all * images) as f64;
        (shown, weight)
    }

    /// Every evaluation learns from the state that it leads to.
    fn step_by_step(
        &self,
        weights: StepWeights,
        measure: &Measure,
        minibatch: &TrajectoryMinibatch,
        (sum, last): (&mut GradientSum, bool),
    ) -> Result<()> {
        let mut run = Run::new(minibatch);
        let weight_of = |k: usize| match minibatch.terms(k + 1).coefficient(Source::Output(k)) {
            0.0 => 0.0,
            _ => weights.of(minibatch.level(k + 1), self.sigma_data()),
        };
        let last_to_learn = (0..minibatch.plan.nfe()).rev().find(|k| weight_of(*k) > 0.0);
        for (k, stage) in minibatch.plan.stages.iter().enumerate() {
            let x = tch::no_grad(|| run.value(&stage.input, None))?;
            run.inputs.push(x.shallow_clone());
            let (next, weight) = (minibatch.terms(k + 1), weight_of(k));
            let output = if weight > 0.0 {
                let output = self.denoised(&x, stage.sigma, minibatch)?;
                let distance = minibatch.distance(measure, weight, k + 1, &run.value(next, Some(&output))?)?;
                sum.add_value(self.finite(&distance, stage.sigma)?);
                sum.add(&distance, last && Some(k) == last_to_learn)?;
                output.detach()
            } else {
                tch::no_grad(|| self.denoised(&x, stage.sigma, minibatch))?
            };
            run.outputs.push(output);
        }
        Ok(())
    }

    /// Every evaluation learns from all states after it.
    fn through(
        &self,
        weights: StepWeights,
        measure: &Measure,
        minibatch: &TrajectoryMinibatch,
        (sum, last): (&mut GradientSum, bool),
    ) -> Result<()> {
        let plan = minibatch.plan;
        let (latent, constant) = (Batch(minibatch.latent.shallow_clone()), minibatch.constant.as_ref());
        let constant = constant.map(|constant| Batch(constant.shallow_clone()));
        let newest = Source::Output(plan.nfe() - 1);
        let mut student = Student {
            trainer: self,
            minibatch,
            sum,
            last,
            ahead: if plan.uses(newest) { plan.nfe() - 1 } else { usize::MAX },
            newest: None,
        };
        let loss = |k: usize, state: &Batch| {
            let weight = weights.of(minibatch.level(k), self.sigma_data());
            if weight == 0.0 {
                return Ok(None);
            }
            let state = leaf(&state.0)?;
            let distance = minibatch.distance(measure, weight, k, &state)?;
            let value = self.finite(&distance, plan.stages[k - 1].sigma)?;
            let mut slopes = Tensor::f_run_backward(&[&distance], &[&state], false, false)?;
            Ok(Some((value, Batch(slopes.remove(0)))))
        };
        let start = Start { latent: &latent, constant: constant.as_ref() };
        let value = states_gradient(plan, start, &mut student, loss)?.0;
        sum.add_value(value);
        Ok(())
    }

    /// Standard deviation of the data, as the network says.
    fn sigma_data(&self) -> f64 {
        self.model.parameterisation().sigma_data()
    }

    /// D(x; sigma), with a graph unless the caller forbids it.
    fn denoised(&self, x: &Tensor, sigma: f64, minibatch: &TrajectoryMinibatch) -> Result<Tensor> {
        let conditions = Conditions { class_labels: minibatch.class_labels.as_ref(), ..Conditions::default() };
        self.model.forward(x, &Tensor::from_slice(&[sigma]).to_kind(Kind::Float), &conditions)
    }

    /// The value of a loss at a level, if it is a number.
    fn finite(&self, loss: &Tensor, level: f64) -> Result<f64> {
        let value = loss.double_value(&[]);
        if value.is_finite() { Ok(value) } else { Err(self.diverged(LOSS, value, Some(level))) }
    }
}

/// A network that gathers the gradient of its weights on the way back through a run.
struct Student<'a, 'b, M> {
    trainer: &'a Trainer<'a, M>,
    minibatch: &'a TrajectoryMinibatch<'a>,
    sum: &'a mut GradientSum<'b>,
    /// Whether nothing comes after this run.
    last: bool,
    /// Evaluations to come before the last, whose graph is made at once: it is the first to be needed.
    ahead: usize,
    newest: Option<(Tensor, Tensor)>,
}

impl<M: Tunable> Student<'_, '_, M> {
    /// `x` as a leaf, and D of it with a graph.
    fn with_graph(&self, x: &Batch, sigma: f64) -> Result<(Tensor, Tensor)> {
        let x = leaf(&x.0)?;
        let output = self.trainer.denoised(&x, sigma, self.minibatch)?;
        Ok((x, output))
    }
}

impl<M: Tunable> BoundDenoiser<Batch> for Student<'_, '_, M> {
    type Error = Error;

    fn denoised(&mut self, x: &Batch, sigma: f64) -> Result<Batch> {
        let output = if self.ahead == 0 {
            let evaluated = self.with_graph(x, sigma)?;
            self.newest.insert(evaluated).1.detach()
        } else {
            tch::no_grad(|| self.trainer.denoised(&x.0, sigma, self.minibatch))?
        };
        self.ahead = self.ahead.saturating_sub(1);
        if output.isfinite().all().int64_value(&[]) == 0 {
            return Err(self.trainer.diverged("an output of the network", f64::NAN, Some(sigma)));
        }
        Ok(Batch(output))
    }

    /// The levels do not learn: their derivative is left out.
    fn pullback(&mut self, x: &Batch, sigma: f64, cotangent: &Batch) -> Result<(Batch, f64)> {
        let (x, output) = match self.newest.take() {
            Some(evaluated) => evaluated,
            None => self.with_graph(x, sigma)?,
        };
        let product = (output * &cotangent.0).sum(Kind::Float);
        // the run goes back to its first stage
        let last = self.last && self.minibatch.plan.stages.first().is_some_and(|first| first.sigma == sigma);
        Ok((Batch(self.sum.add_with(&product, &x, last)?), 0.0))
    }
}
