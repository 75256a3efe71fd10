//! Schedules: what every family's levels must satisfy, for any number and range of them.

use fewstep_core::denoiser::Levels;
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::schedule::{Family, SCHEDULES, Scale, Schedule, SoftmaxIncrements};
use proptest::prelude::*;

/// Every family as its name stands for it, and some with other parameters.
fn families() -> impl Strategy<Value = Family> {
    prop_oneof![
        5 => prop::sample::select(SCHEDULES.map(|(_, family)| family).to_vec()),
        1 => (0.5..20.0_f64).prop_map(|rho| Family::Karras { rho }),
        1 => (0.5..20.0_f64).prop_map(|rho| Family::TimeUniform { rho }),
        1 => (0.1..10.0_f64).prop_map(|shift| Family::FlowUniform { shift }),
        1 => (0.1..10.0_f64).prop_map(|shift| Family::FlowTrailing { shift }),
    ]
}

/// The smallest level and how many times as large the largest is.
fn ranges() -> impl Strategy<Value = (f64, f64)> {
    (-9.0..0.0_f64, 0.7..12.0_f64).prop_map(|(low, ratio)| (low.exp(), (low + ratio).exp()))
}

proptest! {
    /// As many as were asked for, falling, from end to end and never beyond. (Tables of levels may have too few, or none near the ends, and
    /// VP noise rises from small levels alone.)
    #[test]
    fn families_fall_from_end_to_end(family in families(), n in 1..120usize, (low, high) in ranges()) {
        match family.build(n, low, high) {
            Ok(schedule) => {
                prop_assert_eq!(schedule.len(), n);
                prop_assert!(Schedule::new(schedule.levels().to_vec()).is_ok());
                prop_assert!(schedule.sigma_min() >= low && schedule.sigma_max() <= high, "{:?}", schedule);
                if !family.is_table() {
                    prop_assert_eq!(schedule.sigma_max(), high);
                    prop_assert!(n == 1 || schedule.sigma_min() == low || !family.reaches_the_end());
                }
            }
            Err(error) => {
                let vp = matches!(family, Family::Vp { .. } | Family::TimeUniform { .. });
                let may = family.is_table() || vp && error.to_string().contains("VP noise");
                prop_assert!(may, "{:?} with {} levels from {} to {}: {}", family, n, high, low, error);
            }
        }
    }

    /// What is rounded to a network's levels is of these, and rounding it again changes nothing.
    #[test]
    fn rounding_is_done_once(n in 1..40usize, (low, high) in ranges()) {
        let levels = Levels::from(&Parameterisation::IDDPM);
        if let Ok(schedule) = (Family::LogSnr).build(n, low, high)
            && let Ok(rounded) = schedule.round_grid(&levels)
        {
            prop_assert!(rounded.len() <= n);
            prop_assert_eq!(&rounded.round(&levels).unwrap(), &rounded);
            for level in rounded.levels() {
                prop_assert_eq!(levels.nearest(*level), *level);
            }
        }
    }

    /// The softmax of a schedule (Eq. 13) is that schedule.
    #[test]
    fn increments_give_the_schedule_back(n in 2..40usize, (low, high) in ranges(), log: bool) {
        let schedule = (Family::Karras { rho: 7.0 }).build(n, low, high).unwrap();
        let scale = if log { Scale::Log } else { Scale::Linear };
        let (increments, theta) = SoftmaxIncrements::from_schedule(&schedule, scale);
        let again = increments.sigmas(&theta).unwrap();
        for (a, b) in again.levels().iter().zip(schedule.levels()) {
            prop_assert!((a - b).abs() <= 1e-9 * b.max(1e-3 * high), "{} {}", a, b);
        }
    }

    /// Any numbers are a schedule or an error.
    #[test]
    fn any_numbers_are_a_schedule_or_an_error(levels: Vec<f64>) {
        let falls = levels.windows(2).all(|pair| pair[0] > pair[1]);
        let good = !levels.is_empty() && falls && levels.iter().all(|level| level.is_finite() && *level > 0.0);
        prop_assert_eq!(Schedule::new(levels).is_ok(), good);
    }
}
