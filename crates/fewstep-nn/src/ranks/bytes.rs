//! Tensors as processes send them to one another.

use std::collections::BTreeMap;

use fewstep_io::safetensors;
use fewstep_io::tensors::TensorMap;
use tch::Tensor;

use crate::checkpoint::{tensor_data, tensor_from};
use crate::error::{Error, Result};

/// What a process has made of its items of a round.
pub(super) struct Made {
    lengths: std::vec::IntoIter<i64>,
    tensors: std::vec::IntoIter<Tensor>,
}

impl Made {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut tensors = from_bytes(bytes)?.into_iter();
        let lengths = tensors.next().map(|lengths| Ok::<_, Error>(Vec::<i64>::try_from(lengths)?)).transpose()?;
        Ok(Self { lengths: lengths.unwrap_or_default().into_iter(), tensors })
    }

    /// Of the next item.
    pub(super) fn next(&mut self) -> Vec<Tensor> {
        let length = self.lengths.next().unwrap_or(0) as usize;
        self.tensors.by_ref().take(length).collect()
    }
}

/// The name of a tensor of a list.
fn name(at: usize) -> String {
    at.to_string()
}

/// Of tensors, as they are sent.
pub(super) fn to_bytes(tensors: &[Tensor]) -> Result<Vec<u8>> {
    let named = tensors.iter().enumerate().map(|(at, tensor)| Ok((name(at), tensor_data(tensor)?)));
    Ok(safetensors::to_bytes(&named.collect::<Result<TensorMap>>()?, &BTreeMap::default())?)
}

/// The reverse.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Vec<Tensor>> {
    let file = safetensors::read_bytes(bytes, "what another process sent")?;
    // a file has them in an order of its own
    let tensors = (0..file.tensors.len()).map_while(|at| file.tensors.get(&name(at)));
    tensors.map(tensor_from).collect()
}
