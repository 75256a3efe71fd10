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
    run(model, plan, latents, class_labels, |_, _, _| {})
}

/// [`sample`], telling `observe(sigma, x, output)` of every evaluation.
fn run(
    model: &Model,
    plan: &Plan,
    latents: &Tensor,
    class_labels: Option<&Tensor>,
    mut observe: impl FnMut(f64, &Tensor, &Tensor),
) -> Result<Tensor> {
    let latents = Batch(latents.to_device(model.device()).to_kind(Kind::Float));
    let constant = plan.constant.as_ref().map(|constant| held::repeated(constant, &latents.0, class_labels));
    let start = Start { latent: &latents, constant: constant.as_ref() };
    let denoise = |x: &Batch, sigma: f64| {
        let output = model.denoise_at(&x.0, sigma, class_labels);
        observe(sigma, &x.0, &output);
        Ok::<_, Error>(Batch(output))
    };
    Ok(execute(plan, start, denoise)?.0)
}

/// [`sample`], where an image that is not finite is an error: `name` says which one that is, by its row.
///
/// # Errors
/// [`Error::NotFiniteImage`] with the noise level at which its numbers were lost.
pub fn sample_finite(
    model: &Model,
    plan: &Plan,
    latents: &Tensor,
    class_labels: Option<&Tensor>,
    name: impl Fn(usize) -> String,
) -> Result<Tensor> {
    let images = sample(model, plan, latents, class_labels)?;
    let bad = images.isfinite().flatten(1, -1).all_dim(1, false).logical_not();
    if bad.any().int64_value(&[]) == 0 {
        return Ok(images);
    }
    let row = bad.to_kind(Kind::Int64).argmax(0, false).int64_value(&[]);
    let latent = latents.narrow(0, row, 1);
    let labels = class_labels
        .map(|labels| if labels.size()[0] == 1 { labels.shallow_clone() } else { labels.narrow(0, row, 1) });
    Err(Error::NotFiniteImage { which: name(row as usize), level: lost_at(model, plan, &latent, labels.as_ref())? })
}

/// The first noise level at which a state or the network's output is not finite, of a run that is made once more to see it.
fn lost_at(model: &Model, plan: &Plan, latent: &Tensor, class_labels: Option<&Tensor>) -> Result<Option<f64>> {
    let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
    let mut level = None;
    let observe = |sigma: f64, x: &Tensor, output: &Tensor| {
        if level.is_none() && !(finite(x) && finite(output)) {
            level = Some(sigma);
        }
    };
    let _ = run(model, plan, latent, class_labels, observe)?;
    Ok(level)
}

/// Images for seeds, in batches; each image depends on its seed (and class) alone.
#[derive(Clone, Copy, Debug)]
pub struct Seeded<'a> {
    /// One seed an image.
    pub seeds: &'a [u64],
    /// One class for all; `None` draws each image's class from its seed, evenly.
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
        let drawn = |seed: &u64| (random::mix(*seed, random::CLASS_STREAM) % dim as u64) as i64;
        self.seeds.iter().map(|seed| self.class.unwrap_or_else(|| drawn(seed))).collect()
    }

    /// Calls `done(first index, images)` for every batch, in order.
    ///
    /// # Errors
    /// [`Error::NotFiniteImage`] as soon as a batch holds one; those of `done`.
    pub fn run(&self, model: &Model, plan: &Plan, mut done: impl FnMut(usize, &Tensor) -> Result<()>) -> Result<()> {
        let classes = self.classes(model);
        for (index, seeds) in self.seeds.chunks(self.batch.max(1)).enumerate() {
            let start = index * self.batch.max(1);
            let labels = if classes.is_empty() { None } else { model.one_hot(&classes[start..start + seeds.len()])? };
            let latents = data::latents(seeds, model.image_shape(), model.device());
            let name = |row: usize| format!("the image of seed {}", seeds[row]);
            done(start, &sample_finite(model, plan, &latents, labels.as_ref(), name)?)?;
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
