//! A mixture of isotropic Gaussians as a raw network: its denoiser is known exactly. The formula of `fewstep_core::mixture`, on
//! tensors.
//!
//! For x = y + sigma n with y drawn from the sum of w_k N(m_k, s_k^2): with v_k = s_k^2 + sigma^2,
//! D(x; sigma) = sum_k r_k (m_k + s_k^2 / v_k (x - m_k)), r_k proportional to w_k v_k^(-d/2) exp(-|x - m_k|^2 / (2 v_k)).

use fewstep_core::parameterisation::{Coefficients, Parameterisation};
use tch::{Kind, Tensor};

use super::Conditions;
use crate::config::{MixtureConfig, ModelConfig};
use crate::error::Result;
use crate::params::{Builder, Init, InitMode};
use crate::tensor::Sigma;

/// The raw network F of a mixture under EDM's parameterisation.
#[derive(Debug)]
pub struct Mixture {
    /// m_k, `[K, d]`.
    means: Tensor,
    /// ln s_k, `[K]`.
    log_stds: Tensor,
    /// ln w_k up to a constant, `[K]`.
    log_weights: Tensor,
    parameterisation: Parameterisation,
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
            parameterisation: config.parameterisation.clone(),
            conditional: config.label_dim > 0,
        })
    }

    /// F(c_in x; c_noise) such that the denoiser is D. Inside in f64: F is a difference of nearly equal images where
    /// there is little noise.
    pub fn forward(&self, input: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Tensor {
        let shape = input.size();
        let sigma = (c_noise.to_kind(Kind::Double) * 4.0).exp().reshape([-1, 1]); // c_noise = ln(sigma) / 4
        let Coefficients { c_skip, c_out, c_in, .. } =
            self.parameterisation.coefficients(&Sigma(sigma.shallow_clone()));
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
