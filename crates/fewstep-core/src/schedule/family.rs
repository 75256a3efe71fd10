//! Schedules by name: what a command line or a configuration file picks from.

use serde::{Deserialize, Serialize};

use super::{
    IddpmLevels, Schedule, ScheduleError, cosine, flow_trailing, flow_uniform, iddpm, karras, log_snr, time_uniform,
    timestep_uniform, ve, vp,
};
use crate::denoiser::Levels;
use crate::parameterisation::Alphas;

/// Declares the families, each with its name and the parameters that the name stands for, so that no variant can be missing from
/// [`SCHEDULES`].
macro_rules! families {
    ($(#[$attribute:meta])* pub enum $family:ident {$(
        $(#[$about:meta])*
        $variant:ident $({ $($(#[$of_field:meta])* $field:ident: $type:ty,)+ })? $(($value:ty))? as $name:literal = $default:expr;
    )+}) => {
        $(#[$attribute])*
        pub enum $family {$(
            $(#[$about])*
            $variant $({ $($(#[$of_field])* $field: $type,)+ })? $(($value))?,
        )+}

        /// Every family with its name, as on the command line and in the names of methods (`karras/euler`), and the parameters that
        /// the name stands for.
        pub const SCHEDULES: [(&str, $family); [$($name),+].len()] = [$(($name, $default)),+];
    };
}

families! {
    /// A family of schedules with its parameters; [`Family::build`] makes the levels.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    pub enum Family {
        /// [`karras`].
        Karras {
            /// Exponent; EDM's is 7.
            rho: f64,
        } as "karras" = Family::Karras { rho: 7.0 };
        /// [`log_snr`].
        LogSnr as "log_snr" = Family::LogSnr;
        /// [`vp`].
        Vp {
            /// The smallest time; EDM's is 0.001.
            epsilon_s: f64,
        } as "vp" = Family::Vp { epsilon_s: 1e-3 };
        /// [`ve`].
        Ve as "ve" = Family::Ve;
        /// [`iddpm`].
        Iddpm(IddpmLevels) as "iddpm" = Family::Iddpm(IddpmLevels::DEFAULT);
        /// [`cosine`].
        Cosine as "cosine" = Family::Cosine;
        /// [`time_uniform`].
        TimeUniform {
            /// Exponent; 1 is uniform.
            rho: f64,
        } as "time_uniform" = Family::TimeUniform { rho: 1.0 };
        /// [`timestep_uniform`].
        TimestepUniform {
            /// The table that the timesteps count.
            alphas: Alphas,
        } as "timestep_uniform" = Family::TimestepUniform { alphas: Alphas::STABLE_DIFFUSION };
        /// [`flow_uniform`].
        FlowUniform {
            /// Shift of the time; 1 is none.
            shift: f64,
        } as "flow_uniform" = Family::FlowUniform { shift: 1.0 };
        /// [`flow_trailing`].
        FlowTrailing {
            /// Shift of the time; 1 is none.
            shift: f64,
        } as "flow_trailing" = Family::FlowTrailing { shift: 1.0 };
    }
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
            Self::FlowTrailing { shift } => flow_trailing(n, sigma_min, sigma_max, *shift),
            Self::TimestepUniform { alphas } => timestep_uniform(n, sigma_min, sigma_max, alphas),
        }
    }

    /// Whether its levels are some of a table's: it has only so many, and they need not reach the ends of the range.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Iddpm(_) | Self::TimestepUniform { .. })
    }

    /// Whether the least of its levels is that of the range, for every number of levels above 1: else it may lie above, where the last of
    /// equal steps begins.
    pub fn reaches_the_end(&self) -> bool {
        !self.is_table() && !matches!(self, Self::FlowTrailing { .. })
    }

    /// Whether it is of no use on other denoisers than flows.
    pub fn is_for_flows(&self) -> bool {
        matches!(self, Self::FlowUniform { .. } | Self::FlowTrailing { .. })
    }

    /// This family with a denoiser's own parameters in place of its own, where both have some of one kind: the shift of a rectified
    /// flow, the table of alphas.
    pub fn on(&self, levels: &Levels) -> Self {
        match (self, &levels.own) {
            (Self::FlowTrailing { .. }, Some(Self::FlowUniform { shift })) => Self::FlowTrailing { shift: *shift },
            (Self::FlowUniform { .. }, Some(own @ Self::FlowUniform { .. }))
            | (Self::TimestepUniform { .. }, Some(own @ Self::TimestepUniform { .. })) => own.clone(),
            _ => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameterisation::{AlphaNetwork, Parameterisation, Prediction, RectifiedFlow};

    #[test]
    fn families_keep_their_ends() {
        for (name, family) in SCHEDULES.into_iter().filter(|(_, family)| family.reaches_the_end()) {
            for n in [1, 2, 5, 40] {
                let schedule = family.build(n, 0.002, 80.0).unwrap();
                assert_eq!((schedule.len(), schedule.sigma_max()), (n, 80.0), "{name}");
                assert!(n == 1 || schedule.sigma_min() == 0.002, "{name}");
            }
        }
        for (name, family) in SCHEDULES {
            assert!(family.build(3, 2.0, 1.0).is_err() && family.build(0, 1.0, 2.0).is_err(), "{name}");
        }
    }

    /// A family's name is that of its `type` in files, too.
    #[test]
    fn names_are_those_in_files() {
        for (name, family) in SCHEDULES {
            let json = serde_json::to_value(&family).unwrap();
            assert_eq!(json["type"], name);
            assert_eq!(serde_json::from_value::<Family>(json).unwrap(), family);
        }
    }

    /// A network's own parameters replace those that a name stands for.
    #[test]
    fn families_of_networks() {
        let flow = Parameterisation::Flow(RectifiedFlow { shift: 5.0, ..RectifiedFlow::default() });
        let table = AlphaNetwork::new(Prediction::Eps, Alphas::DDPM, 0.5).unwrap();
        let table = Parameterisation::Alphas(table);
        let flow_uniform = Family::FlowUniform { shift: 1.0 };
        let timestep_uniform = Family::TimestepUniform { alphas: Alphas::STABLE_DIFFUSION };
        let of = |network: &Parameterisation| Levels::from(network);
        assert_eq!(flow_uniform.on(&of(&flow)), Family::FlowUniform { shift: 5.0 });
        assert_eq!(Family::FlowTrailing { shift: 1.0 }.on(&of(&flow)), Family::FlowTrailing { shift: 5.0 });
        assert_eq!(timestep_uniform.on(&of(&table)), Family::TimestepUniform { alphas: Alphas::DDPM });
        assert_eq!(
            (flow_uniform.on(&of(&table)), timestep_uniform.on(&of(&flow))),
            (flow_uniform.clone(), timestep_uniform.clone())
        );
        for (family, network) in [(flow_uniform, flow), (timestep_uniform, table)] {
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
