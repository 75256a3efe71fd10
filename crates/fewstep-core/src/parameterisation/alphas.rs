//! Networks on a table of alphas (DDPM, Stable Diffusion, SDXL): they know whole timesteps `t` of a discrete process with
//! `alpha_bar_t`, take the variance-preserving state `x / sqrt(1 + sigma^2)` and predict the noise, v or the image.

mod table;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Coefficients, ParameterisationError, half, positive};
use crate::scalar::Scalar;
use table::NoiseTable;

/// The alphas of a discrete diffusion process, under the names of diffusers' configurations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Alphas {
    /// `beta_t` linear in `t` (Ho et al. 2020).
    Linear {
        /// The first beta; DDPM's is 0.0001.
        start: f64,
        /// The last beta; DDPM's is 0.02.
        end: f64,
        /// Number of timesteps.
        #[serde(default = "thousand")]
        steps: usize,
        /// Whether the process is rescaled to end in noise alone (Lin et al. 2024, Algorithm 1).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rescale_zero_snr: bool,
    },
    /// `sqrt(beta_t)` linear in `t` (Rombach et al. 2022).
    ScaledLinear {
        /// The first beta; Stable Diffusion's is 0.00085.
        start: f64,
        /// The last beta; Stable Diffusion's is 0.012.
        end: f64,
        /// Number of timesteps.
        #[serde(default = "thousand")]
        steps: usize,
        /// Whether the process is rescaled to end in noise alone (Lin et al. 2024, Algorithm 1).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rescale_zero_snr: bool,
    },
    /// `alpha_bar` a squared cosine, betas at most 0.999 (Nichol and Dhariwal 2021).
    SquaredcosCapV2 {
        /// Number of timesteps.
        #[serde(default = "thousand")]
        steps: usize,
        /// Whether the process is rescaled to end in noise alone (Lin et al. 2024, Algorithm 1).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rescale_zero_snr: bool,
    },
    /// Every `alpha_bar_t`, used as it is. The last may be 0: noise alone.
    AlphasCumprod {
        /// One a timestep, falling between 1 and 0.
        values: Vec<f64>,
    },
}

impl Alphas {
    /// DDPM's.
    pub const DDPM: Self = Self::Linear { start: 1e-4, end: 0.02, steps: 1000, rescale_zero_snr: false };
    /// Those of Stable Diffusion 1, 2 and XL.
    pub const STABLE_DIFFUSION: Self =
        Self::ScaledLinear { start: 0.000_85, end: 0.012, steps: 1000, rescale_zero_snr: false };
    /// Improved DDPM's.
    pub const COSINE: Self = Self::SquaredcosCapV2 { steps: 1000, rescale_zero_snr: false };

    /// `sqrt((1 - alpha_bar_t) / alpha_bar_t)` of every timestep `t`, rising. The last is infinite if the process ends in
    /// noise alone.
    ///
    /// # Errors
    /// If a parameter is out of its domain, or the levels do not rise.
    pub fn levels(&self) -> Result<Vec<f64>, ParameterisationError> {
        table::levels(self)
    }
}

/// What a network on a table of alphas answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise n (diffusers: `epsilon`).
    #[serde(alias = "epsilon")]
    Eps,
    /// `v = alpha n - alpha sigma y` with `alpha = sqrt(alpha_bar)` (Salimans and Ho 2022; diffusers: `v_prediction`).
    #[serde(alias = "v_prediction")]
    V,
    /// The clean image y (diffusers: `sample`).
    #[serde(alias = "sample")]
    X0,
}

/// A network on a table of alphas. The table is checked and made once, here: cloning is cheap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Described", into = "Described")]
pub struct AlphaNetwork {
    described: Described,
    table: Arc<NoiseTable>,
}

/// The network as it stands in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    prediction: Prediction,
    alphas: Alphas,
    #[serde(default = "half")]
    sigma_data: f64,
}

impl AlphaNetwork {
    /// A network that predicts `prediction` on the table of `alphas`, for data of standard deviation `sigma_data`.
    ///
    /// # Errors
    /// Names the first parameter that is not usable.
    pub fn new(prediction: Prediction, alphas: Alphas, sigma_data: f64) -> Result<Self, ParameterisationError> {
        Self::try_from(Described { prediction, alphas, sigma_data })
    }

    /// What the network answers.
    pub fn prediction(&self) -> Prediction {
        self.described.prediction
    }

    /// The alphas that the table is made of.
    pub fn alphas(&self) -> &Alphas {
        &self.described.alphas
    }

    /// Standard deviation of the data.
    pub fn sigma_data(&self) -> f64 {
        self.described.sigma_data
    }

    /// The finite noise levels by timestep, rising: all, or all but the last of a process that ends in noise alone.
    pub fn levels(&self) -> &[f64] {
        self.table.levels()
    }

    /// The timestep, with its fraction, of a noise level: linear in log sigma between neighbours in the table, and the end
    /// of the table outside it.
    pub fn timestep(&self, sigma: f64) -> f64 {
        self.table.timestep(sigma)
    }

    /// The noise level of a timestep: the inverse of [`AlphaNetwork::timestep`] within the table.
    pub fn level(&self, timestep: f64) -> f64 {
        self.table.level(timestep)
    }

    pub(super) fn coefficients<S: Scalar>(&self, sigma: &S) -> Coefficients<S> {
        let one_plus_squared = || (sigma.clone() * sigma.clone()).add_f64(1.0);
        let (c_skip, c_out) = match self.prediction() {
            Prediction::Eps => (sigma.constant_like(1.0), -sigma.clone()),
            Prediction::V => (one_plus_squared().recip(), -sigma.clone() / one_plus_squared().sqrt()),
            Prediction::X0 => (sigma.constant_like(0.0), sigma.constant_like(1.0)),
        };
        Coefficients { c_skip, c_out, c_in: one_plus_squared().sqrt().recip(), c_noise: self.label(sigma) }
    }

    /// The timestep of `sigma`. Its value is looked up in `f64`; its gradient is that of the piecewise linear function of
    /// `ln sigma`, added as a term that is 0: a product `slope * ln sigma` in single precision would cost the label digits.
    fn label<S: Scalar>(&self, sigma: &S) -> S {
        let log = sigma.clone().ln();
        let slope = sigma.clone().map_detached(&|sigma| self.table.slope(sigma));
        let zero = log.clone() - log.map_detached(&|log| log);
        sigma.clone().map_detached(&|sigma| self.table.timestep(sigma)) + slope * zero
    }
}

impl TryFrom<Described> for AlphaNetwork {
    type Error = ParameterisationError;

    fn try_from(described: Described) -> Result<Self, ParameterisationError> {
        positive("sigma_data", described.sigma_data)?;
        let table = Arc::new(NoiseTable::new(&described.alphas)?);
        Ok(Self { described, table })
    }
}

impl From<AlphaNetwork> for Described {
    fn from(network: AlphaNetwork) -> Self {
        network.described
    }
}

fn thousand() -> usize {
    1000
}

#[cfg(test)]
mod tests;
