//! Teachers of searches kept in files.

use std::path::Path;

use fewstep_core::schedule::Schedule;
use fewstep_core::space::Samples;
use fewstep_io::safetensors;
use fewstep_io::tensors::TensorMap;
use fewstep_search::{Endpoints, Teacher};
use tch::Device;

use crate::checkpoint::{tensor_data, tensor_from};
use crate::error::{Error, Result};
use crate::tensor::Batch;

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
    let ends = Endpoints { samples: latent.samples(), latent, mean: None, image: tensor(IMAGE)? };
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
