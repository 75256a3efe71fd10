//! Learning from a teacher's trajectories: the student takes its own states under a plan, and every step is pulled to where the
//! teacher is after it. One step's graph is alive at a time.

use fewstep_core::plan::{Combination, Plan, Source};
use fewstep_core::schedule::Schedule;
use fewstep_core::search::{Teacher, pseudo_huber_constant};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Loss, Trainer};
use crate::error::{Error, Result};
use crate::held;
use crate::model::Model;
use crate::sample::Seeded;
use crate::tensor::Batch;
use crate::unet::Conditions;

/// How far from the teacher's state the student's is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Squared differences.
    Squared,
    /// `sqrt(|d|^2 + c^2) - c` of each sample, with [`pseudo_huber_constant`]: no few bad samples rule.
    PseudoHuber,
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
    /// What a squared error there counts.
    weights: Vec<f64>,
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
        // A state's error matters to the image about as much as data stand out of the noise there.
        let weights = sigmas.iter().skip(1).map(|sigma| DATA_VARIANCE / (DATA_VARIANCE + sigma * sigma));
        let weights = weights.chain([1.0]).collect();
        Ok(Self { plan: plan.clone(), latents, class_labels, targets, weights })
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

/// Karras et al.'s sigma_data^2.
const DATA_VARIANCE: f64 = 0.25;

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
    /// The mean loss of a step of the trajectories at `indices`, and its gradient: every step's graph is freed before the
    /// next is made, and no gradient flows from one step into another.
    pub(super) fn rollout(&self, lessons: &Trajectories, indices: &[i64]) -> Result<(f64, Tensor)> {
        let Loss::Rollout { distance } = self.config.loss else {
            return Err(Error::Input("trajectories need the rollout loss".to_owned()));
        };
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
        for (k, stage) in plan.stages.iter().enumerate() {
            let x = tch::no_grad(|| run.value(&stage.input, None))?;
            let sigma = Tensor::from_slice(&[stage.sigma]).to_kind(Kind::Float);
            let output = self.model.denoise(&x, &sigma, &conditions);
            run.inputs.push(x);
            let next = plan.stages.get(k + 1).map_or(&plan.output, |stage| &stage.input);
            let error = run.value(next, Some(&output))? - pick(&lessons.targets[k]);
            let loss = measure(&error, distance) * (lessons.weights[k] / steps);
            if next.coefficient(Source::Output(k)) != 0.0 {
                let value = loss.double_value(&[]);
                if !value.is_finite() {
                    return Err(self.diverged(value, Some(stage.sigma)));
                }
                total += value;
                gradient += self.weights.gradient(&loss)?;
            }
            run.outputs.push(output.detach());
        }
        Ok((total, gradient))
    }
}

/// The mean over samples and pixels.
fn measure(error: &Tensor, distance: Distance) -> Tensor {
    match distance {
        Distance::Squared => error.square().mean(Kind::Float),
        Distance::PseudoHuber => {
            let dim = (error.numel() as i64 / error.size()[0]) as f64;
            let c = pseudo_huber_constant(dim);
            let square = error.square().flatten(1, -1).sum_dim_intlist(1, false, Kind::Float);
            ((square + c * c).sqrt() - c).mean(Kind::Float) / dim.sqrt()
        }
    }
}
