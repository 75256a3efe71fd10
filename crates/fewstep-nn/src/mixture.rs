//! The built-in mixture of Gaussians: a model whose denoiser is known exactly, so that everything that takes a model can be tried,
//! tested and timed without a file.

use std::collections::BTreeMap;

use fewstep_core::noise;
use fewstep_core::parameterisation::Parameterisation;
use tch::{Device, Kind, Tensor};

use crate::config::{MixtureConfig, ModelConfig, NetworkConfig};
use crate::data;
use crate::error::{Error, Result};
use crate::model::Model;

/// Images of the mixture itself, `[N, C, H, W]`, each from its seed alone: what a perfect sampler makes. `None` for another network.
///
/// # Errors
/// If memory does not suffice.
pub fn samples(model: &Model, seeds: &[u64]) -> Result<Option<Tensor>> {
    let NetworkConfig::GaussianMixture(_) = &model.config().network else { return Ok(None) };
    let param = |name: &str| model.params().get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() });
    let logs = Vec::<f64>::try_from(param("model.log_weights")?.f_to_kind(Kind::Double)?)?;
    // a class-conditional model is asked for every class equally often
    let even = model.config().label_dim > 0;
    let weights: Vec<f64> = logs.into_iter().map(|log| if even { 1.0 } else { log.exp() }).collect();
    let total: f64 = weights.iter().sum();
    let choose = |seed: &u64| {
        // 53 bits of the seed's own stream, uniform in [0, 1)
        let mut left = (noise::mix(*seed, noise::CLASS_STREAM) >> 11) as f64 / (1u64 << 53) as f64 * total;
        let chosen = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        chosen.unwrap_or(weights.len() - 1) as i64
    };
    let chosen = Tensor::f_from_slice(&seeds.iter().map(choose).collect::<Vec<_>>())?.f_to_device(model.device())?;
    let noise = data::latents(seeds, &model.image_shape().map(|size| size as usize), model.device())?;
    let stds = param("model.log_stds")?.f_exp()?.f_index_select(0, &chosen)?.f_reshape([-1, 1, 1, 1])?;
    let means = param("model.means")?.f_index_select(0, &chosen)?.f_reshape(noise.size())?;
    Ok(Some(means.f_add(&stds.f_mul(&noise)?)?.f_detach()?))
}

/// Ten smooth patterns of 32x32 grey pixels, of different weights and widths, the same everywhere: the built-in mixture.
pub fn patterns(conditional: bool, device: Device) -> Result<Model> {
    const K: i64 = 10;
    const SIZE: i64 = 32;
    let mut means = Vec::with_capacity((K * SIZE * SIZE) as usize);
    for k in 0..K {
        // each with its own pair of frequencies, and a phase
        let (across, down, phase) = ((k % 4) as f64, (k / 4) as f64 + 0.5, 0.7 * k as f64);
        for row in 0..SIZE {
            for column in 0..SIZE {
                let [y, x] = [row, column].map(|at| std::f64::consts::PI * (at as f64 + 0.5) / SIZE as f64);
                means.push((0.7 * (across * x + phase).cos() * (down * y).cos()) as f32);
            }
        }
    }
    let per_component =
        |f: &dyn Fn(f64) -> f64| Tensor::from_slice(&(0..K).map(|k| f(k as f64) as f32).collect::<Vec<_>>());
    let tensors = BTreeMap::from([
        ("model.means".to_owned(), Tensor::from_slice(&means).reshape([K, SIZE * SIZE])),
        ("model.log_stds".to_owned(), per_component(&|k| (0.1 + 0.03 * k).ln())),
        ("model.log_weights".to_owned(), per_component(&|k| (1.0 + k).ln())),
    ]);
    let config = ModelConfig {
        img_resolution: SIZE,
        img_channels: 1,
        label_dim: if conditional { K } else { 0 },
        use_fp16: false,
        parameterisation: Parameterisation::EDM,
        network: NetworkConfig::GaussianMixture(MixtureConfig { components: K }),
    };
    Model::from_tensors(config, tensors, device)
}
