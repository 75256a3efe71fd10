//! Models: files of ours, snapshots of the EDM code, and the one that comes with the program.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use fewstep_io::hash;
use fewstep_nn::tch::{Device, Kind};
use fewstep_nn::{Model, checkpoint};

/// Name of the model that comes with the program.
pub const BUILT_IN: &str = "fashion-mnist";

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

/// Opens a model by path, or the built-in one by name.
pub fn open_model(name: &str, device: Device, kind: Kind) -> Result<OpenModel> {
    let path = Path::new(name);
    let (checkpoint, hash) = if name == BUILT_IN && !path.exists() {
        let bytes = crate::assets::MODEL;
        (checkpoint::from_bytes(bytes, name, device)?, hash::sha256_bytes(bytes))
    } else {
        ensure!(path.exists(), "there is no model file {name} (the built-in model is called {BUILT_IN})");
        (checkpoint::load(path, device)?, hash::sha256_file(path)?)
    };
    Ok(OpenModel { model: checkpoint.model.with_kind(kind), name: name.to_owned(), hash, notes: checkpoint.notes })
}
