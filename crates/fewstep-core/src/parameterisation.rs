//! Parameterisation (preconditioning in Karras et al. 2022, Table 1): how a network `F` becomes a denoiser,
//! `D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)`, and which noise levels it supports.

mod alphas;
mod flow;
mod maybe_infinite;

use serde::{Deserialize, Serialize};

use crate::denoiser::nearest;
use crate::scalar::Scalar;
use crate::schedule::IddpmLevels;
pub use alphas::{AlphaNetwork, Alphas, Prediction};
pub use flow::{FlowTimestep, RectifiedFlow, Velocity};

/// What a network predicts and is told, with the parameters that follow from its training: the four preconditionings of
/// EDM-style networks, networks on a table of alphas, rectified flows, and networks that answer the denoised state itself.
///
/// Read from a file, the parameters are unchecked (but for the table of alphas): call [`Parameterisation::validate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Parameterisation {
    /// EDM's own.
    Edm {
        /// Standard deviation of the data.
        sigma_data: f64,
        /// Smallest supported noise level.
        sigma_min: f64,
        /// Largest supported noise level, usually infinite (written as `"inf"`).
        #[serde(with = "maybe_infinite")]
        sigma_max: f64,
    },
    /// DDPM++ as trained by Song et al., variance preserving.
    Vp {
        /// Slope of beta(t).
        beta_d: f64,
        /// beta(0).
        beta_min: f64,
        /// Number of steps of the original discrete formulation.
        m: usize,
        /// Smallest time seen in training.
        epsilon_t: f64,
    },
    /// NCSN++ as trained by Song et al., variance exploding.
    Ve {
        /// Smallest supported noise level.
        sigma_min: f64,
        /// Largest supported noise level.
        sigma_max: f64,
    },
    /// Improved DDPM / ADM with discrete noise levels.
    Iddpm {
        /// Bound on a single step at high noise.
        c_1: f64,
        /// Offset of the cosine at low noise.
        c_2: f64,
        /// Number of discrete noise levels.
        m: usize,
    },
    /// A network that predicts the noise, v or the image on a table of alphas (DDPM, Stable Diffusion, SDXL).
    Alphas(AlphaNetwork),
    /// A network that predicts the velocity of a rectified flow (SiT, Stable Diffusion 3, FLUX, Wan).
    Flow(RectifiedFlow),
    /// A network that is given `x` and `sigma` and answers `D(x; sigma)` itself.
    Denoiser {
        /// Smallest supported noise level.
        sigma_min: f64,
        /// Largest supported noise level.
        sigma_max: f64,
    },
}

/// The four coefficients of a parameterisation at one or many noise levels, in the shape of `sigma`.
#[derive(Clone, Debug, PartialEq)]
pub struct Coefficients<S> {
    /// Weight of the noisy image in the output.
    pub c_skip: S,
    /// Weight of the network in the output.
    pub c_out: S,
    /// Scale of the network's input.
    pub c_in: S,
    /// The network's noise label.
    pub c_noise: S,
}

/// A parameterisation whose parameters make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the model's parameterisation has {name}{} = {value}, which must be {rule}", element(*index))]
pub struct ParameterisationError {
    /// The parameter.
    pub name: &'static str,
    /// Which of its elements, counting from 0, if it is a list.
    pub index: Option<usize>,
    /// Its value.
    pub value: f64,
    /// What it must be.
    pub rule: &'static str,
}

/// More discrete levels than this no published network has; a larger number in a file is damage.
const MAX_DISCRETE_LEVELS: usize = 100_000;

impl Parameterisation {
    /// Its name: `eps`, `v` or `x0` on a table of alphas, `flow`, or a preconditioning of EDM's (`edm`, `vp`, `ve`, `iddpm`); none for a
    /// denoiser, which may hold any of them.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Edm { .. } => Some("edm"),
            Self::Vp { .. } => Some("vp"),
            Self::Ve { .. } => Some("ve"),
            Self::Iddpm { .. } => Some("iddpm"),
            Self::Alphas(network) => Some(match network.prediction() {
                Prediction::Eps => "eps",
                Prediction::V => "v",
                Prediction::X0 => "x0",
            }),
            Self::Flow(_) => Some("flow"),
            Self::Denoiser { .. } => None,
        }
    }

    /// EDM with the defaults of its networks.
    pub const EDM: Self = Self::Edm { sigma_data: 0.5, sigma_min: 0.0, sigma_max: f64::INFINITY };
    /// VP with the defaults of EDM's networks.
    pub const VP: Self = Self::Vp { beta_d: 19.9, beta_min: 0.1, m: 1000, epsilon_t: 1e-5 };
    /// VE with the defaults of EDM's networks.
    pub const VE: Self = Self::Ve { sigma_min: 0.02, sigma_max: 100.0 };
    /// iDDPM with the defaults of EDM's networks.
    pub const IDDPM: Self = Self::Iddpm { c_1: 0.001, c_2: 0.008, m: 1000 };

    /// `c_skip`, `c_out`, `c_in`, `c_noise` at `sigma > 0`, by EDM's formulas in EDM's order of operations, so that
    /// single-precision tensors round as the reference does.
    ///
    /// Constant coefficients (a `c_skip` of 1) and the discrete label of iDDPM carry no gradient; the label of a table of
    /// alphas carries that of the line between two of its timesteps.
    pub fn coefficients<S: Scalar>(&self, sigma: &S) -> Coefficients<S> {
        let squared = || sigma.clone() * sigma.clone();
        match *self {
            Self::Alphas(ref network) => network.coefficients(sigma),
            Self::Flow(ref flow) => flow.coefficients(sigma),
            Self::Edm { sigma_data, .. } => {
                let data_squared = sigma_data * sigma_data;
                Coefficients {
                    c_skip: squared().add_f64(data_squared).recip().mul_f64(data_squared),
                    c_out: sigma.clone().mul_f64(sigma_data) / squared().add_f64(data_squared).sqrt(),
                    c_in: squared().add_f64(data_squared).sqrt().recip(),
                    c_noise: sigma.clone().ln().mul_f64(0.25),
                }
            }
            Self::Vp { beta_d, beta_min, m, .. } => {
                let time = squared()
                    .add_f64(1.0)
                    .ln()
                    .mul_f64(2.0 * beta_d)
                    .add_f64(beta_min * beta_min)
                    .sqrt()
                    .add_f64(-beta_min)
                    .div_f64(beta_d);
                Coefficients {
                    c_skip: sigma.constant_like(1.0),
                    c_out: -sigma.clone(),
                    c_in: squared().add_f64(1.0).sqrt().recip(),
                    c_noise: time.mul_f64(m as f64 - 1.0),
                }
            }
            Self::Ve { .. } => Coefficients {
                c_skip: sigma.constant_like(1.0),
                c_out: sigma.clone(),
                c_in: sigma.constant_like(1.0),
                c_noise: sigma.clone().mul_f64(0.5).ln(),
            },
            Self::Denoiser { .. } => Coefficients {
                c_skip: sigma.constant_like(0.0),
                c_out: sigma.constant_like(1.0),
                c_in: sigma.constant_like(1.0),
                c_noise: sigma.clone(),
            },
            Self::Iddpm { m, .. } => {
                let table = self.discrete_levels();
                let label = |sigma: f64| m as f64 - 1.0 - nearest(&table, sigma) as f64;
                Coefficients {
                    c_skip: sigma.constant_like(1.0),
                    c_out: -sigma.clone(),
                    c_in: squared().add_f64(1.0).sqrt().recip(),
                    c_noise: sigma.clone().map_detached(&label),
                }
            }
        }
    }

    /// The smallest noise level that the network supports, in the single precision of the reference networks.
    pub fn sigma_min(&self) -> f64 {
        match *self {
            Self::Edm { sigma_min, .. } | Self::Ve { sigma_min, .. } | Self::Denoiser { sigma_min, .. } => sigma_min,
            Self::Vp { beta_d, beta_min, epsilon_t, .. } => vp_sigma_f32(beta_d, beta_min, epsilon_t),
            Self::Iddpm { m, .. } => self.discrete_levels()[m.max(1) - 1],
            Self::Alphas(ref network) => network.levels()[0],
            Self::Flow(ref flow) => flow.sigma_min(),
        }
    }

    /// The largest noise level that the network supports; infinite if there is none.
    pub fn sigma_max(&self) -> f64 {
        match *self {
            Self::Edm { sigma_max, .. } | Self::Ve { sigma_max, .. } | Self::Denoiser { sigma_max, .. } => sigma_max,
            Self::Vp { beta_d, beta_min, .. } => vp_sigma_f32(beta_d, beta_min, 1.0),
            Self::Iddpm { .. } => self.discrete_levels()[0],
            Self::Alphas(ref network) => network.levels()[network.levels().len() - 1],
            Self::Flow(ref flow) => flow.sigma_max(),
        }
    }

    /// The noise level nearest to `sigma` that the network was trained at: itself but for iDDPM.
    pub fn round_sigma(&self, sigma: f64) -> f64 {
        self.round_sigmas(&[sigma])[0]
    }

    /// [`Parameterisation::round_sigma`] of every element.
    pub fn round_sigmas(&self, sigmas: &[f64]) -> Vec<f64> {
        match self {
            Self::Iddpm { .. } => {
                let table = self.discrete_levels();
                sigmas.iter().map(|&sigma| table[nearest(&table, sigma)]).collect()
            }
            _ => sigmas.to_vec(),
        }
    }

    /// `(sigma_min, sigma_max)` that a sampler of this network begins and ends at.
    ///
    /// A range that belongs to the network is taken as it is: that of a table of alphas, of a flow, of a denoiser, and what an EDM
    /// network says of its own. Where EDM's networks leave an end open it is EDM's, 0.002 and 80. VP, VE and iDDPM are sampled as
    /// the EDM code does it: from 80 to 0.002, cut to what they support.
    pub fn sampling_range(&self) -> (f64, f64) {
        const EDM_RANGE: (f64, f64) = (0.002, 80.0);
        let (low, high) = (self.sigma_min(), self.sigma_max());
        match self {
            Self::Alphas(_) | Self::Flow(_) | Self::Denoiser { .. } => (low, high),
            Self::Edm { .. } => {
                (if low > 0.0 { low } else { EDM_RANGE.0 }, if high.is_finite() { high } else { EDM_RANGE.1 })
            }
            Self::Vp { .. } | Self::Ve { .. } | Self::Iddpm { .. } => (low.max(EDM_RANGE.0), high.min(EDM_RANGE.1)),
        }
    }

    /// Standard deviation of the data: the network's own where it says one, else EDM's 0.5.
    pub fn sigma_data(&self) -> f64 {
        match self {
            Self::Edm { sigma_data, .. } => *sigma_data,
            Self::Alphas(network) => network.sigma_data(),
            Self::Flow(flow) => flow.sigma_data,
            Self::Vp { .. } | Self::Ve { .. } | Self::Iddpm { .. } | Self::Denoiser { .. } => half(),
        }
    }

    /// Checks parameters that came from outside.
    ///
    /// # Errors
    /// Names the first parameter that is not usable.
    pub fn validate(&self) -> Result<(), ParameterisationError> {
        let count = |m: usize| check("M", m as f64, "between 1 and 100000", (1..=MAX_DISCRETE_LEVELS).contains(&m));
        match *self {
            Self::Edm { sigma_data, sigma_min, sigma_max } => {
                positive("sigma_data", sigma_data)?;
                check("sigma_min", sigma_min, "at least 0 and finite", sigma_min >= 0.0 && sigma_min.is_finite())?;
                check("sigma_max", sigma_max, "above sigma_min", sigma_max > sigma_min)
            }
            Self::Vp { beta_d, beta_min, m, epsilon_t } => {
                positive("beta_d", beta_d)?;
                positive("beta_min", beta_min)?;
                count(m)?;
                check("epsilon_t", epsilon_t, "between 0 and 1", epsilon_t > 0.0 && epsilon_t < 1.0)
            }
            Self::Ve { sigma_min, sigma_max } | Self::Denoiser { sigma_min, sigma_max } => {
                positive("sigma_min", sigma_min)?;
                check("sigma_max", sigma_max, "above sigma_min", sigma_max > sigma_min && sigma_max.is_finite())
            }
            Self::Iddpm { c_1, c_2, m } => {
                positive("C_1", c_1)?;
                positive("C_2", c_2)?;
                count(m)
            }
            Self::Alphas(_) => Ok(()), // checked when it was made
            Self::Flow(ref flow) => flow.validate(),
        }
    }

    /// The noise levels that an iDDPM network was trained at, largest first; empty for the others.
    pub fn discrete_levels(&self) -> Vec<f64> {
        match *self {
            Self::Iddpm { c_1, c_2, m } => IddpmLevels { c_1, c_2, m }.table(),
            _ => Vec::new(),
        }
    }
}

fn check(name: &'static str, value: f64, rule: &'static str, holds: bool) -> Result<(), ParameterisationError> {
    if holds { Ok(()) } else { Err(ParameterisationError { name, index: None, value, rule }) }
}

fn positive(name: &'static str, value: f64) -> Result<(), ParameterisationError> {
    check(name, value, "positive and finite", value > 0.0 && value.is_finite())
}

/// `[index]`, if there is one.
fn element(index: Option<usize>) -> String {
    index.map_or_else(String::new, |index| format!("[{index}]"))
}

/// EDM's `sigma_data`: images in [-1, 1].
fn half() -> f64 {
    0.5
}

/// `sigma(t)` as the reference VP network evaluates it for its supported range. In `f32`, `exp(1e-6) - 1` loses most
/// of its digits: the reference's smallest level is 0.00098, not 0.001, and snapshots are compared with it.
fn vp_sigma_f32(beta_d: f64, beta_min: f64, t: f64) -> f64 {
    let t = t as f32;
    let exponent = (0.5 * beta_d) as f32 * (t * t) + beta_min as f32 * t;
    let exp = f64::from(exponent).exp() as f32;
    f64::from((exp - 1.0).sqrt())
}

#[cfg(test)]
mod tests;
