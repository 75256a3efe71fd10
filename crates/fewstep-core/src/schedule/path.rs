//! The time-dependent functions of Karras et al. 2022, Table 1: `sigma(t)`, `s(t)` and their derivatives.

use serde::{Deserialize, Serialize};

use super::VpNoise;

/// The noise function `sigma(t)` in which a solver takes its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NoiseFunction {
    /// `sigma(t) = t`: EDM's choice.
    #[default]
    Linear,
    /// `sigma(t) = sqrt(t)`: variance exploding.
    Ve,
    /// Variance preserving.
    Vp(VpNoise),
}

/// The scaling `s(t)` of the state, `x = s(t) (y + sigma(t) n)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// `s(t) = 1`.
    #[default]
    None,
    /// `s(t) = 1 / sqrt(1 + sigma(t)^2)`: variance preserving.
    Vp,
}

/// Where and how a solver's steps are straight: `sigma(t)` and `s(t)` together. The default is EDM's, `sigma = t` and
/// `s = 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// `sigma(t)`.
    pub noise: NoiseFunction,
    /// `s(t)`.
    pub scaling: Scaling,
}

impl NoiseFunction {
    /// `sigma(t)`, with `sigma(0) = 0`.
    pub fn sigma(&self, t: f64) -> f64 {
        match self {
            Self::Linear => t,
            Self::Ve => t.sqrt(),
            Self::Vp(noise) => noise.sigma(t),
        }
    }

    /// `sigma'(t)` for `t > 0`.
    pub fn sigma_derivative(&self, t: f64) -> f64 {
        match self {
            Self::Linear => 1.0,
            Self::Ve => 0.5 / t.sqrt(),
            Self::Vp(noise) => noise.sigma_derivative(t),
        }
    }

    /// The `t` with `sigma(t) = sigma`.
    pub fn time(&self, sigma: f64) -> f64 {
        match self {
            Self::Linear => sigma,
            Self::Ve => sigma * sigma,
            Self::Vp(noise) => noise.time(sigma),
        }
    }
}

impl Path {
    /// `s(t)`.
    pub fn scale(&self, t: f64) -> f64 {
        match self.scaling {
            Scaling::None => 1.0,
            Scaling::Vp => 1.0 / self.noise.sigma(t).hypot(1.0),
        }
    }

    /// `s'(t)` for `t > 0`.
    pub fn scale_derivative(&self, t: f64) -> f64 {
        match self.scaling {
            Scaling::None => 0.0,
            Scaling::Vp => -self.noise.sigma(t) * self.noise.sigma_derivative(t) * self.scale(t).powi(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_invert_and_derivatives_match_differences() {
        let vp = VpNoise::from_range(0.002, 80.0, 1e-3).unwrap();
        assert!((vp.sigma(1e-3) - 0.002).abs() < 1e-12 && (vp.sigma(1.0) - 80.0).abs() < 1e-9);
        for noise in [NoiseFunction::Linear, NoiseFunction::Ve, NoiseFunction::Vp(vp)] {
            for scaling in [Scaling::None, Scaling::Vp] {
                let path = Path { noise, scaling };
                for sigma in [0.002, 0.3, 5.0, 80.0] {
                    let t = noise.time(sigma);
                    assert!((noise.sigma(t) / sigma - 1.0).abs() < 1e-9, "{noise:?} at {sigma}");
                    let h = 1e-6 * t;
                    let slope = |f: &dyn Fn(f64) -> f64| (f(t + h) - f(t - h)) / (2.0 * h);
                    let sigma_slope = slope(&|t| noise.sigma(t));
                    assert!((noise.sigma_derivative(t) / sigma_slope - 1.0).abs() < 1e-6, "{noise:?} at {sigma}");
                    let scale_slope = slope(&|t| path.scale(t));
                    assert!(
                        (path.scale_derivative(t) - scale_slope).abs() < 1e-6 * (1.0 + scale_slope.abs()) / t.min(1.0)
                    );
                }
            }
        }
    }
}
