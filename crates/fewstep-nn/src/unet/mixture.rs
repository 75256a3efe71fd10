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
use crate::tensor::coefficients;

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
    pub fn forward(&self, input: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let shape = input.size();
        let sigma = c_noise.f_to_kind(Kind::Double)?.f_mul_scalar(4.0)?.f_exp()?.f_reshape([-1, 1])?; // c_noise = ln(sigma) / 4
        let Coefficients { c_skip, c_out, c_in, .. } = coefficients(&self.parameterisation, &sigma)?;
        let x = input.f_to_kind(Kind::Double)?.f_flatten(1, -1)?.f_div(&c_in)?;
        let out = self.denoise(&x, &sigma, conditions)?.f_sub(&c_skip.f_mul(&x)?)?.f_div(&c_out)?;
        Ok(out.f_to_kind(input.kind())?.f_reshape(&shape)?)
    }

    /// D. `x`: `[N, d]`, `sigma`: `[N or 1, 1]`.
    fn denoise(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let double = |tensor: &Tensor| tensor.f_to_kind(Kind::Double);
        let means = double(&self.means)?; // [K, d]
        let variances = double(&self.log_stds)?.f_exp()?.f_square()?.f_unsqueeze(0)?; // [1, K]
        let total = variances.f_add(&sigma.f_square()?)?; // v_k: [N or 1, K]
        // |x - m_k|^2 = |x|^2 - 2 <x, m_k> + |m_k|^2: [N, K]
        let product = x.f_matmul(&means.f_tr()?)?.f_mul_scalar(2.0)?;
        let of_means = means.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?;
        let squares = x.f_square()?.f_sum_dim_intlist(1, true, Kind::Double)?.f_sub(&product)?.f_add(&of_means)?;
        let exponent = squares.f_div(&total.f_mul_scalar(2.0)?)?;
        let norm = total.f_log()?.f_mul_scalar(0.5 * x.size()[1] as f64)?;
        let mut log = double(&self.log_weights)?.f_sub(&exponent)?.f_sub(&norm)?;
        if let (true, Some(labels)) = (self.conditional, conditions.class_labels) {
            // all zeros stand for no label
            let labels = double(labels)?;
            let none = labels.f_sum_dim_intlist(1, true, Kind::Double)?.f_eq(0.0)?.f_to_kind(Kind::Double)?;
            log = log.f_add(&labels.f_add(&none)?.f_log()?)?;
        }
        let shares = log.f_softmax(1, Kind::Double)?; // r_k
        let pull = shares.f_mul(&variances.f_div(&total)?)?; // r_k s_k^2 / v_k
        let of_x = pull.f_sum_dim_intlist(1, true, Kind::Double)?.f_mul(x)?;
        Ok(shares.f_sub(&pull)?.f_matmul(&means)?.f_add(&of_x)?)
    }
}
