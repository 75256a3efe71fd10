//! Rectified flow (Liu et al. 2023, Lipman et al. 2023; SiT, Stable Diffusion 3, FLUX, Wan): `x_t = (1 - t) y + t n`, and
//! the network predicts the velocity `n - y`. In canonical terms `sigma = t / (1 - t)` and `x_t = x / (1 + sigma)`.

use serde::{Deserialize, Serialize};

use super::{Coefficients, ParameterisationError, check, half, positive};
use crate::scalar::Scalar;
use crate::schedule::shifted_time;

/// A rectified-flow network: what it answers, what it is told, and which of its times are sampled.
///
/// Read from a file, the parameters are unchecked: call [`super::Parameterisation::validate`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RectifiedFlow {
    /// The sign of the velocity.
    pub velocity: Velocity,
    /// How the network is told the time.
    pub timestep: FlowTimestep,
    /// Shift `s` of the times that are visited, `t -> s t / (1 + (s - 1) t)` (Esser et al. 2024, Eq. 23), 1 for none. It
    /// changes the default range and [`crate::schedule::flow_uniform`], not the network's time.
    pub shift: f64,
    /// The smallest time that is sampled, after the shift; without it the shifted 1/1000, as diffusers has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_min: Option<f64>,
    /// The largest time that is sampled, after the shift, at most 0.999: at `t = 1` there is no signal and no finite sigma.
    pub t_max: f64,
    /// Standard deviation of the data.
    pub sigma_data: f64,
}

/// The velocity that a rectified-flow network predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Velocity {
    /// `n - y`.
    #[default]
    NoiseMinusData,
    /// `y - n`.
    DataMinusNoise,
}

/// The number that tells a rectified-flow network its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowTimestep {
    /// `t`.
    #[serde(rename = "t")]
    T,
    /// `1 - t`.
    #[serde(rename = "1-t")]
    OneMinusT,
    /// `1000 t`.
    #[default]
    #[serde(rename = "1000t")]
    ThousandT,
}

/// The smallest time before the shift: the first of diffusers' 1000 training times.
const FIRST_TIME: f64 = 1e-3;
/// The largest time that has a usable sigma.
const LAST_TIME: f64 = 0.999;

impl Default for RectifiedFlow {
    /// Stable Diffusion 3's and FLUX's conventions, without a shift.
    fn default() -> Self {
        Self {
            velocity: Velocity::default(),
            timestep: FlowTimestep::default(),
            shift: 1.0,
            t_min: None,
            t_max: LAST_TIME,
            sigma_data: half(),
        }
    }
}

impl RectifiedFlow {
    /// `sigma = t / (1 - t)` of the smallest time.
    pub(super) fn sigma_min(&self) -> f64 {
        let t = self.smallest_time();
        t / (1.0 - t)
    }

    /// `sigma = t / (1 - t)` of the largest time.
    pub(super) fn sigma_max(&self) -> f64 {
        self.t_max / (1.0 - self.t_max)
    }

    fn smallest_time(&self) -> f64 {
        self.t_min.unwrap_or_else(|| shifted_time(FIRST_TIME, self.shift))
    }

    /// With `y = x_t - t (n - y)`: `D = x / (1 + sigma) - sigma / (1 + sigma) v`.
    pub(super) fn coefficients<S: Scalar>(&self, sigma: &S) -> Coefficients<S> {
        let rest = || sigma.clone().add_f64(1.0).recip(); // 1 - t
        let time = || sigma.clone() / sigma.clone().add_f64(1.0);
        Coefficients {
            c_skip: rest(),
            c_out: match self.velocity {
                Velocity::NoiseMinusData => -time(),
                Velocity::DataMinusNoise => time(),
            },
            c_in: rest(),
            c_noise: match self.timestep {
                FlowTimestep::T => time(),
                FlowTimestep::OneMinusT => rest(),
                FlowTimestep::ThousandT => time().mul_f64(1000.0),
            },
        }
    }

    pub(super) fn validate(&self) -> Result<(), ParameterisationError> {
        positive("shift", self.shift)?;
        check("t_max", self.t_max, "above 0 and at most 0.999", self.t_max > 0.0 && self.t_max <= LAST_TIME)?;
        let t_min = self.smallest_time();
        check("t_min", t_min, "above 0 and below t_max", t_min > 0.0 && t_min < self.t_max)?;
        positive("sigma_data", self.sigma_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameterisation;

    #[test]
    fn the_shift_moves_the_default_range() {
        let flow = RectifiedFlow { shift: 3.0, ..RectifiedFlow::default() };
        // diffusers' `sigma_min` is the shifted 1/1000, as a time
        let t = 3.0 * 0.001 / (1.0 + 2.0 * 0.001);
        let (low, high) = Parameterisation::Flow(flow).sampling_range();
        assert!((low / (t / (1.0 - t)) - 1.0).abs() < 1e-12 && (high / 999.0 - 1.0).abs() < 1e-12, "{low} {high}");
        let own = Parameterisation::Flow(RectifiedFlow { t_min: Some(0.2), t_max: 0.75, ..flow });
        assert_eq!(own.sampling_range(), (0.25, 3.0));
        assert_eq!((own.sigma_min(), own.sigma_max()), (0.25, 3.0));
    }

    #[test]
    fn the_label_is_the_network_s_own_time() {
        for (timestep, label) in
            [(FlowTimestep::T, 0.75), (FlowTimestep::OneMinusT, 0.25), (FlowTimestep::ThousandT, 750.0)]
        {
            // whatever the shift
            let flow = RectifiedFlow { timestep, shift: 5.0, ..RectifiedFlow::default() };
            let c = Parameterisation::Flow(flow).coefficients(&3.0);
            assert_eq!((c.c_skip, c.c_out, c.c_in, c.c_noise), (0.25, -0.75, 0.25, label));
        }
    }

    #[test]
    fn files_are_readable_and_exact() {
        let text = r#"{"type":"flow","timestep":"1-t","velocity":"data_minus_noise","shift":3}"#;
        let read: Parameterisation = serde_json::from_str(text).unwrap();
        read.validate().unwrap();
        let meant = RectifiedFlow {
            timestep: FlowTimestep::OneMinusT,
            velocity: Velocity::DataMinusNoise,
            shift: 3.0,
            ..RectifiedFlow::default()
        };
        assert_eq!(read, Parameterisation::Flow(meant));
        let exact = RectifiedFlow { t_min: Some(0.1 / 3.0), t_max: 0.7 / 3.0, sigma_data: 1.0 / 3.0, ..meant };
        for flow in [RectifiedFlow::default(), meant, exact] {
            let flow = Parameterisation::Flow(flow);
            let text = serde_json::to_string(&flow).unwrap();
            assert_eq!(serde_json::from_str::<Parameterisation>(&text).unwrap(), flow, "{text}");
        }
        assert!(serde_json::from_str::<Parameterisation>(r#"{"type":"flow","shfit":3}"#).is_err());
        assert!(serde_json::from_str::<Parameterisation>(r#"{"type":"flow","timestep":"2t"}"#).is_err());
    }

    #[test]
    fn validation_names_the_parameter() {
        let flow = RectifiedFlow::default();
        for (flow, name) in [
            (RectifiedFlow { shift: 0.0, ..flow }, "shift"),
            (RectifiedFlow { shift: f64::NAN, ..flow }, "shift"),
            (RectifiedFlow { shift: f64::INFINITY, ..flow }, "shift"),
            // its default range is empty
            (RectifiedFlow { shift: 1e6, ..flow }, "t_min"),
            (RectifiedFlow { t_min: Some(0.0), ..flow }, "t_min"),
            (RectifiedFlow { t_min: Some(0.999), ..flow }, "t_min"),
            (RectifiedFlow { t_min: Some(f64::NAN), ..flow }, "t_min"),
            (RectifiedFlow { t_max: 1.0, ..flow }, "t_max"),
            (RectifiedFlow { t_max: f64::NAN, ..flow }, "t_max"),
            (RectifiedFlow { sigma_data: -1.0, ..flow }, "sigma_data"),
        ] {
            assert_eq!(Parameterisation::Flow(flow).validate().unwrap_err().name, name, "{flow:?}");
        }
    }
}
