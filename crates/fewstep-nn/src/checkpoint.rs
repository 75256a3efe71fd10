//! Networks on disk: our safetensors files and the EDM code's pickled snapshots.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use fewstep_io::atomic::OutFile;
use fewstep_io::tensors::{Dtype, TensorData, TensorMap};
use fewstep_io::{FileKind, safetensors};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::snapshot::{self, Parts};

/// Value of `format` in the metadata of our files.
const FORMAT: &str = "fewstep model 1";
/// Metadata of networks that were trained on some of their classes only: these, as a JSON list.
const CLASSES: &str = "classes_with_images";
/// What is read as a model, for messages.
const MODELS: &str = "a model is the model.safetensors of fewstep, or a snapshot of the EDM or EDM2 code (.pkl)";

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As they are.
    F32,
    /// Rounded to half precision: half the size, for files that are shipped.
    F16,
}

/// A network and what its file says of it.
#[derive(Debug)]
pub struct Checkpoint {
    /// The network.
    pub model: Model,
    /// Free text about the network: data set, training, licence.
    pub notes: BTreeMap<String, String>,
}

/// Reads a network: a safetensors file of ours, or a snapshot of the EDM or EDM2 code, pickled or by `torch.save`.
///
/// # Errors
/// If the file cannot be read, is damaged, or is of another kind, which is named with what to do.
pub fn load(path: &Path, device: Device) -> Result<Checkpoint> {
    let is_pickle = path.extension().is_some_and(|extension| extension == "pkl");
    let parts = match FileKind::of_file(path)? {
        FileKind::Safetensors => ours(safetensors::read(path)?, &path.display())?,
        FileKind::Pickle | FileKind::TorchSave { network: true } => snapshot::read(path)?,
        // No mark tells these from damaged files; then the name says what they were meant to be.
        FileKind::Unknown | FileKind::Text if is_pickle => snapshot::read(path)?,
        FileKind::Unknown => ours(safetensors::read(path)?, &path.display())?,
        found => return Err(Error::Checkpoint { path: path.display().to_string(), reason: other_kind(found) }),
    };
    build(parts, &path.display(), device)
}

/// What a file is that is no network, and what to do.
fn other_kind(found: FileKind) -> String {
    let advice = match found {
        FileKind::TorchSave { .. } => {
            return format!(
                "is {found}, which does not say which network it belongs to: load it into its network in Python and save that, one of \
                 the EDM code with pickle.dump({{'ema': net}}, file), any other as a program with torch.jit.save (docs/formats.md)"
            );
        }
        FileKind::TorchScript | FileKind::TorchExport | FileKind::Onnx => {
            "a program cannot be taken apart here: use the checkpoint that it was made from"
        }
        found => found.advice(),
    };
    if advice.is_empty() { format!("is {found}; {MODELS}") } else { format!("is {found}; {MODELS}; {advice}") }
}

/// Reads a network of ours from memory; `place` names it in errors.
pub fn from_bytes(bytes: &[u8], place: &str, device: Device) -> Result<Checkpoint> {
    build(ours(safetensors::read_bytes(bytes, place)?, &place)?, &place, device)
}

fn build((config, tensors, notes): Parts, place: &dyn Display, device: Device) -> Result<Checkpoint> {
    let tensors = tensors.iter().map(|(name, data)| Ok((name.clone(), tensor_from(data)?))).collect::<Result<_>>()?;
    let fail =
        |what: String| Error::Checkpoint { path: place.to_string(), reason: format!("is not a usable model: {what}") };
    let mut model = Model::from_tensors(config, tensors, device).map_err(|error| fail(error.to_string()))?;
    if let Some(text) = notes.get(CLASSES) {
        let classes =
            serde_json::from_str(text).map_err(|error| fail(format!("its '{CLASSES}' cannot be read: {error}")))?;
        model = model.with_trained_classes(classes).map_err(|error| fail(format!("in its '{CLASSES}', {error}")))?;
    }
    Ok(Checkpoint { model, notes })
}

fn ours(mut file: safetensors::File, place: &dyn Display) -> Result<Parts> {
    let fail = |reason: String| Error::Checkpoint { path: place.to_string(), reason };
    match file.metadata.remove("format") {
        Some(format) if format == FORMAT => {}
        Some(other) if other.starts_with("fewstep model ") => {
            return Err(fail(format!(
                "is a '{other}', which this version ({FORMAT}) cannot read; use a newer fewstep"
            )));
        }
        _ => {
            return Err(fail(format!(
                "is a safetensors file without the metadata of a fewstep model, so that its architecture is not known; {MODELS}"
            )));
        }
    }
    let config = file
        .metadata
        .remove("config")
        .ok_or_else(|| fail("is not a usable model: its metadata has no 'config'".to_owned()))?;
    let config = serde_json::from_str(&config)
        .map_err(|error| fail(format!("is not a usable model: its architecture cannot be read: {error}")))?;
    Ok((config, file.tensors, file.metadata.into_iter().collect()))
}

/// Writes `model` with its architecture in the metadata and its tensors under the EDM code's names.
///
/// # Errors
/// If a weight does not fit the storage, or the file cannot be written.
pub fn save<'a>(
    out: impl Into<OutFile<'a>>,
    model: &Model,
    storage: Storage,
    notes: &BTreeMap<String, String>,
) -> Result<()> {
    let (tensors, metadata) = file(model, storage, notes)?;
    Ok(safetensors::write(out, &tensors, &metadata)?)
}

/// The bytes that [`save`] writes.
///
/// # Errors
/// If a weight does not fit the storage.
pub fn to_bytes(model: &Model, storage: Storage, notes: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let (tensors, metadata) = file(model, storage, notes)?;
    Ok(safetensors::to_bytes(&tensors, &metadata)?)
}

fn file(
    model: &Model,
    storage: Storage,
    notes: &BTreeMap<String, String>,
) -> Result<(TensorMap, safetensors::Metadata)> {
    let mut metadata = notes.clone();
    metadata.insert("format".to_owned(), FORMAT.to_owned());
    metadata.insert("config".to_owned(), serde_json::to_string(model.config()).unwrap_or_default());
    if let Some(classes) = model.trained_classes() {
        metadata.insert(CLASSES.to_owned(), serde_json::to_string(classes).unwrap_or_default());
    }
    let mut tensors = TensorMap::default();
    for (name, param) in model.params().iter() {
        // Buffers are exact by definition and small: they stay as they are.
        let halved = storage == Storage::F16 && param.trainable;
        let stored = param.tensor.detach().f_to_kind(if halved { Kind::Half } else { Kind::Float })?;
        if halved && stored.f_isfinite()?.f_all()?.int64_value(&[]) == 0 {
            let value = param.tensor.detach().f_abs()?.f_max()?.double_value(&[]);
            return Err(Error::TooLargeForHalf { name: name.to_owned(), value });
        }
        tensors.insert(name.to_owned(), tensor_data(&stored)?);
    }
    Ok((tensors, metadata.into_iter().collect()))
}

/// A tensor as bytes.
pub fn tensor_data(tensor: &Tensor) -> Result<TensorData> {
    let dtype = match tensor.kind() {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        Kind::Uint8 => Dtype::U8,
        other => return Err(Error::Input(format!("tensors of type {other:?} are not stored"))),
    };
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0u8; tensor.numel() * dtype.size()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    let shape = tensor.size().iter().map(|&size| size as usize).collect();
    Ok(TensorData::new(dtype, shape, bytes)?)
}

/// Bytes as a tensor on the CPU.
pub fn tensor_from(data: &TensorData) -> Result<Tensor> {
    let kind = match data.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::U8 => Kind::Uint8,
        other => return Err(Error::Input(format!("tensors of type {other:?} are not supported in a network"))),
    };
    let shape: Vec<i64> = data.shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_data_size(&data.bytes, &shape, kind)?)
}
