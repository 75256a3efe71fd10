//! `fewstep info`: what a file is, in words.

mod arrays;
mod data;
mod facts;
mod model;
mod plan;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use fewstep_core::plan::Plan;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{FileKind, json, npz, safetensors, torch_zip};
use fewstep_nn::checkpoint::Checkpoint;
use fewstep_nn::tch::{Device, Kind};
use serde_json::Value;

pub use self::facts::Info;
pub use self::model::describe_model;
use crate::inputs::{is_built_in, open_model};
use crate::ui::{self, Output};

/// Arguments of `fewstep info`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep info edm-cifar10.pkl plan.json runs/fashion/ cifar10.zip")]
pub struct Args {
    /// Models (or a built-in one by name), snapshots, plans, run folders, data sets, statistics, arrays, feature networks
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Describes each file; goes on after one that it cannot read.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (mut texts, mut values, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for path in &args.files {
        match describe(path) {
            Ok(info) => {
                texts.push(info.to_text(path, output.colour()));
                values.push(info.to_json(path));
            }
            Err(error) => errors.push(error),
        }
    }
    if !values.is_empty() {
        output.result(&values, || texts.join("\n"))?;
    }
    if args.files.len() == 1 {
        return errors.pop().map_or(Ok(()), Err);
    }
    errors.iter().for_each(ui::error);
    ensure!(errors.is_empty(), "{} of {} files could not be described", errors.len(), args.files.len());
    Ok(())
}

fn describe(path: &Path) -> Result<Info> {
    if let Some(name) = path.to_str().filter(|name| is_built_in(name) && !path.exists()) {
        let opened = open_model(name, Device::Cpu, Kind::Float)?;
        let checkpoint = Checkpoint { model: opened.model, notes: opened.notes };
        return Ok(describe_model("built-in model", &checkpoint).fact("sha256", opened.hash));
    }
    ensure!(path.exists(), "{} does not exist: check the path", path.display());
    if path.join(RUN_FILE).is_file() {
        return run::describe(path);
    }
    if !path.is_file() {
        return data::describe(path);
    }
    match FileKind::of_file(path)? {
        FileKind::Json => from_json(path),
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
fn by_name(path: &Path) -> Result<Info> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("json") => from_json(path),
        Some("safetensors") => from_safetensors(path),
        Some("pkl") => model::snapshot(path),
        Some("npz") => arrays::npz(path, &npz::read_all(path)?),
        Some("pt" | "pth") => Ok(arrays::tensors("PyTorch file of tensors", &torch_zip::read(path)?)),
        _ => data::describe(path),
    }
}

fn from_json(path: &Path) -> Result<Info> {
    if path.file_name().is_some_and(|name| name == RUN_FILE) {
        return run::describe(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    }
    let text = read_text(path)?;
    match Plan::from_json(&text) {
        Ok(plan) => Ok(plan::describe(&plan)),
        Err(error) => bail!("{} cannot be described: {error}", path.display()),
    }
}

fn read_text(path: &Path) -> Result<String> {
    Ok(json::read_text(path)?)
}

fn from_safetensors(path: &Path) -> Result<Info> {
    let header = safetensors::read_header(path)?;
    match header.metadata.get("format").map(String::as_str) {
        Some(format) if format.starts_with("fewstep model ") => model::ours(path, &header),
        Some(format) if format.starts_with("fewstep features ") => Ok(model::features(path, &header)?),
        Some(format) if format.starts_with("fewstep ") => {
            let metadata = header.metadata.iter().filter(|(key, _)| *key != "format");
            let mut info = Info::new(format.trim_start_matches("fewstep "));
            for (key, text) in metadata {
                info = info.fact(key, serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
            }
            Ok(arrays::header_table(info, &header))
        }
        _ => Ok(arrays::header_table(Info::new("safetensors file of another program"), &header)),
    }
}
