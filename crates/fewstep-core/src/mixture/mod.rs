//! The exact denoiser of a Gaussian mixture: the oracle of the tests, and a model that needs no download.
//!
//! Data `y ~ sum_k w_k N(mu_k, Sigma_k)`. At noise level sigma, component `k` becomes `N(mu_k, Sigma_k + sigma^2 I)`
//! and the posterior mean of `y` given `x = y + sigma n` is
//! `D(x; sigma) = sum_k r_k(x) (mu_k + Sigma_k (Sigma_k + sigma^2 I)^-1 (x - mu_k))` with responsibilities `r_k`.
//!
//! Batches are concatenations of samples of [`Mixture::dim`] numbers each.

mod covariance;
mod noised;

use serde::{Deserialize, Serialize};

pub use covariance::Covariance;
pub use noised::{NoiseSharing, NoisedBatch};

use crate::noise;

/// One component of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Relative weight; positive, normalised when the mixture is made.
    pub weight: f64,
    /// Mean, one number a dimension.
    pub mean: Vec<f64>,
    /// Covariance.
    pub covariance: Covariance,
}

/// A Gaussian mixture whose denoiser is known exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Component>", into = "Vec<Component>")]
pub struct Mixture {
    components: Vec<Component>,
}

/// Why components are not a mixture.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MixtureError {
    /// No components, or no dimensions.
    #[error("a mixture needs at least one component of at least one dimension")]
    Empty,
    /// A component that does not fit.
    #[error("component {index} of the mixture {fault}")]
    Component {
        /// Which, counting from 0.
        index: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl Mixture {
    /// A mixture of these components, weights normalised.
    ///
    /// # Errors
    /// If there are none, their dimensions differ, or a number is not finite or out of its domain.
    pub fn new(mut components: Vec<Component>) -> Result<Self, MixtureError> {
        let dim = components.first().map_or(0, |c| c.mean.len());
        if dim == 0 {
            return Err(MixtureError::Empty);
        }
        for (index, c) in components.iter().enumerate() {
            let fault = if !(c.weight > 0.0 && c.weight.is_finite()) {
                Some("has a weight that is not positive and finite")
            } else if c.mean.len() != dim {
                Some("has another dimension than the first")
            } else if !c.mean.iter().all(|m| m.is_finite()) {
                Some("has a mean that is not finite")
            } else {
                c.covariance.fault(dim)
            };
            if let Some(fault) = fault {
                return Err(MixtureError::Component { index, fault });
            }
        }
        let total: f64 = components.iter().map(|c| c.weight).sum();
        components.iter_mut().for_each(|c| c.weight /= total);
        Ok(Self { components })
    }

    /// A single Gaussian with this mean and the covariance `variance * I`. Its flow is known in closed form.
    ///
    /// # Errors
    /// If `mean` is empty, or a number is not finite, or `variance` is negative.
    pub fn gaussian(mean: Vec<f64>, variance: f64) -> Result<Self, MixtureError> {
        Self::new(vec![Component { weight: 1.0, mean, covariance: Covariance::Isotropic(variance) }])
    }

    /// The components, weights normalised.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// Number of dimensions of one sample.
    pub fn dim(&self) -> usize {
        self.components[0].mean.len()
    }

    /// `D(x; sigma)` for a batch `x` (length a multiple of [`Mixture::dim`]) and `sigma > 0`.
    pub fn denoised(&self, x: &[f64], sigma: f64) -> Vec<f64> {
        let zero = vec![0.0; self.dim()];
        x.chunks_exact(self.dim()).flat_map(|x| self.with_derivative(x, sigma, &zero, 0.0).0).collect()
    }

    /// The derivative of `D` along a direction: `dD/dx x_dot + dD/dsigma sigma_dot`, for a batch.
    pub fn derivative(&self, x: &[f64], sigma: f64, x_dot: &[f64], sigma_dot: f64) -> Vec<f64> {
        let samples = x.chunks_exact(self.dim()).zip(x_dot.chunks_exact(self.dim()));
        samples.flat_map(|(x, x_dot)| self.with_derivative(x, sigma, x_dot, sigma_dot).1).collect()
    }

    /// `count` samples of the data, one after the other; sample `i` depends on `(seed, i)` alone.
    pub fn sample(&self, seed: u64, count: usize) -> Vec<f64> {
        let one = |i: usize| {
            let mut noise = vec![0.0_f32; self.dim() + 2];
            noise::normal(seed, i as u64, &mut noise);
            // the angle of a normal pair is uniform
            let uniform = f64::from(noise[0]).atan2(f64::from(noise[1])) / std::f64::consts::TAU + 0.5;
            let noise: Vec<f64> = noise[2..].iter().map(|&v| f64::from(v)).collect();
            let component = self.pick(uniform);
            let spread = component.covariance.apply(f64::sqrt, &noise);
            component.mean.iter().zip(spread).map(|(m, s)| m + s).collect::<Vec<f64>>()
        };
        (0..count).flat_map(one).collect()
    }

    /// The exact solution of the probability-flow ODE (Eq. 6) from `x` at `sigma` to `sigma_to >= 0`, for a batch:
    /// `mu + (Sigma + sigma_to^2)^(1/2) (Sigma + sigma^2)^(-1/2) (x - mu)`. `None` for more than one component.
    pub fn flow(&self, x: &[f64], sigma: f64, sigma_to: f64) -> Option<Vec<f64>> {
        let [Component { mean, covariance, .. }] = &self.components[..] else {
            return None;
        };
        let shrink = |l: f64| ((l + sigma_to * sigma_to) / (l + sigma * sigma)).sqrt();
        let flow = |x: &[f64]| {
            let offset: Vec<f64> = x.iter().zip(mean).map(|(x, m)| x - m).collect();
            let moved = covariance.apply(shrink, &offset);
            mean.iter().zip(moved).map(|(m, v)| m + v).collect::<Vec<f64>>()
        };
        Some(x.chunks_exact(self.dim()).flat_map(flow).collect())
    }

    fn pick(&self, uniform: f64) -> &Component {
        let mut sum = 0.0;
        let found = self.components.iter().find(|c| {
            sum += c.weight;
            uniform < sum
        });
        found.unwrap_or(&self.components[self.components.len() - 1])
    }

    /// `D` of one sample, and its derivative along `(x_dot, sigma_dot)`.
    fn with_derivative(&self, x: &[f64], sigma: f64, x_dot: &[f64], sigma_dot: f64) -> (Vec<f64>, Vec<f64>) {
        let parts: Vec<Part> = self.components.iter().map(|c| Part::new(c, x, sigma, x_dot, sigma_dot)).collect();
        let highest = parts.iter().map(|p| p.log_density).fold(f64::NEG_INFINITY, f64::max);
        let unnormalised: Vec<f64> = parts.iter().map(|p| (p.log_density - highest).exp()).collect();
        let total: f64 = unnormalised.iter().sum();
        let r: Vec<f64> = unnormalised.iter().map(|u| u / total).collect();
        let mean_slope: f64 = r.iter().zip(&parts).map(|(r, p)| r * p.log_density_dot).sum();
        let (mut d, mut d_dot) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        for (r, part) in r.iter().zip(&parts) {
            let r_dot = r * (part.log_density_dot - mean_slope);
            for i in 0..x.len() {
                d[i] += r * part.mean[i];
                d_dot[i] += r_dot * part.mean[i] + r * part.mean_dot[i];
            }
        }
        (d, d_dot)
    }
}

impl TryFrom<Vec<Component>> for Mixture {
    type Error = MixtureError;

    fn try_from(components: Vec<Component>) -> Result<Self, MixtureError> {
        Self::new(components)
    }
}

impl From<Mixture> for Vec<Component> {
    fn from(mixture: Mixture) -> Self {
        mixture.components
    }
}

/// What one component says about one noisy sample, with derivatives along a direction.
struct Part {
    /// `log w_k N(x; mu_k, Sigma_k + sigma^2 I)` up to a constant.
    log_density: f64,
    log_density_dot: f64,
    /// Posterior mean under this component.
    mean: Vec<f64>,
    mean_dot: Vec<f64>,
}

impl Part {
    fn new(component: &Component, x: &[f64], sigma: f64, x_dot: &[f64], sigma_dot: f64) -> Self {
        let Component { weight, mean, covariance } = component;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let variance = sigma * sigma;
        let variance_dot = 2.0 * sigma * sigma_dot;
        let offset: Vec<f64> = x.iter().zip(mean).map(|(x, m)| x - m).collect();
        // (Sigma + sigma^2)^-1 (x - mu), and its square's contribution
        let whitened = covariance.apply(|l| 1.0 / (l + variance), &offset);
        let log_determinant = covariance.trace(mean.len(), |l| (l + variance).ln());
        let log_determinant_dot = variance_dot * covariance.trace(mean.len(), |l| 1.0 / (l + variance));
        let shrunk = covariance.apply(|l| l / (l + variance), &offset);
        let shrunk_x_dot = covariance.apply(|l| l / (l + variance), x_dot);
        let shrunk_dot = covariance.apply(|l| -l / (l + variance).powi(2), &offset);
        Self {
            log_density: weight.ln() - 0.5 * (log_determinant + dot(&offset, &whitened)),
            log_density_dot: 0.5 * (variance_dot * dot(&whitened, &whitened) - log_determinant_dot)
                - dot(&whitened, x_dot),
            mean: mean.iter().zip(&shrunk).map(|(m, v)| m + v).collect(),
            mean_dot: shrunk_x_dot.iter().zip(&shrunk_dot).map(|(a, b)| a + variance_dot * b).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
