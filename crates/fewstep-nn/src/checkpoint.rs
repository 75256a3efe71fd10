//! Networks on disk: our safetensors files and the EDM code's pickled snapshots.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use fewstep_io::safetensors;
use fewstep_io::tensors::{Dtype, TensorData, TensorMap};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::snapshot::{self, Parts};

/// Value of `format` in the metadata of our files.
const FORMAT: &str = "fewstep model 1";

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

/// Reads a network: a `.safetensors` file of ours, or a `.pkl` snapshot of the EDM code.
pub fn load(path: &Path, device: Device) -> Result<Checkpoint> {
    let is_snapshot = path.extension().is_some_and(|extension| extension == "pkl");
    let parts = if is_snapshot { snapshot::read(path)? } else { ours(safetensors::read(path)?, &path.display())? };
    build(parts, &path.display(), device)
}

/// Reads a network of ours from memory; `place` names it in errors.
pub fn from_bytes(bytes: &[u8], place: &str, device: Device) -> Result<Checkpoint> {
    build(ours(safetensors::read_bytes(bytes, place)?, &place)?, &place, device)
}

fn build((config, tensors, notes): Parts, place: &dyn Display, device: Device) -> Result<Checkpoint> {
    let tensors = tensors.iter().map(|(name, data)| Ok((name.clone(), tensor_from(data)?))).collect::<Result<_>>()?;
    let model = Model::from_tensors(config, tensors, device)
        .map_err(|error| Error::Checkpoint { path: place.to_string(), reason: error.to_string() })?;
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
            return Err(fail(
                "is a safetensors file, but not a fewstep model (its metadata has no such format)".to_owned(),
            ));
        }
    }
    let config = file.metadata.remove("config").ok_or_else(|| fail("its metadata has no 'config'".to_owned()))?;
    let config =
        serde_json::from_str(&config).map_err(|error| fail(format!("its architecture cannot be read: {error}")))?;
    Ok((config, file.tensors, file.metadata.into_iter().collect()))
}

/// Writes `model` with its architecture in the metadata and its tensors under the EDM code's names.
pub fn save(path: &Path, model: &Model, storage: Storage, notes: &BTreeMap<String, String>) -> Result<()> {
    let (tensors, metadata) = file(model, storage, notes)?;
    Ok(safetensors::write(path, &tensors, &metadata)?)
}

/// The bytes that [`save`] writes.
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
    let mut tensors = TensorMap::default();
    for (name, param) in model.params().iter() {
        // Buffers are exact by definition and small: they stay as they are.
        let kind = if storage == Storage::F16 && param.trainable { Kind::Half } else { Kind::Float };
        tensors.insert(name.to_owned(), tensor_data(&param.tensor.detach().to_kind(kind))?);
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
