//! Noise schedules: which noise levels a sampler visits. One file a family.
//!
//! A [`Schedule`] of `N` levels costs a first-order sampler `N` evaluations: one at each level, the last of them the
//! step to zero noise. (Some tools count timestamps instead and stop at the last; see [`crate::solver::LastStep`].)

mod cosine;
mod discretization;
mod family;
mod flow_uniform;
mod iddpm;
mod increments;
mod karras;
mod log_snr;
mod path;
mod time_uniform;
mod timestep_uniform;
mod ve;
mod vp;

use serde::{Deserialize, Serialize};

use crate::parameterisation::ParameterisationError;
pub use cosine::cosine;
pub use discretization::Discretization;
pub use family::{Family, SCHEDULES};
pub(crate) use flow_uniform::shifted_time;
pub use flow_uniform::{flow_trailing, flow_uniform};
pub use iddpm::{IddpmLevels, iddpm};
pub use increments::{Scale, SoftmaxIncrements};
pub use karras::karras;
pub use log_snr::log_snr;
pub use path::{NoiseFunction, Path, Scaling};
pub use time_uniform::time_uniform;
pub use timestep_uniform::timestep_uniform;
pub use ve::ve;
pub use vp::{VpNoise, vp};

/// Noise levels of a schedule by a formula, at most: more are a slip of the hand, and may not fit into memory.
pub const MOST_LEVELS: usize = 10_000;

/// Noise levels in sampling order: strictly decreasing, positive and finite, at least one.
///
/// Serialised as a plain list; a list that breaks these rules is refused when read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Schedule(Vec<f64>);

/// Why a list of noise levels is not a schedule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// No levels.
    #[error("a schedule needs at least one noise level")]
    Empty,
    /// More levels asked for than a schedule may have.
    #[error("a schedule has at most {MOST_LEVELS} noise levels, and {asked} were asked for")]
    TooMany {
        /// Levels asked for.
        asked: usize,
    },
    /// A level that is zero, negative, infinite or NaN.
    #[error(
        "noise level {level} (number {index}, counting from 0) is not a positive finite number (the final 0 is not written)"
    )]
    NotPositive {
        /// Position in the list.
        index: usize,
        /// The offending value.
        level: f64,
    },
    /// Two neighbours in the wrong order, or equal.
    #[error(
        "noise levels must fall strictly, but number {index} is {level} and the one before it is {previous} \
         (list them largest first, without repeats)"
    )]
    NotDecreasing {
        /// Position of the second of the two.
        index: usize,
        /// The level there.
        level: f64,
        /// The level before it.
        previous: f64,
    },
    /// A range whose ends are not `0 < sigma_min < sigma_max < infinity`.
    #[error("the noise range must satisfy 0 < sigma_min < sigma_max, but it is {sigma_min} to {sigma_max}")]
    Range {
        /// Lower end.
        sigma_min: f64,
        /// Upper end.
        sigma_max: f64,
    },
    /// A parameter of a family outside its domain.
    #[error("{name} must be {rule}, but it is {value}")]
    Parameter {
        /// The parameter's name.
        name: &'static str,
        /// What it must satisfy.
        rule: &'static str,
        /// What it is.
        value: f64,
    },
    /// Two schedules of which one was to become the other.
    #[error("a schedule of {levels} noise levels does not become one of {others}")]
    Lengths {
        /// Levels of the one.
        levels: usize,
        /// Levels of the other.
        others: usize,
    },
    /// More levels asked for than a discrete family has in the range.
    #[error(
        "{asked} noise levels were asked for, but only {available} of the model's discrete levels lie in the range"
    )]
    TooFewDiscreteLevels {
        /// Levels asked for.
        asked: usize,
        /// Levels there are.
        available: usize,
    },
    /// A table of alphas that is none.
    #[error(transparent)]
    Alphas(#[from] ParameterisationError),
}

impl Schedule {
    /// A schedule of exactly these levels, largest first.
    ///
    /// # Errors
    /// If the list is empty, a level is not positive and finite, or the levels do not fall strictly.
    pub fn new(levels: Vec<f64>) -> Result<Self, ScheduleError> {
        if levels.is_empty() {
            return Err(ScheduleError::Empty);
        }
        if let Some((index, &level)) = levels.iter().enumerate().find(|(_, s)| !(s.is_finite() && **s > 0.0)) {
            return Err(ScheduleError::NotPositive { index, level });
        }
        for (index, pair) in levels.windows(2).enumerate() {
            if pair[1] >= pair[0] {
                return Err(ScheduleError::NotDecreasing { index: index + 1, level: pair[1], previous: pair[0] });
            }
        }
        Ok(Self(levels))
    }

    /// The levels, largest first.
    pub fn levels(&self) -> &[f64] {
        &self.0
    }

    /// Number of levels, which is the number of evaluations of a first-order sampler. Never zero.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The largest level.
    pub fn sigma_max(&self) -> f64 {
        self.0[0]
    }

    /// The smallest level.
    pub fn sigma_min(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// The schedule between this one (`alpha` 0) and `other` (1): each level interpolated in its logarithm.
    ///
    /// # Errors
    /// If their numbers of levels differ.
    pub fn interpolated(&self, other: &Self, alpha: f64) -> Result<Self, ScheduleError> {
        if self.len() != other.len() {
            return Err(ScheduleError::Lengths { levels: self.len(), others: other.len() });
        }
        let between = |(from, to): (&f64, &f64)| from * (to / from).powf(alpha);
        Self::new(self.0.iter().zip(&other.0).map(between).collect())
    }
}

impl TryFrom<Vec<f64>> for Schedule {
    type Error = ScheduleError;

    fn try_from(levels: Vec<f64>) -> Result<Self, ScheduleError> {
        Self::new(levels)
    }
}

impl From<Schedule> for Vec<f64> {
    fn from(schedule: Schedule) -> Self {
        schedule.0
    }
}

impl AsRef<[f64]> for Schedule {
    fn as_ref(&self) -> &[f64] {
        &self.0
    }
}

/// `n` levels from `sigma_max` to `sigma_min`: `level(u)` at `u = i / (n - 1)`, with both ends exactly as given.
/// One level is `sigma_max` alone.
fn spaced(n: usize, sigma_min: f64, sigma_max: f64, level: impl Fn(f64) -> f64) -> Result<Schedule, ScheduleError> {
    check_count(n)?;
    check_range(sigma_min, sigma_max)?;
    let mut levels: Vec<f64> = (0..n).map(|i| level(i as f64 / (n.max(2) - 1) as f64)).collect();
    if n > 1 {
        levels[n - 1] = sigma_min;
    }
    levels[0] = sigma_max;
    Schedule::new(levels)
}

fn check_count(n: usize) -> Result<(), ScheduleError> {
    match n {
        0 => Err(ScheduleError::Empty),
        1..=MOST_LEVELS => Ok(()),
        asked => Err(ScheduleError::TooMany { asked }),
    }
}

fn check_range(sigma_min: f64, sigma_max: f64) -> Result<(), ScheduleError> {
    if sigma_min > 0.0 && sigma_min < sigma_max && sigma_max.is_finite() {
        Ok(())
    } else {
        Err(ScheduleError::Range { sigma_min, sigma_max })
    }
}

fn check_positive(name: &'static str, value: f64) -> Result<(), ScheduleError> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(ScheduleError::Parameter { name, rule: "positive and finite", value })
    }
}

fn lerp(from: f64, to: f64, u: f64) -> f64 {
    from + u * (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_a_schedule() {
        assert_eq!(Schedule::new(vec![]), Err(ScheduleError::Empty));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Schedule::new(vec![2.0, bad]), Err(ScheduleError::NotPositive { index: 1, .. })), "{bad}");
        }
        assert!(matches!(Schedule::new(vec![1.0, 1.0]), Err(ScheduleError::NotDecreasing { index: 1, .. })));
        assert!(matches!(Schedule::new(vec![1.0, 2.0]), Err(ScheduleError::NotDecreasing { .. })));
        assert!(Schedule::new(vec![3.0]).is_ok());
    }

    #[test]
    fn formulas_have_so_many_levels_at_most() {
        assert_eq!(karras(MOST_LEVELS, 0.002, 80.0, 7.0).unwrap().len(), MOST_LEVELS);
        for asked in [MOST_LEVELS + 1, usize::MAX] {
            for family in SCHEDULES {
                let found = family.1.build(asked, 0.01, 40.0);
                assert_eq!(found, Err(ScheduleError::TooMany { asked }), "{}", family.0);
            }
        }
    }

    #[test]
    fn interpolation_is_in_the_logarithm() {
        let schedule = |levels: &[f64]| Schedule::new(levels.to_vec()).unwrap();
        let (a, b) = (schedule(&[80.0, 1.0, 0.01]), schedule(&[20.0, 4.0, 0.01]));
        assert_eq!(a.interpolated(&b, 0.0).unwrap(), a);
        assert_eq!(a.interpolated(&b, 1.0).unwrap(), b);
        let middle = a.interpolated(&b, 0.5).unwrap();
        let expected = [40.0, 2.0, 0.01];
        assert!(middle.levels().iter().zip(expected).all(|(found, expected)| (found / expected - 1.0).abs() < 1e-12));
        assert_eq!(a.interpolated(&schedule(&[1.0]), 0.5), Err(ScheduleError::Lengths { levels: 3, others: 1 }));
    }

    #[test]
    fn serde_is_a_list_and_is_checked() {
        let schedule = karras(4, 0.002, 80.0, 7.0).unwrap();
        let text = serde_json::to_string(&schedule).unwrap();
        assert!(text.starts_with("[80.0,"));
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
        let error = serde_json::from_str::<Schedule>("[1.0, 2.0]").unwrap_err();
        assert!(error.to_string().contains("fall strictly"), "{error}");
    }
}
