//! A teacher's trajectories as lessons: where it is at every state of a plan.

use fewstep_core::plan::{Combination, Plan};
use fewstep_core::schedule::Schedule;
use fewstep_core::search::Teacher;
use tch::Tensor;

use super::RolloutLoss;
use crate::data::Images;
use crate::distance::{FeatureMap, Measure};
use crate::error::{Error, Result};
use crate::held;
use crate::model::Model;
use crate::sample::Seeded;
use crate::tensor::Batch;

/// A teacher's trajectories, and what a loss may need beside them.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Where the teacher goes.
    pub trajectories: &'a Trajectories,
    /// Clean images, for [`RolloutLoss::data`] and [`CriticOf::Data`](super::CriticOf::Data).
    pub images: Option<&'a Images>,
    /// A feature network, for [`Distance::Features`](crate::distance::Distance::Features).
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
            _ if !loss.looks_at_data() => Ok(None),
            None => Err(Error::Input("a loss that looks at data needs images beside the trajectories".to_owned())),
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

/// Some trajectories, on the network's device.
pub(super) struct Lesson<'a> {
    /// What the student runs.
    pub plan: &'a Plan,
    /// `[N, C, H, W]`.
    pub latent: Tensor,
    /// The plan's constant image for each, if it holds one.
    pub constant: Option<Tensor>,
    /// `[N, label_dim]`.
    pub class_labels: Option<Tensor>,
    targets: Vec<Tensor>,
}

impl<'a> Lesson<'a> {
    /// The trajectories at `indices`.
    pub fn new(trajectories: &'a Trajectories, indices: &[i64], model: &Model) -> Self {
        let indices = Tensor::from_slice(indices);
        let pick =
            |tensor: &Tensor| tensor.index_select(0, &indices.to_device(tensor.device())).to_device(model.device());
        let Trajectories { plan, latents, class_labels, targets } = trajectories;
        let (latent, class_labels) = (pick(latents), class_labels.as_ref().map(pick));
        let constant = plan.constant.as_ref().map(|image| held::repeated(image, &latent, class_labels.as_ref()).0);
        Self { plan, latent, constant, class_labels, targets: targets.iter().map(pick).collect() }
    }

    /// How state `k` is made: the input of stage `k`, or the image where `k` is the plan's NFE.
    pub fn terms(&self, k: usize) -> &'a Combination {
        self.plan.stages.get(k).map_or(&self.plan.output, |stage| &stage.input)
    }

    /// The noise level of state `k`; 0 for the image.
    pub fn level(&self, k: usize) -> f64 {
        self.plan.stages.get(k).map_or(0.0, |stage| stage.sigma)
    }

    /// How far `state`, which is state `k` (not the first, where all is noise), is from the teacher's: `weight` times the
    /// distance, divided by the number of states.
    pub fn distance(&self, measure: &Measure, weight: f64, k: usize, state: &Tensor) -> Result<Tensor> {
        let target = &self.targets[k - 1];
        let distance = match self.plan.stages.get(k) {
            Some(_) => measure.of_states(state, target),
            None => measure.of_images(state, target)?,
        };
        Ok(distance * (weight / self.plan.nfe() as f64))
    }
}
