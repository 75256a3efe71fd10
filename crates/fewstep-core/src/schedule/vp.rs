use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleError, check_positive, check_range, lerp, spaced};

/// The variance-preserving noise function (Karras et al., Table 1, column VP):
/// `sigma(t) = sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VpNoise {
    /// Slope of `beta(t) = beta_min + beta_d t`.
    pub beta_d: f64,
    /// `beta(0)`.
    pub beta_min: f64,
}

impl VpNoise {
    /// The VP function with `sigma(epsilon_s) = sigma_min` and `sigma(1) = sigma_max` (Karras et al., Appendix C.1).
    ///
    /// # Errors
    /// If the range is not `0 < sigma_min < sigma_max`, its lower end is too large for VP noise to rise from there, or `epsilon_s` is not
    /// between 0 and 1.
    pub fn from_range(sigma_min: f64, sigma_max: f64, epsilon_s: f64) -> Result<Self, ScheduleError> {
        check_range(sigma_min, sigma_max)?;
        if !(epsilon_s > 0.0 && epsilon_s < 1.0) {
            return Err(ScheduleError::Parameter { name: "epsilon_s", rule: "between 0 and 1", value: epsilon_s });
        }
        let (low, high) = (sigma_min.powi(2).ln_1p(), sigma_max.powi(2).ln_1p());
        let beta_d = 2.0 * (low / epsilon_s - high) / (epsilon_s - 1.0);
        let noise = Self { beta_d, beta_min: high - 0.5 * beta_d };
        // the betas of a range whose lower end is not reached so early are negative: noise would fall with time
        let rises = |t: f64| noise.beta_min + noise.beta_d * t > 0.0;
        if !(rises(epsilon_s) && rises(1.0)) {
            let rule = "so small that VP noise is there at its first time (karras has no such bound)";
            return Err(ScheduleError::Parameter { name: "sigma_min", rule, value: sigma_min });
        }
        Ok(noise)
    }

    /// `sigma(t)`.
    pub fn sigma(&self, t: f64) -> f64 {
        (0.5 * self.beta_d * t * t + self.beta_min * t).exp_m1().sqrt()
    }

    /// `sigma'(t)`.
    pub fn sigma_derivative(&self, t: f64) -> f64 {
        let sigma = self.sigma(t);
        0.5 * (self.beta_min + self.beta_d * t) * (sigma + 1.0 / sigma)
    }

    /// The `t` with `sigma(t) = sigma`.
    pub fn time(&self, sigma: f64) -> f64 {
        let exponent = sigma.powi(2).ln_1p();
        // (sqrt(b^2 + 2 d e) - b) / d, written so that a small or zero d loses nothing
        let root = (self.beta_min.powi(2) + 2.0 * self.beta_d * exponent).sqrt();
        2.0 * exponent / (root + self.beta_min)
    }
}

/// The VP time steps: `t` falls linearly from 1 to `epsilon_s` (Karras et al., Table 1, column VP), with the betas
/// that map them onto `[sigma_min, sigma_max]`.
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], the range is not `0 < sigma_min < sigma_max`, or `epsilon_s` is not between 0 and 1.
pub fn vp(n: usize, sigma_min: f64, sigma_max: f64, epsilon_s: f64) -> Result<Schedule, ScheduleError> {
    vp_rho(n, sigma_min, sigma_max, epsilon_s, 1.0)
}

/// [`vp`] with `t^(1/rho)` falling linearly in place of `t`.
pub(super) fn vp_rho(
    n: usize,
    sigma_min: f64,
    sigma_max: f64,
    epsilon_s: f64,
    rho: f64,
) -> Result<Schedule, ScheduleError> {
    check_positive("rho", rho)?;
    let noise = VpNoise::from_range(sigma_min, sigma_max, epsilon_s)?;
    spaced(n, sigma_min, sigma_max, |u| noise.sigma(lerp(1.0, epsilon_s.powf(1.0 / rho), u).powf(rho)))
}
