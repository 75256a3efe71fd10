//! Inception's weights under one set of names, whatever file they come from.

use fewstep_io::tensors::{Dtype, TensorMap};
use fewstep_io::{hash, safetensors};
use fewstep_nn::checkpoint::tensor_from;
use fewstep_nn::tch::{Device, Kind, Tensor};

use super::names::{self, FIRST};
use super::{NAME, blocks};
use crate::error::{Error, Result};
use crate::features::file;

/// Added to a variance before its root is taken.
const BN_EPS: f64 = 1e-3;
/// Shape of the classifier's weight.
const CLASSIFIER: [i64; 2] = [1008, 2048];

/// Tensors that are not Inception's.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The first of its tensors is missing.
    #[error("it has no tensor `{FIRST}`: it does not hold the Inception-v3 network of 2015-12-05")]
    Missing,
    /// A tensor cannot be used.
    #[error(transparent)]
    Tensor(#[from] fewstep_io::Error),
}

/// The tensors that the network uses, f32, by name in name order.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    tensors: TensorMap,
}

impl Weights {
    /// Picks the network's tensors out of `tensors`, named as in torchvision or as in pytorch-fid's module, perhaps after a
    /// shared prefix. Counters of batches, auxiliary classifiers and the classifier's bias are left out.
    ///
    /// # Errors
    /// If there is no such network or a weight is not finite.
    pub fn from_tensors(tensors: &TensorMap) -> std::result::Result<Self, WeightsError> {
        let named = names::in_torchvision_style(tensors.keys().map(String::as_str)).ok_or(WeightsError::Missing)?;
        let mut picked: Vec<_> = named.into_iter().filter(|(_, name)| is_used(name)).collect();
        picked.sort_by(|(_, a), (_, b)| a.cmp(b));
        let mut kept = TensorMap::new();
        for (stored, name) in picked {
            let data = tensors[stored].cast(Dtype::F32)?;
            data.check_finite(&name)?;
            kept.insert(name, data);
        }
        Ok(Self { tensors: kept })
    }

    /// The tensors by torchvision's names, in name order.
    pub fn tensors(&self) -> &TensorMap {
        &self.tensors
    }

    /// The safetensors file of these weights, the same bytes for the same weights wherever they came from.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(safetensors::to_bytes(&self.tensors, &file::metadata(NAME, &Default::default()))?)
    }

    /// SHA-256 of [`Weights::to_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn sha256(&self) -> Result<String> {
        Ok(hash::sha256_bytes(&self.to_bytes()?))
    }

    /// Weight and bias of a convolution with its batch normalisation folded in:
    /// w' = w g / sqrt(var + eps), b' = beta - mean g / sqrt(var + eps), in f64.
    pub(super) fn folded(&self, name: &str, shape: [i64; 4], device: Device) -> Result<(Tensor, Tensor)> {
        let channels = [shape[0]];
        let norm = |part: &str| self.get(&format!("{name}.bn.{part}"), &channels);
        let gain = norm("weight")? * (norm("running_var")? + BN_EPS).rsqrt();
        let bias = norm("bias")? - norm("running_mean")? * &gain;
        let weight = self.get(&format!("{name}.conv.weight"), &shape)? * gain.reshape([-1, 1, 1, 1]);
        Ok((weight.to_kind(Kind::Float).to_device(device), bias.to_kind(Kind::Float).to_device(device)))
    }

    /// The classifier's weight `[1008, 2048]`, f32; some files leave it out.
    pub(super) fn classifier(&self) -> Result<Option<Tensor>> {
        if !self.tensors.contains_key("fc.weight") {
            return Ok(None);
        }
        Ok(Some(self.get("fc.weight", &CLASSIFIER)?.to_kind(Kind::Float)))
    }

    /// A tensor in f64.
    fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let data = self.tensors.get(name).ok_or_else(|| {
            Error::Input(format!("the Inception weights have no tensor `{name}`: the file is incomplete"))
        })?;
        let tensor = tensor_from(data)?;
        if tensor.size() != shape {
            let found = tensor.size();
            return Err(Error::Input(format!(
                "`{name}` of the Inception weights has shape {found:?}, not {shape:?}: it is another Inception, not that of 2015-12-05"
            )));
        }
        Ok(tensor.to_kind(Kind::Double))
    }
}

/// Name and shape of every tensor that the network is made of, in the order of its layers.
///
/// # Errors
/// If libtorch has no memory for one of them.
pub fn tensor_shapes() -> Result<Vec<(String, Vec<usize>)>> {
    let mut shapes = Vec::new();
    blocks::body(&mut |name, shape| {
        let channels = [shape[0] as usize];
        shapes.push((format!("{name}.conv.weight"), shape.map(|size| size as usize).to_vec()));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.push((format!("{name}.bn.{part}"), channels.to_vec()));
        }
        let options = (Kind::Float, Device::Cpu);
        Ok((Tensor::f_empty(shape, options)?, Tensor::f_empty([shape[0]], options)?))
    })?;
    shapes.push(("fc.weight".to_owned(), CLASSIFIER.map(|size| size as usize).to_vec()));
    Ok(shapes)
}

fn is_used(name: &str) -> bool {
    let layer = name.split('.').next().unwrap_or_default();
    let used = layer.starts_with("Conv2d_") || layer.starts_with("Mixed_") || name == "fc.weight";
    used && !name.ends_with("num_batches_tracked")
}
