//! Learning from a teacher's trajectories: the student takes its own states under a plan, and every step is pulled to where the
//! teacher is after it. One step's graph is alive at a time.

use fewstep_core::plan::{Combination, Plan, Source};
use fewstep_core::schedule::Schedule;
use fewstep_core::search::Teacher;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Loss, Trainer, mirror_at_random};
use crate::data::Images;
use crate::distance::{Distance, FeatureMap, Measure};
use crate::error::{Error, Result};
use crate::held;
use crate::model::Model;
use crate::sample::Seeded;
use crate::tensor::Batch;
use crate::unet::Conditions;

/// What a step away from the teacher counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutLoss {
    /// How far from the teacher a state is.
    pub distance: Distance,
    /// What each step's distance counts.
    #[serde(default)]
    pub weights: StepWeights,
    /// Weight of the denoising error of data at the plan's last level, beside 1 for the distance of the image.
    #[serde(default)]
    pub data: f64,
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
    /// The weight of a step to `sigma`, 0 for the image.
    pub fn of(self, sigma: f64) -> f64 {
        match self {
            Self::Signal => DATA_VARIANCE / (DATA_VARIANCE + sigma * sigma),
            Self::Equal => 1.0,
            Self::Image => f64::from(u8::from(sigma == 0.0)),
        }
    }
}

/// Karras et al.'s sigma_data^2.
const DATA_VARIANCE: f64 = 0.25;

/// A teacher's trajectories, and what a loss may need beside them.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Where the teacher goes.
    pub trajectories: &'a Trajectories,
    /// Clean images, for [`RolloutLoss::data`].
    pub images: Option<&'a Images>,
    /// A feature network, for [`Distance::Features`].
    pub features: Option<&'a dyn FeatureMap>,
}

impl<'a> From<&'a Trajectories> for Course<'a> {
    fn from(trajectories: &'a Trajectories) -> Self {
        Self { trajectories, images: None, features: None }
    }
}

impl<'a> Course<'a> {
    /// The images that `loss` looks at, if it does.
    pub(super) fn images_for(&self, loss: RolloutLoss) -> Result<Option<&'a Images>> {
        match self.images {
            _ if loss.data == 0.0 => Ok(None),
            None => Err(Error::Input("a loss on data needs images beside the trajectories".to_owned())),
            images => Ok(images),
        }
    }
}

/// Where a teacher is at every state of a plan, for many latents.
#[derive(Debug)]
pub struct Trajectories {
    plan: Plan,
    /// Unit normal noise, `[M, C, H, W]`.
    latents: Tensor,
    class_labels: Option<Tensor>,
    /// After each stage the teacher's state, `[M, C, H, W]`: at the next stage's level, last the image.
    targets: Vec<Tensor>,
}

impl Trajectories {
    /// The levels at which a teacher must keep its states for `plan`: the plan's own, and the ends of the `fine` schedule.
    pub fn levels(plan: &Plan, fine: &Schedule) -> Result<Schedule> {
        let mut levels: Vec<f64> = plan.sigmas();
        levels.extend([fine.sigma_max(), fine.sigma_min()]);
        merged(levels, &[])
    }

    /// `fine` with the plan's levels among its own, for a teacher that visits them all.
    pub fn fine(plan: &Plan, fine: &Schedule) -> Result<Schedule> {
        merged(plan.sigmas(), fine.levels())
    }

    /// Trajectories of `teacher` from the latents of `seeds`, which keeps its states at [`Trajectories::levels`].
    pub fn new(model: &Model, plan: &Plan, teacher: &Teacher<Batch>, seeds: &[u64]) -> Result<Self> {
        let place = |sigma: f64| teacher.grid().levels().iter().position(|level| *level == sigma);
        let states = teacher.states();
        let at = |sigma: f64| {
            let state = place(sigma).and_then(|place| states.get(place));
            let missing = || Error::Input(format!("the teacher has no state at the plan's noise level {sigma}"));
            Ok(state.ok_or_else(missing)?.0.shallow_clone())
        };
        let sigmas = plan.sigmas();
        let mut targets = sigmas.iter().skip(1).map(|sigma| at(*sigma)).collect::<Result<Vec<_>>>()?;
        targets.push(teacher.ends().image.0.shallow_clone());
        let latents = teacher.ends().latent.0.shallow_clone();
        if latents.size()[0] != seeds.len() as i64 {
            return Err(Error::Input("the teacher was run on other latents".to_owned()));
        }
        let classes = Seeded { seeds, class: None, batch: 1 }.classes(model);
        let class_labels = if classes.is_empty() { None } else { model.one_hot(&classes)? };
        Ok(Self { plan: plan.clone(), latents, class_labels, targets })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.latents.size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Network evaluations of one.
    pub fn steps(&self) -> usize {
        self.plan.nfe()
    }
}

fn merged(mut levels: Vec<f64>, more: &[f64]) -> Result<Schedule> {
    levels.extend_from_slice(more);
    levels.sort_by(|a, b| b.total_cmp(a));
    levels.dedup();
    Schedule::new(levels).map_err(|error| Error::Input(error.to_string()))
}

/// The vectors of a run so far, without a graph.
struct Run<'a> {
    latent: &'a Tensor,
    constant: Option<Tensor>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Run<'_> {
    /// The combination's value; the newest output, which has a graph, in place of the one kept.
    fn value(&self, terms: &Combination, newest: Option<&Tensor>) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (source, c) in terms.terms() {
            let value = match source {
                Source::Latent => Some(self.latent),
                Source::Constant => self.constant.as_ref(),
                Source::Input(k) => self.inputs.get(k),
                Source::Output(k) if k == self.outputs.len() => newest,
                Source::Output(k) => self.outputs.get(k),
            };
            let value = value.ok_or_else(|| Error::Input(format!("the plan uses {source} before it is known")))?;
            sum = Some(match sum {
                None => value * c,
                Some(sum) => sum + value * c,
            });
        }
        sum.ok_or_else(|| Error::Input("the plan has a combination without terms".to_owned()))
    }
}

impl Trainer<'_> {
    /// The mean loss of a step of the trajectories at `indices`, with that of the images `of_data` if the loss counts them, and
    /// its gradient: every step's graph is freed before the next is made, and no gradient flows from one step into another.
    pub(super) fn rollout(&self, course: Course, indices: &[i64], of_data: Option<&[i64]>) -> Result<(f64, Tensor)> {
        let Loss::Rollout(loss) = self.config.loss else {
            return Err(Error::Input("trajectories need the rollout loss".to_owned()));
        };
        let measure = Measure::new(loss.distance, course.features)?;
        let lessons = course.trajectories;
        let (plan, device) = (&lessons.plan, self.model.device());
        let indices = Tensor::from_slice(indices);
        let pick = |tensor: &Tensor| tensor.index_select(0, &indices.to_device(tensor.device())).to_device(device);
        let latent = pick(&lessons.latents);
        let class_labels = lessons.class_labels.as_ref().map(pick);
        let constant = plan.constant.as_ref().map(|image| held::repeated(image, &latent, class_labels.as_ref()).0);
        let conditions = Conditions { class_labels: class_labels.as_ref(), ..Conditions::default() };
        let mut run = Run { latent: &latent, constant, inputs: Vec::new(), outputs: Vec::new() };
        let (mut total, mut gradient) = (0.0, self.weights.values.zeros_like());
        let steps = plan.nfe() as f64;
        let mut add = |loss: &Tensor, level: f64| {
            let value = loss.double_value(&[]);
            if !value.is_finite() {
                return Err(self.diverged(value, Some(level)));
            }
            total += value;
            gradient += self.weights.gradient(loss)?;
            Ok(())
        };
        for (k, stage) in plan.stages.iter().enumerate() {
            let x = tch::no_grad(|| run.value(&stage.input, None))?;
            let sigma = Tensor::from_slice(&[stage.sigma]).to_kind(Kind::Float);
            run.inputs.push(x.shallow_clone());
            let following = plan.stages.get(k + 1);
            let next = following.map_or(&plan.output, |stage| &stage.input);
            let weight = loss.weights.of(following.map_or(0.0, |stage| stage.sigma));
            let output = if weight > 0.0 && next.coefficient(Source::Output(k)) != 0.0 {
                let output = self.model.denoise(&x, &sigma, &conditions);
                let (state, target) = (run.value(next, Some(&output))?, pick(&lessons.targets[k]));
                let distance = match following {
                    Some(_) => measure.of_states(&state, &target),
                    None => measure.of_images(&state, &target)?,
                };
                add(&(distance * (weight / steps)), stage.sigma)?;
                output.detach()
            } else {
                tch::no_grad(|| self.model.denoise(&x, &sigma, &conditions))
            };
            run.outputs.push(output);
        }
        if let (Some(images), Some(indices), Some(last)) = (course.images_for(loss)?, of_data, plan.stages.last()) {
            let denoising = Loss::Levels { sigmas: vec![last.sigma], weights: vec![loss.data / steps] };
            let mut minibatch = images.batch(indices, &self.model)?;
            if self.config.xflip {
                minibatch.images = mirror_at_random(&minibatch.images);
            }
            add(&denoising.evaluate(&self.model, &minibatch, None)?.mean, last.sigma)?;
        }
        Ok((total, gradient))
    }
}
