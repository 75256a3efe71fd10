//! A model under a plan: latents in, images out.

use fewstep_core::execute::{Start, execute};
use fewstep_core::plan::Plan;
use tch::{Kind, Tensor};

use crate::data;
use crate::error::{Error, Result};
use crate::held;
use crate::model::Model;
use crate::random;
use crate::tensor::Batch;

/// Images `[N, C, H, W]` that `plan` makes of unit normal `latents` `[N, C, H, W]`; without a graph.
///
/// `class_labels`: `[N or 1, label_dim]`.
pub fn sample(model: &Model, plan: &Plan, latents: &Tensor, class_labels: Option<&Tensor>) -> Result<Tensor> {
    let latents = Batch(latents.to_device(model.device()).to_kind(Kind::Float));
    let constant = plan.constant.as_ref().map(|constant| held::repeated(constant, &latents.0, class_labels));
    let start = Start { latent: &latents, constant: constant.as_ref() };
    let denoise = |x: &Batch, sigma: f64| Ok::<_, Error>(Batch(model.denoise_at(&x.0, sigma, class_labels)));
    Ok(execute(plan, start, denoise)?.0)
}

/// Images for seeds, in batches; each image depends on its seed (and class) alone.
#[derive(Clone, Copy, Debug)]
pub struct Seeded<'a> {
    /// One seed an image.
    pub seeds: &'a [u64],
    /// One class for all; `None` draws each image's class from its seed, evenly among those that the model was trained on.
    pub class: Option<i64>,
    /// Images at once.
    pub batch: usize,
}

impl Seeded<'_> {
    /// The classes of the images; empty for an unconditional model.
    pub fn classes(&self, model: &Model) -> Vec<i64> {
        let dim = model.config().label_dim;
        if dim == 0 {
            return Vec::new();
        }
        let trained = model.trained_classes();
        let count = trained.map_or(dim as u64, |classes| classes.len() as u64);
        let drawn = |seed: &u64| {
            let index = random::mix(*seed, random::CLASS_STREAM) % count;
            trained.map_or(index as i64, |classes| classes[index as usize])
        };
        self.seeds.iter().map(|seed| self.class.unwrap_or_else(|| drawn(seed))).collect()
    }

    /// Calls `done(first index, images)` for every batch, in order.
    pub fn run(&self, model: &Model, plan: &Plan, mut done: impl FnMut(usize, &Tensor) -> Result<()>) -> Result<()> {
        let classes = self.classes(model);
        for (index, seeds) in self.seeds.chunks(self.batch.max(1)).enumerate() {
            let start = index * self.batch.max(1);
            let labels = if classes.is_empty() { None } else { model.one_hot(&classes[start..start + seeds.len()])? };
            let latents = data::latents(seeds, model.image_shape(), model.device());
            done(start, &sample(model, plan, &latents, labels.as_ref())?)?;
        }
        Ok(())
    }

    /// All images at once, `[N, C, H, W]` on the CPU.
    pub fn collect(&self, model: &Model, plan: &Plan) -> Result<Tensor> {
        let mut parts = Vec::new();
        self.run(model, plan, |_, images| {
            parts.push(images.to_device(tch::Device::Cpu));
            Ok(())
        })?;
        Ok(Tensor::cat(&parts, 0))
    }
}

/// f32 images to u8 as EDM stores them: clip(127.5 x + 128, 0, 255), truncated.
pub fn to_u8(images: &Tensor) -> Tensor {
    (images * 127.5 + 128.0).clamp(0.0, 255.0).to_kind(Kind::Uint8)
}
