//! A schedule by the softmax of its increments (Eq. 13, after Watson et al. 2022).

use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleError};

/// In what the gaps between neighbouring levels are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// In sigma: the paper's choice.
    Linear,
    /// In log sigma, which conditions the optimisation far better.
    Log,
}

/// A schedule with fixed ends as a function of an unconstrained vector (Eq. 13): with `p = softmax(theta)`,
/// `theta` in `R^(N-1)`, level `j` (sampling order) is `sigma_min + (sigma_max - sigma_min) (p_j + ... + p_{N-2})`.
/// `p_j` is the share of the range that lies between levels `j` and `j + 1`; [`Scale::Log`] shares out the range of
/// log sigma instead. Any `theta` gives strictly decreasing levels between the same ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoftmaxIncrements {
    /// Scale of the gaps.
    pub scale: Scale,
    /// The last level, kept as it is.
    pub sigma_min: f64,
    /// The first level, kept as it is.
    pub sigma_max: f64,
}

impl SoftmaxIncrements {
    /// The increments and the `theta` (length `N - 1`) that reproduce `schedule`.
    pub fn from_schedule(schedule: &Schedule, scale: Scale) -> (Self, Vec<f64>) {
        let increments = Self { scale, sigma_min: schedule.sigma_min(), sigma_max: schedule.sigma_max() };
        let gaps = schedule.levels().windows(2).map(|pair| match scale {
            Scale::Linear => pair[0] - pair[1],
            Scale::Log => (pair[0] / pair[1]).ln(),
        });
        let theta: Vec<f64> = gaps.map(f64::ln).collect();
        // softmax ignores a shift; centred parameters keep weight decay and printing sensible
        let mean = theta.iter().sum::<f64>() / theta.len().max(1) as f64;
        (increments, theta.into_iter().map(|t| t - mean).collect())
    }

    /// The levels at `theta`, `theta.len() + 1` of them; both ends exactly as fixed. An empty `theta` is the single
    /// level `sigma_max`.
    ///
    /// # Errors
    /// If `theta` is so extreme that two levels coincide in `f64`, or holds a NaN.
    pub fn sigmas(&self, theta: &[f64]) -> Result<Schedule, ScheduleError> {
        let p = softmax(theta);
        let mut levels = vec![self.sigma_min; p.len() + 1];
        let mut share = 0.0;
        for j in (1..p.len()).rev() {
            share += p[j];
            levels[j] = match self.scale {
                Scale::Linear => self.sigma_min + (self.sigma_max - self.sigma_min) * share,
                Scale::Log => self.sigma_min * (self.log_range() * share).exp(),
            };
        }
        levels[0] = self.sigma_max;
        Schedule::new(levels)
    }

    /// `dL/dtheta` from `dL/dsigma` (all `N` levels, sampling order; the fixed ends' entries are ignored).
    ///
    /// # Errors
    /// Those of [`SoftmaxIncrements::sigmas`].
    pub fn pullback(&self, theta: &[f64], d_sigma: &[f64]) -> Result<Vec<f64>, ScheduleError> {
        let schedule = self.sigmas(theta)?;
        let p = softmax(theta);
        // dL/dp_k = sum of dL/dsigma_j dsigma_j/dshare over the interior levels j <= k
        let mut running = 0.0;
        let d_p: Vec<f64> = (0..p.len())
            .map(|k| {
                if k > 0 {
                    running += d_sigma[k]
                        * match self.scale {
                            Scale::Linear => self.sigma_max - self.sigma_min,
                            Scale::Log => schedule.levels()[k] * self.log_range(),
                        };
                }
                running
            })
            .collect();
        let mean: f64 = p.iter().zip(&d_p).map(|(p, d)| p * d).sum();
        Ok(p.iter().zip(&d_p).map(|(p, d)| p * (d - mean)).collect())
    }

    fn log_range(&self) -> f64 {
        (self.sigma_max / self.sigma_min).ln()
    }
}

fn softmax(theta: &[f64]) -> Vec<f64> {
    let max = theta.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = theta.iter().map(|t| (t - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::karras;

    #[test]
    fn reproduces_the_schedule_it_came_from() {
        for scale in [Scale::Linear, Scale::Log] {
            for n in [1, 2, 3, 18] {
                let schedule = karras(n, 0.002, 80.0, 7.0).unwrap();
                let (increments, theta) = SoftmaxIncrements::from_schedule(&schedule, scale);
                assert_eq!(theta.len(), n - 1);
                let again = increments.sigmas(&theta).unwrap();
                for (a, b) in again.levels().iter().zip(schedule.levels()) {
                    assert!((a / b - 1.0).abs() < 1e-9, "{scale:?} {n}: {a} is not {b}");
                }
            }
        }
    }

    #[test]
    fn pullback_matches_differences() {
        let weights = [0.3, -1.0, 2.0, 0.7, 5.0, -0.1];
        let loss = |s: &Schedule| s.levels().iter().zip(weights).map(|(s, w)| w * s * s).sum::<f64>();
        for scale in [Scale::Linear, Scale::Log] {
            let start = karras(6, 0.01, 10.0, 5.0).unwrap();
            let (increments, theta) = SoftmaxIncrements::from_schedule(&start, scale);
            let d_sigma: Vec<f64> = start.levels().iter().zip(weights).map(|(s, w)| 2.0 * w * s).collect();
            let gradient = increments.pullback(&theta, &d_sigma).unwrap();
            for k in 0..theta.len() {
                let at = |h: f64| {
                    let mut moved = theta.clone();
                    moved[k] += h;
                    loss(&increments.sigmas(&moved).unwrap())
                };
                let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((gradient[k] - difference).abs() < 1e-6 * (1.0 + difference.abs()), "{scale:?} {k}");
            }
        }
    }

    #[test]
    fn coinciding_levels_and_nan_are_errors() {
        let increments = SoftmaxIncrements { scale: Scale::Log, sigma_min: 0.1, sigma_max: 10.0 };
        assert!(increments.sigmas(&[0.0, -2000.0, 0.0]).is_err());
        assert!(increments.sigmas(&[0.0, f64::NAN]).is_err());
    }
}
