//! Schedules by name: what a command line or a configuration file picks from.

use serde::{Deserialize, Serialize};

use super::{
    IddpmLevels, NoiseFunction, Path, Scaling, Schedule, ScheduleError, VpNoise, cosine, flow_uniform, iddpm, karras,
    log_snr, time_uniform, timestep_uniform, ve, vp,
};
use crate::denoiser::Levels;
use crate::parameterisation::{Alphas, Parameterisation};

/// A family of schedules with its parameters; [`Family::build`] makes the levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Family {
    /// [`karras`].
    Karras {
        /// Exponent; EDM's is 7.
        rho: f64,
    },
    /// [`log_snr`].
    LogSnr,
    /// [`vp`].
    Vp {
        /// The smallest time; EDM's is 0.001.
        epsilon_s: f64,
    },
    /// [`ve`].
    Ve,
    /// [`iddpm`].
    Iddpm(IddpmLevels),
    /// [`cosine`].
    Cosine,
    /// [`time_uniform`].
    TimeUniform {
        /// Exponent; 1 is uniform.
        rho: f64,
    },
    /// [`flow_uniform`].
    FlowUniform {
        /// Shift of the time; 1 is none.
        shift: f64,
    },
    /// [`timestep_uniform`].
    TimestepUniform {
        /// The table that the timesteps count.
        alphas: Alphas,
    },
}

impl Family {
    /// `n` levels of this family between the ends.
    ///
    /// # Errors
    /// Those of the family's own function.
    pub fn build(&self, n: usize, sigma_min: f64, sigma_max: f64) -> Result<Schedule, ScheduleError> {
        match self {
            Self::Karras { rho } => karras(n, sigma_min, sigma_max, *rho),
            Self::LogSnr => log_snr(n, sigma_min, sigma_max),
            Self::Vp { epsilon_s } => vp(n, sigma_min, sigma_max, *epsilon_s),
            Self::Ve => ve(n, sigma_min, sigma_max),
            Self::Iddpm(levels) => iddpm(n, sigma_min, sigma_max, levels),
            Self::Cosine => cosine(n, sigma_min, sigma_max),
            Self::TimeUniform { rho } => time_uniform(n, sigma_min, sigma_max, *rho),
            Self::FlowUniform { shift } => flow_uniform(n, sigma_min, sigma_max, *shift),
            Self::TimestepUniform { alphas } => timestep_uniform(n, sigma_min, sigma_max, alphas),
        }
    }

    /// This family with a denoiser's own parameters in place of its own, where both have some of one kind: the shift of a rectified
    /// flow, the table of alphas.
    pub fn on(&self, levels: &Levels) -> Self {
        match (self, &levels.own) {
            (Self::FlowUniform { .. }, Some(own @ Self::FlowUniform { .. }))
            | (Self::TimestepUniform { .. }, Some(own @ Self::TimestepUniform { .. })) => own.clone(),
            _ => self.clone(),
        }
    }
}

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
    /// If `n` is 0, the range is empty, or two levels are rounded to one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameterisation::{AlphaNetwork, Prediction, RectifiedFlow};

    #[test]
    fn families_keep_their_ends() {
        let families = [
            Family::Karras { rho: 7.0 },
            Family::LogSnr,
            Family::Vp { epsilon_s: 1e-3 },
            Family::Ve,
            Family::Cosine,
            Family::TimeUniform { rho: 2.0 },
            Family::FlowUniform { shift: 3.0 },
        ];
        for family in families {
            for n in [1, 2, 5, 40] {
                let schedule = family.build(n, 0.002, 80.0).unwrap();
                assert_eq!((schedule.len(), schedule.sigma_max()), (n, 80.0), "{family:?}");
                assert!(n == 1 || schedule.sigma_min() == 0.002, "{family:?}");
            }
            assert!(family.build(3, 2.0, 1.0).is_err() && family.build(0, 1.0, 2.0).is_err());
        }
    }

    /// Named families are written and read under their names, and a network's own parameters replace theirs.
    #[test]
    fn families_of_networks() {
        let flow = Parameterisation::Flow(RectifiedFlow { shift: 5.0, ..RectifiedFlow::default() });
        let table = AlphaNetwork::new(Prediction::Eps, Alphas::DDPM, 0.5).unwrap();
        let table = Parameterisation::Alphas(table);
        let flow_uniform = Family::FlowUniform { shift: 1.0 };
        let timestep_uniform = Family::TimestepUniform { alphas: Alphas::STABLE_DIFFUSION };
        let of = |network: &Parameterisation| Levels::from(network);
        assert_eq!(flow_uniform.on(&of(&flow)), Family::FlowUniform { shift: 5.0 });
        assert_eq!(timestep_uniform.on(&of(&table)), Family::TimestepUniform { alphas: Alphas::DDPM });
        assert_eq!(
            (flow_uniform.on(&of(&table)), timestep_uniform.on(&of(&flow))),
            (flow_uniform.clone(), timestep_uniform.clone())
        );
        for (family, network, name) in [
            (flow_uniform, flow, r#""type":"flow_uniform""#),
            (timestep_uniform, table, r#""type":"timestep_uniform""#),
        ] {
            let text = serde_json::to_string(&family).unwrap();
            assert!(text.contains(name), "{text}");
            assert_eq!(serde_json::from_str::<Family>(&text).unwrap(), family);
            let (low, high) = network.sampling_range();
            assert_eq!(family.on(&Levels::from(&network)).build(6, low, high).unwrap().sigma_max(), high);
        }
    }

    /// The levels that diff-sampler's own schedules give (stored there as f32).
    #[test]
    fn known_values() {
        let close = |schedule: Schedule, expected: &[f64]| {
            for (a, b) in schedule.levels().iter().zip(expected) {
                assert!((a / b - 1.0).abs() < 2e-6, "{a} is not {b}");
            }
        };
        close(karras(5, 0.002, 80.0, 7.0).unwrap(), &[80.0, 17.527830, 2.5152194, 0.16975267, 0.002]);
        close(log_snr(5, 0.002, 80.0).unwrap(), &[80.0, 5.6568542, 0.4, 0.02828427, 0.002]);
        close(ve(5, 0.002, 80.0).unwrap(), &[80.0, 5.6568542, 0.4, 0.02828427, 0.002]);
        // diff-sampler works this one out in single precision, where its digits cancel
        let uniform = time_uniform(5, 0.002, 80.0, 1.0).unwrap();
        for (a, b) in uniform.levels().iter().zip([80.0, 11.734313, 2.8237092, 0.85647261]) {
            assert!((a / b - 1.0).abs() < 2e-5, "{a} is not {b}");
        }
        // iDDPM's ends are the outermost discrete levels inside the range
        let discrete = iddpm(6, 0.002, 81.0, &IddpmLevels::default()).unwrap();
        assert!((discrete.sigma_min() / 0.0064223371 - 1.0).abs() < 1e-6 && discrete.sigma_max() < 81.0);
        assert!(matches!(
            iddpm(2000, 0.002, 81.0, &IddpmLevels::default()),
            Err(ScheduleError::TooFewDiscreteLevels { asked: 2000, .. })
        ));
    }
}
