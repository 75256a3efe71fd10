//! Teachers of searches kept in files.

use std::path::Path;

use fewstep_core::denoiser::{Shared, Spread};
use fewstep_core::schedule::Schedule;
use fewstep_core::space::Samples;
use fewstep_io::safetensors;
use fewstep_io::tensors::TensorMap;
use fewstep_search::{Endpoints, Teacher};
use tch::Tensor;

use crate::checkpoint::{tensor_data, tensor_from};
use crate::denoiser::TorchDenoiser;
use crate::error::{Error, Result};
use crate::ranks::Ranks;
use crate::tensor::Batch;

/// Writes a teacher's trajectories, of all samples, under `key` what they depend on, and how many evaluations of single samples were
/// `spent` on them.
///
/// # Errors
/// If the file cannot be written, or another of the processes has gone.
pub fn save_teacher(teacher: &Teacher<Shared<Batch>>, key: &str, spent: u64, path: &Path, ranks: &Ranks) -> Result<()> {
    let mut tensors = TensorMap::new();
    let ends = teacher.ends();
    let states = teacher.states().iter().enumerate().map(|(j, state)| (state_name(j), state));
    for (name, batch) in [(LATENT.to_owned(), &ends.latent), (IMAGE.to_owned(), &ends.image)].into_iter().chain(states)
    {
        tensors.insert(name, tensor_data(&ranks.whole(batch)?)?);
    }
    let metadata = [
        (KEY, key.to_owned()),
        (GRID, serde_json::to_string(teacher.grid()).unwrap_or_default()),
        (EVALUATIONS, teacher.evaluations().to_string()),
        (SPENT, spent.to_string()),
    ];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    Ok(safetensors::write(path, &tensors, &metadata)?)
}

/// Evaluations of single samples that were spent on the teacher of a file; none where it does not say.
///
/// # Errors
/// If the file cannot be read.
pub fn spent_on(path: &Path) -> Result<Option<u64>> {
    let header = safetensors::read_header(path)?;
    Ok(header.metadata.get(SPENT).and_then(|spent| spent.parse().ok()))
}

/// Reads trajectories that [`save_teacher`] wrote under the same `key`, from the latents of `seeds`.
///
/// # Errors
/// If the file is none of ours, or was written for another model or with other settings.
pub fn load_teacher<D: TorchDenoiser>(
    key: &str,
    path: &Path,
    denoiser: &Spread<D>,
    seeds: &[u64],
) -> Result<Teacher<Shared<Batch>>> {
    let own: Vec<i64> = (0..).zip(denoiser.own_places(seeds)).filter(|(_, own)| *own).map(|(place, _)| place).collect();
    let (own, device) = (Tensor::from_slice(&own), denoiser.inner().device());
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
        let all = tensor_from(tensor)?;
        let size = all.size();
        if size.first() != Some(&(seeds.len() as i64)) {
            return Err(fail(format!("has trajectories of shape {size:?}, and not {} of them", seeds.len())));
        }
        let shape = &denoiser.inner().spec().shape;
        if !size[1..].iter().map(|size| *size as usize).eq(shape.iter().copied()) {
            return Err(fail(format!("has samples of shape {:?}, but the model's are {shape:?}", &size[1..])));
        }
        if !all.is_floating_point() {
            return Err(fail(format!("has trajectories of {:?} values, not of floats", all.kind())));
        }
        Ok::<_, Error>(denoiser.shared(Batch(all.f_index_select(0, &own)?.f_to_device(device)?), seeds))
    };
    let latent = tensor(LATENT)?;
    let ends = Endpoints { samples: latent.samples(), latent, mean: None, image: tensor(IMAGE)? };
    let states = (0..grid.len()).map(|j| tensor(&state_name(j))).collect::<Result<Vec<_>>>()?;
    Teacher::from_parts::<Error>(grid, states, ends, evaluations)
        .map_err(|error| fail(format!("cannot be used: {error}")))
}

const KEY: &str = "teacher";
const GRID: &str = "grid";
const EVALUATIONS: &str = "evaluations";
const SPENT: &str = "spent";
const LATENT: &str = "latent";
const IMAGE: &str = "image";

fn state_name(j: usize) -> String {
    format!("state.{j}")
}
