//! Averages of the weights of several lengths, at the end and on the way.
//!
//! Which length is best differs by network, data and learning rate, and is known after training alone (Karras et al. 2024, section 3).

use std::collections::BTreeMap;

use fewstep_io::safetensors::Metadata;
use fewstep_io::tensors::TensorMap;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::checkpoint::{tensor_data, tensor_from};
use crate::ema::{self, EmaConfig};
use crate::error::Result;
use crate::flat::unflatten;
use crate::tunable::Tunable;

/// Which averages phase 2 keeps beside its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptAverages {
    /// Their half-lives in training images.
    pub halflives_images: Vec<f64>,
    /// The updates after which they are kept, rising.
    pub after: Vec<u64>,
}

/// An average of the weights that phase 2 went through.
#[derive(Debug)]
pub struct Average {
    /// Updates made when it was kept.
    pub updates: u64,
    /// Training images after which a weight's share has halved.
    pub halflife_images: f64,
    /// The trainable weights, f32, flat, in name order.
    weights: Tensor,
}

impl Average {
    /// A copy of `network`, whose weights were tuned, with these.
    ///
    /// # Errors
    /// If they are of another network.
    pub fn network<M: Tunable>(&self, network: &M) -> Result<M> {
        let averaged = network.duplicate()?;
        unflatten(&self.weights, averaged.params())?;
        Ok(averaged)
    }
}

/// Averages while a network is tuned.
#[derive(Debug)]
pub(super) struct Averages {
    which: KeptAverages,
    /// One of each half-life.
    running: Vec<Tensor>,
    /// By updates and index of the half-life.
    kept: BTreeMap<(u64, usize), Tensor>,
}

const KEY: &str = "averages";

impl Averages {
    /// Averages that start from `weights`, flat.
    pub(super) fn new(which: KeptAverages, weights: &Tensor) -> Self {
        let running = which.halflives_images.iter().map(|_| weights.copy()).collect();
        Self { which, running, kept: BTreeMap::new() }
    }

    /// Takes in the weights after update number `iteration`, of a `batch` of images.
    pub(super) fn update(&mut self, weights: &Tensor, iteration: u64, batch: u64) {
        for (index, (average, &halflife_images)) in
            self.running.iter_mut().zip(&self.which.halflives_images).enumerate()
        {
            let config = EmaConfig { halflife_images, rampup_ratio: None };
            ema::update(average, weights, config.beta(iteration * batch, batch));
            if self.which.after.contains(&iteration) {
                self.kept.insert((iteration, index), average.copy());
            }
        }
    }

    /// What was kept, by rising updates and in the order of the half-lives.
    pub(super) fn kept(&self) -> impl Iterator<Item = Average> {
        self.kept.iter().map(|(&(updates, index), weights)| Average {
            updates,
            halflife_images: self.which.halflives_images[index],
            weights: weights.shallow_clone(),
        })
    }

    /// Adds them to a state.
    pub(super) fn save(&self, tensors: &mut TensorMap, metadata: &mut Metadata) -> Result<()> {
        metadata.insert(KEY.to_owned(), serde_json::to_string(&self.which).unwrap_or_default());
        for (index, average) in self.running.iter().enumerate() {
            tensors.insert(format!("{KEY}.{index}"), tensor_data(average)?);
        }
        for ((updates, index), average) in &self.kept {
            tensors.insert(format!("{KEY}.{index}.{updates}"), tensor_data(average)?);
        }
        Ok(())
    }

    /// Takes them from a state of so many updates; what does not fit is told by a reason.
    pub(super) fn load(
        &mut self,
        tensors: &TensorMap,
        metadata: &Metadata,
        iteration: u64,
    ) -> std::result::Result<(), String> {
        let which = serde_json::to_string(&self.which).unwrap_or_default();
        if metadata.get(KEY) != Some(&which) {
            return Err("it keeps other averages".to_owned());
        }
        let tensor = |name: String, like: &Tensor| {
            let data = tensors.get(&name).ok_or_else(|| format!("it has no '{name}'"))?;
            let loaded = tensor_from(data).map_err(|error| error.to_string())?;
            if loaded.size() != like.size() {
                return Err(format!("'{name}' is of another network"));
            }
            Ok(loaded.to_device(like.device()))
        };
        let mut kept = BTreeMap::new();
        let mut running = Vec::with_capacity(self.running.len());
        for (index, average) in self.running.iter().enumerate() {
            running.push(tensor(format!("{KEY}.{index}"), average)?);
            for &updates in self.which.after.iter().filter(|&&updates| updates <= iteration) {
                kept.insert((updates, index), tensor(format!("{KEY}.{index}.{updates}"), average)?);
            }
        }
        (self.running, self.kept) = (running, kept);
        Ok(())
    }
}
