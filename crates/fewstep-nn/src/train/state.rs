//! A training run on disk: everything that the next update depends on.

use std::path::Path;

use fewstep_io::safetensors;
use tch::Tensor;

use super::Trainer;
use crate::checkpoint::{tensor_data, tensor_from};
use crate::error::{Error, Result};

const NAMES: [&str; 4] = ["weights", "average", "adam.mean", "adam.square"];

impl Trainer {
    fn vectors(&mut self) -> [&mut Tensor; 4] {
        [&mut self.weights.values, &mut self.average, &mut self.adam.mean, &mut self.adam.square]
    }

    /// Saves the run; [`Trainer::load_state`] on a trainer of the same model, data and settings goes on as if it had never stopped.
    pub fn save_state(&mut self, path: &Path) -> Result<()> {
        let metadata = [
            ("format", "fewstep training state 1".to_owned()),
            ("config", serde_json::to_string(&self.config).unwrap_or_default()),
            ("model", serde_json::to_string(self.model.config()).unwrap_or_default()),
            ("iteration", self.iteration.to_string()),
            ("images", self.seen.to_string()),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
        let tensors =
            NAMES.iter().zip(self.vectors()).map(|(name, tensor)| Ok(((*name).to_owned(), tensor_data(tensor)?)));
        Ok(safetensors::write(path, &tensors.collect::<Result<_>>()?, &metadata)?)
    }

    /// Takes up a run where [`Trainer::save_state`] left it.
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        let fail = |reason: String| Error::Checkpoint { path: path.display().to_string(), reason };
        let file = safetensors::read(path)?;
        let text = |key: &str| {
            file.metadata.get(key).ok_or_else(|| fail(format!("is not a training state: it has no '{key}'")))
        };
        let same = |key: &str, mine: String| {
            if *text(key)? == mine {
                return Ok(());
            }
            Err(fail(format!(
                "was saved with another {key}, so the run would not be the same; start a new one or repeat the old options"
            )))
        };
        same("config", serde_json::to_string(&self.config).unwrap_or_default())?;
        same("model", serde_json::to_string(self.model.config()).unwrap_or_default())?;
        let number = |key: &str| text(key)?.parse::<u64>().map_err(|_| fail(format!("'{key}' is not a number")));
        let (iteration, seen) = (number("iteration")?, number("images")?);
        let mut loaded = Vec::new();
        for name in NAMES {
            let data = file.tensors.get(name).ok_or_else(|| fail(format!("lacks the tensor '{name}'")))?;
            let tensor = tensor_from(data)?;
            if tensor.size() != self.weights.values.size() {
                return Err(fail(format!(
                    "'{name}' has {} values, the network {}",
                    tensor.numel(),
                    self.weights.values.numel()
                )));
            }
            loaded.push(tensor);
        }
        tch::no_grad(|| {
            for (target, source) in self.vectors().into_iter().zip(&loaded) {
                target.copy_(source);
            }
        });
        (self.iteration, self.seen, self.adam.step) = (iteration, seen, iteration);
        Ok(())
    }
}
