//! What a file is, in words and as data.

mod arrays;
mod data;
mod facts;
mod model;
mod plan;
mod run;

use std::path::Path;

use fewstep_core::plan::Plan;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{FileKind, json as json_text, npz, safetensors, torch_zip};
use serde_json::{Value, json};

pub use self::facts::Description;
pub(crate) use self::facts::printable;
pub use self::model::of_model;
use crate::error::{Context, Result, ensure};
use crate::models::{ModelOptions, is_built_in, open_model};
use crate::pixels;

/// Says what a file or folder is: a model (or a built-in one by name), a snapshot, a plan, a run folder, a data set, statistics,
/// arrays, a feature network. Nothing in it is executed.
///
/// # Errors
/// If it is none of these, or damaged.
pub fn describe(path: &Path) -> Result<Description> {
    if let Some(name) = path.to_str().filter(|name| is_built_in(name) && !path.exists()) {
        let opened = open_model(name, &ModelOptions::default())?;
        return Ok(
            of_model("built-in model", opened.tunable()?.model(), &opened.notes).fact("sha256", opened.hash.as_str())
        );
    }
    ensure!(path.exists(), "{} does not exist: check the path", path.display());
    if path.join(RUN_FILE).is_file() {
        return run::describe(path);
    }
    if !path.is_file() {
        return data::describe(path);
    }
    match FileKind::of_file(path)? {
        FileKind::Json => json(path),
        FileKind::Safetensors => from_safetensors(path),
        FileKind::Pickle | FileKind::TorchSave { network: true } => model::snapshot(path),
        FileKind::Npz => arrays::npz(path, &npz::read_all(path)?),
        FileKind::TorchSave { .. } | FileKind::TorchScript => {
            Ok(arrays::tensors("PyTorch file of tensors", &torch_zip::read(path)?))
        }
        _ => by_name(path),
    }
}

/// A file without a mark of its kind, which may be a damaged one: its name says what it was meant to be.
fn by_name(path: &Path) -> Result<Description> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("json") => json(path),
        Some("safetensors") => from_safetensors(path),
        Some("pkl") => model::snapshot(path),
        Some("npz") => arrays::npz(path, &npz::read_all(path)?),
        Some("pt" | "pth") => Ok(arrays::tensors("PyTorch file of tensors", &torch_zip::read(path)?)),
        _ => data::describe(path),
    }
}

fn json(path: &Path) -> Result<Description> {
    if path.file_name().is_some_and(|name| name == RUN_FILE) {
        return run::describe(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    }
    let text = json_text::read_text(path)?;
    let plan = Plan::from_json(&text).with_context(|| format!("{} cannot be described", path.display()))?;
    Ok(plan::describe(&plan))
}

fn from_safetensors(path: &Path) -> Result<Description> {
    let header = safetensors::read_header(path)?;
    match header.metadata.get("format").map(String::as_str) {
        Some(format) if format.starts_with("fewstep model ") => model::ours(path, &header),
        Some(format) if format.starts_with("fewstep features ") => Ok(model::features(path, &header)?),
        Some(format) if format.starts_with("fewstep ") => {
            let metadata = header.metadata.iter().filter(|(key, _)| *key != "format");
            let mut info = Description::new(format.trim_start_matches("fewstep "));
            for (key, text) in metadata {
                info = info.fact(key, serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
            }
            Ok(arrays::header_table(info, &header))
        }
        _ => Ok(arrays::header_table(Description::new("safetensors file of another program"), &header)),
    }
}

/// Adds the shape of one sample: of images in words, of anything else as it is.
fn of_shape(description: Description, shape: &[usize]) -> Description {
    match *shape {
        [channels @ (1 | 3), height, width] => {
            description.told("images", json!(shape), pixels::words([channels, height, width]))
        }
        _ => description.told("samples", json!(shape), format!("{}, which are no images", by(shape))),
    }
}

/// A shape in words: `4x8x8`.
fn by(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
