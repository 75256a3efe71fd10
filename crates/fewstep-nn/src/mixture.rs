//! A mixture of isotropic Gaussians as a network: its denoiser is known exactly, so that everything that takes a model can be
//! tried, tested and timed without a file. The same formula as `fewstep_core::mixture`, on tensors.
//!
//! For x = y + sigma n with y drawn from the sum of w_k N(m_k, s_k^2): with v_k = s_k^2 + sigma^2,
//! D(x; sigma) = sum_k r_k (m_k + s_k^2 / v_k (x - m_k)), r_k proportional to w_k v_k^(-d/2) exp(-|x - m_k|^2 / (2 v_k)).

use std::collections::BTreeMap;

use fewstep_core::precondition::{Coefficients, Preconditioning};
use tch::{Device, Kind, Tensor};

use crate::config::{MixtureConfig, ModelConfig, NetworkConfig};
use crate::data;
use crate::error::Result;
use crate::model::Model;
use crate::params::{Builder, Init, InitMode};
use crate::random;
use crate::tensor::Sigma;
use crate::unet::Conditions;

/// The raw network F of a mixture under EDM's preconditioning.
#[derive(Debug)]
pub struct Mixture {
    /// m_k, `[K, d]`.
    means: Tensor,
    /// ln s_k, `[K]`.
    log_stds: Tensor,
    /// ln w_k up to a constant, `[K]`.
    log_weights: Tensor,
    precond: Preconditioning,
    conditional: bool,
}

impl Mixture {
    /// The network that `config` describes, under the name `model`.
    pub fn new(b: &mut Builder, config: &ModelConfig, mixture: &MixtureConfig) -> Result<Self> {
        let (k, d) = (mixture.components, config.img_channels * config.img_resolution * config.img_resolution);
        let init = Init::new(InitMode::KaimingNormal, 1.0);
        Ok(Self {
            means: b.weight("model.means", &[k, d], (4, 4), init)?,
            log_stds: b.constant("model.log_stds", &[k], -1.0)?,
            log_weights: b.constant("model.log_weights", &[k], 0.0)?,
            precond: config.precond,
            conditional: config.label_dim > 0,
        })
    }

    /// F(c_in x; c_noise) such that the preconditioned network is D. Inside in f64: F is a difference of nearly equal images where
    /// there is little noise.
    pub fn forward(&self, input: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Tensor {
        let shape = input.size();
        let sigma = (c_noise.to_kind(Kind::Double) * 4.0).exp().reshape([-1, 1]); // c_noise = ln(sigma) / 4
        let Coefficients { c_skip, c_out, c_in, .. } = self.precond.coefficients(&Sigma(sigma.shallow_clone()));
        let x = input.to_kind(Kind::Double).flatten(1, -1) / c_in.0;
        let out = (self.denoise(&x, &sigma, conditions) - c_skip.0 * &x) / c_out.0;
        out.to_kind(input.kind()).reshape(&shape)
    }

    /// D. `x`: `[N, d]`, `sigma`: `[N or 1, 1]`.
    fn denoise(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Tensor {
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let (means, variances) = (double(&self.means), double(&self.log_stds).exp().square().unsqueeze(0)); // [K, d], [1, K]
        let total = &variances + sigma.square(); // v_k: [N or 1, K]
        let squares = x.square().sum_dim_intlist(1, true, Kind::Double) - x.matmul(&means.tr()) * 2.0
            + means.square().sum_dim_intlist(1, false, Kind::Double);
        let mut log = double(&self.log_weights) - squares / (&total * 2.0) - total.log() * (0.5 * x.size()[1] as f64);
        if let (true, Some(labels)) = (self.conditional, conditions.class_labels) {
            // all zeros stand for no label
            let labels = double(labels);
            let none = labels.sum_dim_intlist(1, true, Kind::Double).eq(0.0).to_kind(Kind::Double);
            log = log + (labels + none).log();
        }
        let shares = log.softmax(1, Kind::Double);
        let pull = &shares * (&variances / &total); // r_k s_k^2 / v_k
        (&shares - &pull).matmul(&means) + pull.sum_dim_intlist(1, true, Kind::Double) * x
    }
}

/// Images of the mixture itself, `[N, C, H, W]`, each from its seed alone: what a perfect sampler makes. `None` for another network.
pub fn samples(model: &Model, seeds: &[u64]) -> Option<Tensor> {
    let NetworkConfig::GaussianMixture(_) = &model.config().network else { return None };
    let values = |name: &str| Vec::<f64>::try_from(model.params().get(name)?.to_kind(Kind::Double)).ok();
    // a class-conditional model is asked for every class equally often
    let even = model.config().label_dim > 0;
    let weight = |log: f64| if even { 1.0 } else { log.exp() };
    let weights: Vec<f64> = values("model.log_weights")?.into_iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let choose = |seed: &u64| {
        // 53 bits of the seed's own stream, uniform in [0, 1)
        let mut left = (random::mix(*seed, random::CLASS_STREAM) >> 11) as f64 / (1u64 << 53) as f64 * total;
        let chosen = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        chosen.unwrap_or(weights.len() - 1) as i64
    };
    let chosen = Tensor::from_slice(&seeds.iter().map(choose).collect::<Vec<_>>()).to_device(model.device());
    let noise = data::latents(seeds, model.image_shape(), model.device());
    let stds = model.params().get("model.log_stds")?.exp().index_select(0, &chosen).reshape([-1, 1, 1, 1]);
    let means = model.params().get("model.means")?.index_select(0, &chosen).reshape(noise.size());
    Some((means + stds * noise).detach())
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
        precond: Preconditioning::EDM,
        network: NetworkConfig::GaussianMixture(MixtureConfig { components: K }),
    };
    Model::from_tensors(config, tensors, device)
}
