//! The network as fewstep-core's searches see it, and teachers kept in files.

use std::cell::Cell;
use std::path::Path;

use fewstep_core::schedule::Schedule;
use fewstep_core::search::{BoundDenoiser, Endpoints, Teacher};
use fewstep_core::space::Samples;
use fewstep_io::safetensors;
use fewstep_io::tensors::TensorMap;
use tch::{Device, Tensor};

use crate::checkpoint::{tensor_data, tensor_from};
use crate::data;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::parts::in_parts;
use crate::sample::Seeded;
use crate::tensor::Batch;
use crate::unet::Conditions;

/// A network and the latents that a search looks at: one sample a seed, each with its class.
#[derive(Debug)]
pub struct Network<'a> {
    model: &'a Model,
    class_labels: Option<Tensor>,
    latents: Batch,
    batch: usize,
    evaluations: Cell<u64>,
}

impl<'a> Network<'a> {
    /// The latents of `seeds`, evaluated `batch` at once.
    pub fn new(model: &'a Model, seeds: &[u64], batch: usize) -> Result<Self> {
        let classes = Seeded { seeds, class: None, batch }.classes(model);
        let class_labels = if classes.is_empty() { None } else { model.one_hot(&classes)? };
        let latents = Batch(data::latents(seeds, model.image_shape(), model.device()));
        Ok(Self { model, class_labels, latents, batch, evaluations: Cell::new(0) })
    }

    /// The model.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// Unit normal noise, `[N, C, H, W]`.
    pub fn latents(&self) -> &Batch {
        &self.latents
    }

    /// `[N, label_dim]`, one-hot; none for unconditional models.
    pub fn class_labels(&self) -> Option<&Tensor> {
        self.class_labels.as_ref()
    }

    /// Samples at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Evaluations of single images so far; one with a gradient counts as three.
    pub fn evaluations(&self) -> u64 {
        self.evaluations.get()
    }

    /// `D(x; sigma)` of one vector a latent.
    pub fn denoised(&self, x: &Batch, sigma: f64) -> Result<Batch> {
        let outputs = self.model.denoise_in_parts(&x.0, sigma, self.class_labels(), self.batch);
        self.evaluations.set(self.evaluations.get() + x.samples() as u64);
        Ok(Batch(outputs))
    }

    /// `D(x; sigma)` of several vectors a latent, each at a level of its own, in batches that they fill together: what
    /// [`fewstep_core::execute_together`] asks for.
    pub fn denoised_together(&self, asked: &[(&Batch, f64)]) -> Result<Vec<Batch>> {
        let (several, latents) = (asked.len() as i64, self.latents.samples() as i64);
        if several < 2 {
            return asked.iter().map(|(x, sigma)| self.denoised(x, *sigma)).collect();
        }
        let x = Tensor::f_cat(&asked.iter().map(|(x, _)| &x.0).collect::<Vec<_>>(), 0)?;
        let levels: Vec<f32> = asked.iter().map(|(_, sigma)| *sigma as f32).collect();
        let levels = Tensor::from_slice(&levels).f_repeat_interleave_self_int(latents, 0, several * latents)?;
        let labels = self.class_labels.as_ref().map(|labels| labels.repeat([several, 1]));
        let levels = levels.split(self.batch.max(1) as i64, 0);
        let of_part = |((x, labels), level): ((Tensor, Option<Tensor>), Tensor)| {
            let conditions = Conditions { class_labels: labels.as_ref(), ..Conditions::default() };
            tch::no_grad(|| self.model.denoise(&x, &level, &conditions))
        };
        let parts = in_parts(&x, labels.as_ref(), self.batch).into_iter().zip(levels);
        let outputs = Tensor::f_cat(&parts.map(of_part).collect::<Vec<_>>(), 0)?;
        self.evaluations.set(self.evaluations.get() + (several * latents) as u64);
        Ok(outputs.split(latents, 0).into_iter().map(Batch).collect())
    }
}

impl BoundDenoiser<Batch> for Network<'_> {
    type Error = Error;

    fn denoised(&mut self, x: &Batch, sigma: f64) -> Result<Batch> {
        Network::denoised(self, x, sigma)
    }

    fn pullback(&mut self, x: &Batch, sigma: f64, cotangent: &Batch) -> Result<(Batch, f64)> {
        let parts = in_parts(&x.0, self.class_labels.as_ref(), self.batch);
        let cotangents = cotangent.0.split(self.batch.max(1) as i64, 0);
        let (mut d_x, mut d_sigma) = (Vec::with_capacity(parts.len()), 0.0);
        for ((x, labels), cotangent) in parts.iter().zip(cotangents) {
            let x = x.detach().copy().set_requires_grad(true);
            let level = Tensor::from_slice(&[sigma as f32]).to_device(self.model.device()).set_requires_grad(true);
            let conditions = Conditions { class_labels: labels.as_ref(), ..Conditions::default() };
            let product = (self.model.denoise(&x, &level, &conditions) * cotangent).sum(tch::Kind::Float);
            let slopes = Tensor::f_run_backward(&[product], &[&x, &level], false, false)?;
            d_sigma += slopes[1].double_value(&[0]);
            d_x.push(slopes[0].shallow_clone());
        }
        self.evaluations.set(self.evaluations.get() + 3 * x.samples() as u64);
        Ok((Batch(Tensor::cat(&d_x, 0)), d_sigma))
    }
}

/// Writes a teacher's trajectories, and under `key` what they depend on.
pub fn save_teacher(teacher: &Teacher<Batch>, key: &str, path: &Path) -> Result<()> {
    let mut tensors = TensorMap::new();
    let ends = teacher.ends();
    tensors.insert(LATENT.to_owned(), tensor_data(&ends.latent.0)?);
    tensors.insert(IMAGE.to_owned(), tensor_data(&ends.image.0)?);
    for (j, state) in teacher.states().iter().enumerate() {
        tensors.insert(state_name(j), tensor_data(&state.0)?);
    }
    let metadata = [
        (KEY, key.to_owned()),
        (GRID, serde_json::to_string(teacher.grid()).unwrap_or_default()),
        (EVALUATIONS, teacher.evaluations().to_string()),
    ];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    Ok(safetensors::write(path, &tensors, &metadata)?)
}

/// Reads trajectories that [`save_teacher`] wrote under the same `key`.
///
/// # Errors
/// If the file is none of ours, or was written for another model or with other settings.
pub fn load_teacher(key: &str, path: &Path, device: Device) -> Result<Teacher<Batch>> {
    let place = path.display().to_string();
    let fail = |reason: String| Error::Checkpoint { path: place.clone(), reason };
    let file = safetensors::read(path)?;
    let text =
        |name: &str| file.metadata.get(name).ok_or_else(|| fail(format!("holds no teacher: it has no '{name}'")));
    if text(KEY)? != key {
        return Err(fail(
            "holds the teacher of another model, or one made with other settings; remove it to make it anew".to_owned(),
        ));
    }
    let grid: Schedule =
        serde_json::from_str(text(GRID)?).map_err(|error| fail(format!("has a damaged grid: {error}")))?;
    let evaluations = text(EVALUATIONS)?.parse().map_err(|_| fail("has a damaged count of evaluations".to_owned()))?;
    let tensor = |name: &str| {
        let tensor = file.tensors.get(name).ok_or_else(|| fail(format!("has no '{name}'")))?;
        Ok::<_, Error>(Batch(tensor_from(tensor)?.to_device(device)))
    };
    let latent = tensor(LATENT)?;
    let ends = Endpoints { samples: latent.samples(), latent, held: None, image: tensor(IMAGE)? };
    let states = (0..grid.len()).map(|j| tensor(&state_name(j))).collect::<Result<Vec<_>>>()?;
    if states.iter().chain([&ends.image]).any(|state| state.0.size() != ends.latent.0.size()) {
        return Err(fail("has trajectories of different shapes".to_owned()));
    }
    Teacher::from_parts::<Error>(grid, states, ends, evaluations)
        .map_err(|error| fail(format!("cannot be used: {error}")))
}

const KEY: &str = "teacher";
const GRID: &str = "grid";
const EVALUATIONS: &str = "evaluations";
const LATENT: &str = "latent";
const IMAGE: &str = "image";

fn state_name(j: usize) -> String {
    format!("state.{j}")
}
