//! The discretisations of Karras et al.'s ablation, each with its authors' noise range.

use serde::{Deserialize, Serialize};

use super::{Family, IddpmLevels, NoiseFunction, Path, Scaling, Schedule, ScheduleError, VpNoise};
use crate::denoiser::Levels;
use crate::parameterisation::Parameterisation;

/// The smallest VP time of EDM's samplers.
const EPSILON_S: f64 = 1e-3;

/// The four time discretisations that Karras et al. 2022 compare (Table 1), each with the noise range its authors use.
/// Together with [`NoiseFunction`] and [`Scaling`] they span EDM's ablation sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discretization {
    /// Song et al., variance preserving.
    Vp,
    /// Song et al., variance exploding.
    Ve,
    /// Nichol and Dhariwal.
    Iddpm,
    /// Karras et al., `rho = 7`.
    Edm,
}

impl Discretization {
    /// `(sigma_min, sigma_max)` of EDM's ablation sampler when the user gives none.
    pub fn default_range(self) -> (f64, f64) {
        match self {
            Self::Vp => {
                let noise = VpNoise { beta_d: 19.9, beta_min: 0.1 };
                (noise.sigma(EPSILON_S), noise.sigma(1.0))
            }
            Self::Ve => (0.02, 100.0),
            Self::Iddpm => (0.002, 81.0),
            Self::Edm => (0.002, 80.0),
        }
    }

    /// The default range cut to what the network supports.
    pub fn supported_range(self, network: &Parameterisation) -> (f64, f64) {
        let (sigma_min, sigma_max) = self.default_range();
        (sigma_min.max(network.sigma_min()), sigma_max.min(network.sigma_max()))
    }

    /// `n` levels over [`Discretization::supported_range`], rounded to what the network knows.
    ///
    /// # Errors
    /// If `n` is not from 1 to [`super::MOST_LEVELS`], the range is empty, or two levels are rounded to one.
    pub fn schedule(self, n: usize, network: &Parameterisation) -> Result<Schedule, ScheduleError> {
        let (sigma_min, sigma_max) = self.supported_range(network);
        let family = match self {
            Self::Vp => Family::Vp { epsilon_s: EPSILON_S },
            Self::Ve => Family::Ve,
            Self::Iddpm => Family::Iddpm(IddpmLevels::default()),
            Self::Edm => Family::Karras { rho: 7.0 },
        };
        family.build(n, sigma_min, sigma_max)?.round(&Levels::from(network))
    }

    /// The variance-preserving path over this discretisation's range, as EDM's ablation sampler fits it.
    ///
    /// # Errors
    /// If the network supports no part of the range.
    pub fn vp_path(self, network: &Parameterisation, scaling: Scaling) -> Result<Path, ScheduleError> {
        let (sigma_min, sigma_max) = self.supported_range(network);
        let noise = NoiseFunction::Vp(VpNoise::from_range(sigma_min, sigma_max, EPSILON_S)?);
        Ok(Path { noise, scaling })
    }
}
