//! Noise levels that a denoiser knows.

use crate::parameterisation::Parameterisation;
use crate::schedule::{Family, Schedule, ScheduleError};

/// Noise levels that a denoiser knows: a range ([`Levels::between`]), a list, or those of a [`Parameterisation`] (`Levels::from`). The
/// unit is the standard deviation of the noise, in that of the samples' values.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// Least and greatest level that it answers at; the greatest may be infinite.
    pub supported: (f64, f64),
    /// Least and greatest level that samplers use where nothing else is asked for; both finite.
    pub sampling: (f64, f64),
    /// The levels of a denoiser that knows no others, falling; empty for one that knows all between.
    pub discrete: Vec<f64>,
    /// The schedule of the denoiser's own sampler, where it has parameters of the denoiser's: a flow's shift, a table of alphas.
    pub own: Option<Family>,
}

impl Levels {
    /// All levels between these.
    pub fn between(sigma_min: f64, sigma_max: f64) -> Self {
        let range = (sigma_min, sigma_max);
        Self { supported: range, sampling: range, discrete: Vec::new(), own: None }
    }

    /// Whether it knows some levels and none between them.
    pub fn is_discrete(&self) -> bool {
        !self.discrete.is_empty()
    }

    /// The known level nearest to `sigma`, which is itself where all are known.
    pub fn nearest(&self, sigma: f64) -> f64 {
        if self.discrete.is_empty() { sigma } else { self.discrete[nearest(&self.discrete, sigma)] }
    }
}

impl From<&Parameterisation> for Levels {
    fn from(parameterisation: &Parameterisation) -> Self {
        Self {
            supported: (parameterisation.sigma_min(), parameterisation.sigma_max()),
            sampling: parameterisation.sampling_range(),
            discrete: parameterisation.discrete_levels(),
            own: match parameterisation {
                Parameterisation::Flow(flow) => Some(Family::FlowUniform { shift: flow.shift }),
                Parameterisation::Alphas(network) => Some(Family::TimestepUniform { alphas: network.alphas().clone() }),
                _ => None,
            },
        }
    }
}

impl Schedule {
    /// Every level moved to the nearest one that a denoiser knows.
    ///
    /// # Errors
    /// If two levels are rounded to one: ask for fewer levels, or a wider range.
    pub fn round(&self, levels: &Levels) -> Result<Self, ScheduleError> {
        Self::new(self.levels().iter().map(|sigma| levels.nearest(*sigma)).collect())
    }

    /// As [`Schedule::round`], for grids to choose from: levels that round to the same are one.
    ///
    /// # Errors
    /// If a level rounds to none that a schedule can have.
    pub fn round_grid(&self, levels: &Levels) -> Result<Self, ScheduleError> {
        let mut rounded: Vec<f64> = self.levels().iter().map(|sigma| levels.nearest(*sigma)).collect();
        rounded.dedup();
        Self::new(rounded)
    }
}

/// Index of the element nearest to `sigma` in single precision; the first of equals, as the reference networks pick.
pub(crate) fn nearest(falling: &[f64], sigma: f64) -> usize {
    let sigma = f64::from(sigma as f32);
    let after = falling.partition_point(|&u| u > sigma);
    match (after.checked_sub(1), falling.get(after)) {
        (Some(before), Some(_)) if falling[before] - sigma <= sigma - falling[after] => before,
        (Some(before), None) => before,
        _ => after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::karras;

    #[test]
    fn rounds_to_discrete_levels_and_refuses_collisions() {
        let network = Parameterisation::IDDPM;
        let levels = Levels::from(&network);
        let rounded = karras(6, 0.01, 80.0, 7.0).unwrap().round(&levels).unwrap();
        for &level in rounded.levels() {
            assert_eq!(network.round_sigma(level), level);
        }
        let crowded = Schedule::new(vec![1.0 + 1e-9, 1.0]).unwrap();
        assert!(matches!(crowded.round(&levels), Err(ScheduleError::NotDecreasing { .. })));
        assert_eq!(crowded.round_grid(&levels).unwrap().len(), 1);
        assert_eq!(Levels::between(0.1, 2.0).nearest(0.123), 0.123);
    }
}
