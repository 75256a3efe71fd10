//! The held-out judge of a fit: how far the student's images are from a fine teacher's, from the same latents.

use fewstep_core::plan::Plan;
use tch::{Device, Kind, Tensor};

use crate::data;
use crate::error::Result;
use crate::model::Model;
use crate::sample::{Seeded, sample};

/// Latents that no fit sees, and what the teacher makes of them.
#[derive(Debug)]
pub struct HeldOut {
    latents: Tensor,
    class_labels: Option<Tensor>,
    teacher: Tensor,
    batch: usize,
}

impl HeldOut {
    /// Runs the `teacher` plan on `model`, as it is now, from the latents of `seeds`.
    pub fn new(model: &Model, teacher: &Plan, seeds: &[u64], batch: usize) -> Result<Self> {
        let seeded = Seeded { seeds, class: None, batch };
        let classes = seeded.classes(model);
        let class_labels = if classes.is_empty() { None } else { model.one_hot(&classes)? };
        let latents = data::latents(seeds, model.image_shape(), Device::Cpu);
        Ok(Self { latents, class_labels, teacher: seeded.collect(model, teacher)?, batch: batch.max(1) })
    }

    /// The teacher's images, `[N, C, H, W]` on the CPU.
    pub fn teacher(&self) -> &Tensor {
        &self.teacher
    }

    /// The images that `model` makes under `plan` from the same latents, `[N, C, H, W]` on the CPU.
    pub fn student(&self, model: &Model, plan: &Plan) -> Result<Tensor> {
        let batch = self.batch as i64;
        let labels = self.class_labels.as_ref().map(|labels| labels.split(batch, 0));
        let mut images = Vec::new();
        for (index, latents) in self.latents.split(batch, 0).iter().enumerate() {
            let labels = labels.as_ref().map(|labels| &labels[index]);
            images.push(sample(model, plan, latents, labels)?.to_device(Device::Cpu));
        }
        Ok(Tensor::cat(&images, 0))
    }

    /// The rollout error E|x_0 - x_0*|^2 / dim: the mean squared difference of a pixel, images in [-1, 1].
    pub fn rollout_error(&self, model: &Model, plan: &Plan) -> Result<f64> {
        Ok(mean_squared_error(&self.student(model, plan)?, &self.teacher))
    }
}

/// Mean squared difference of an element.
pub fn mean_squared_error(a: &Tensor, b: &Tensor) -> f64 {
    tch::no_grad(|| (a - b).square().mean(Kind::Double).double_value(&[]))
}
