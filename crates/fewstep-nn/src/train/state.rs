//! A training run on disk: everything that the next update depends on.

use std::path::Path;

use fewstep_io::safetensors::{self, File, Metadata};
use fewstep_io::tensors::TensorMap;
use tch::Tensor;

use super::Trainer;
use crate::checkpoint::{tensor_data, tensor_from};
use crate::critic::Critic;
use crate::error::{Error, Result};
use crate::tunable::Tunable;

/// Says in a file what it is. 2: random numbers of our own, where 1 had libtorch's.
const FORMAT: &str = "fewstep training state 2";

impl<M: Tunable> Trainer<'_, M> {
    /// By the names that they have in the file.
    fn vectors(&mut self) -> Vec<(&'static str, &mut Tensor)> {
        let own = [
            ("weights", &mut self.weights.values),
            ("average", &mut self.average),
            ("adam.mean", &mut self.adam.mean),
            ("adam.square", &mut self.adam.square),
        ];
        own.into_iter().chain(self.critic.iter_mut().flat_map(Critic::vectors)).collect()
    }

    /// The run as tensors and text.
    pub fn state(&mut self) -> Result<(TensorMap, Metadata)> {
        let metadata = [
            ("format", FORMAT.to_owned()),
            ("config", serde_json::to_string(&self.config).unwrap_or_default()),
            ("model", self.model.description()),
            ("iteration", self.iteration.to_string()),
            ("images", self.seen.to_string()),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
        let tensors = self.vectors().into_iter().map(|(name, tensor)| Ok((name.to_owned(), tensor_data(tensor)?)));
        Ok((tensors.collect::<Result<_>>()?, metadata))
    }

    /// Takes up a run from its [`Trainer::state`]; `place` names it in errors.
    pub fn restore(&mut self, state: &File, place: &str) -> Result<()> {
        let fail = |reason: String| Error::Checkpoint { path: place.to_owned(), reason };
        let text = |key: &str| {
            state.metadata.get(key).ok_or_else(|| fail(format!("is not a training state: it has no '{key}'")))
        };
        let same = |key: &str, mine: String| {
            if *text(key)? == mine {
                return Ok(());
            }
            Err(fail(format!(
                "was saved with another {key}, so the run would not be the same; repeat the options it was started with"
            )))
        };
        if text("format")? != FORMAT {
            return Err(fail(
                "was saved by another version, which would have gone on differently; start anew".to_owned(),
            ));
        }
        same("config", serde_json::to_string(&self.config).unwrap_or_default())?;
        same("model", self.model.description())?;
        let number = |key: &str| {
            text(key)?.parse::<u64>().map_err(|_| fail(format!("is not a training state: its '{key}' is no number")))
        };
        let (iteration, seen) = (number("iteration")?, number("images")?);
        let mut loaded = Vec::new();
        for (name, target) in self.vectors() {
            let data = state.tensors.get(name).ok_or_else(|| fail(format!("lacks the tensor '{name}'")))?;
            let tensor = tensor_from(data)?;
            if tensor.size() != target.size() {
                return Err(fail(format!("has {} values in '{name}', not {}", tensor.numel(), target.numel())));
            }
            loaded.push(tensor);
        }
        tch::no_grad(|| {
            for ((_, target), source) in self.vectors().into_iter().zip(&loaded) {
                target.copy_(source);
            }
        });
        (self.iteration, self.seen, self.adam.step) = (iteration, seen, iteration);
        if let Some(critic) = &mut self.critic {
            critic.set_rounds(iteration);
        }
        Ok(())
    }

    /// Saves the run; [`Trainer::load_state`] on a trainer of the same model, data and settings goes on as if it had never stopped.
    /// Of several processes the first writes it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_state(&mut self, path: &Path) -> Result<()> {
        if !self.model.ranks().is_first() {
            return Ok(());
        }
        let (tensors, metadata) = self.state()?;
        Ok(safetensors::write(path, &tensors, &metadata)?)
    }

    /// Takes up a run where [`Trainer::save_state`] left it.
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        self.restore(&safetensors::read(path)?, &path.display().to_string())
    }
}
