//! Models: files of ours, snapshots of the EDM code, and the one that comes with the program.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use fewstep_io::hash;
use fewstep_nn::checkpoint::{self, Checkpoint, Storage};
use fewstep_nn::tch::{Device, Kind};
use fewstep_nn::{Model, mixture};

use crate::suggest::nearest;

/// Name of the model that comes with the program.
pub const BUILT_IN: &str = "fashion-mnist";
/// Names of the mixtures of Gaussians, whose denoisers are exact: unconditional, and with a class for each component.
pub const MIXTURES: [&str; 2] = ["gaussian-mixture", "gaussian-mixture-classes"];

/// A model ready to run and where it came from.
#[derive(Debug)]
pub struct OpenModel {
    /// The network.
    pub model: Model,
    /// What was asked for.
    pub name: String,
    /// SHA-256 of its file.
    pub hash: String,
    /// What its file says of it.
    pub notes: BTreeMap<String, String>,
}

/// Whether a name means a built-in model; a file of that name, or a folder of it with a model inside, comes first. (A folder of
/// images may well be called so.)
pub fn is_built_in(name: &str) -> bool {
    let path = Path::new(name);
    (name == BUILT_IN || MIXTURES.contains(&name)) && !path.is_file() && !path.join("model.safetensors").exists()
}

/// Opens a model by path (of its file, or of a run folder with one), or a built-in one by name.
pub fn open_model(name: &str, device: Device, kind: Kind) -> Result<OpenModel> {
    if !is_built_in(name) {
        let folder = Path::new(name).join("model.safetensors");
        let path = if folder.exists() { folder.as_path() } else { Path::new(name) };
        if path.is_dir() {
            bail!("{name} is a folder without a model.safetensors: name the model's file");
        }
        if path.exists() {
            let checkpoint = checkpoint::load(path, device)?;
            return Ok(opened(checkpoint, name, hash::sha256_file(path)?, kind));
        }
    }
    if name == BUILT_IN {
        let bytes = crate::assets::MODEL;
        return Ok(opened(checkpoint::from_bytes(bytes, name, device)?, name, hash::sha256_bytes(bytes), kind));
    }
    if MIXTURES.contains(&name) {
        let model = mixture::patterns(name == MIXTURES[1], device)?;
        let notes = BTreeMap::from([("about".to_owned(), "an exact denoiser, to try things on".to_owned())]);
        let hash = hash::sha256_bytes(&checkpoint::to_bytes(&model, Storage::F32, &notes)?);
        return Ok(opened(Checkpoint { model, notes }, name, hash, kind));
    }
    let known = [BUILT_IN, MIXTURES[0], MIXTURES[1]];
    match nearest(name, known) {
        Some(near) => bail!("there is no model file {name}; did you mean the built-in model {near}?"),
        None => bail!("there is no model file {name} (built-in models are called {})", known.join(", ")),
    }
}

fn opened(checkpoint: Checkpoint, name: &str, hash: String, kind: Kind) -> OpenModel {
    OpenModel { model: checkpoint.model.with_kind(kind), name: name.to_owned(), hash, notes: checkpoint.notes }
}
