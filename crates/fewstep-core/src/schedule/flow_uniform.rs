use super::{Schedule, ScheduleError, check_count, check_positive, check_range, lerp, spaced};

/// Uniform in the time `t = sigma / (1 + sigma)` of a rectified flow before the shift `s`, which maps it to
/// `s t / (1 + (s - 1) t)`: what diffusers' `FlowMatchEulerDiscreteScheduler` visits on the same range (Esser et al. 2024,
/// Eq. 23). Shift 1 is uniform in `t` itself; a larger one puts more of the levels where there is much noise.
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], the range is not `0 < sigma_min < sigma_max`, or `shift` is not positive.
pub fn flow_uniform(n: usize, sigma_min: f64, sigma_max: f64, shift: f64) -> Result<Schedule, ScheduleError> {
    check_positive("shift", shift)?;
    // in sigma the shift is a factor
    let unshifted = |sigma: f64| sigma / (shift + sigma);
    spaced(n, sigma_min, sigma_max, |u| {
        let t = lerp(unshifted(sigma_max), unshifted(sigma_min), u);
        shift * t / (1.0 - t)
    })
}

/// As [`flow_uniform`] down to time 0, which is left out: a sampler's last step is as long as the others and leads there. But for a
/// thousandth, what diffusers' multistep schedulers visit with `use_flow_sigmas` (theirs go from 1 to 0.001, which they leave out).
///
/// No level lies below `sigma_min`, which a network that was trained on a part of the times does not know: where the last of `n` equal
/// steps would begin below it, the levels are those of [`flow_uniform`], and the last step is longer than the others.
///
/// # Errors
/// As [`flow_uniform`].
pub fn flow_trailing(n: usize, sigma_min: f64, sigma_max: f64, shift: f64) -> Result<Schedule, ScheduleError> {
    check_count(n)?;
    check_positive("shift", shift)?;
    check_range(sigma_min, sigma_max)?;
    let first = sigma_max / (shift + sigma_max);
    let level = |i: usize| match i {
        0 => sigma_max,
        i => {
            let t = first * (n - i) as f64 / n as f64;
            shift * t / (1.0 - t)
        }
    };
    if level(n - 1) < sigma_min {
        return flow_uniform(n, sigma_min, sigma_max, shift);
    }
    Schedule::new((0..n).map(level).collect())
}

/// `s t / (1 + (s - 1) t)`.
pub(crate) fn shifted_time(t: f64, shift: f64) -> f64 {
    shift * t / (1.0 + (shift - 1.0) * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &Schedule) -> Vec<f64> {
        schedule.levels().iter().map(|sigma| sigma / (1.0 + sigma)).collect()
    }

    /// The times of diffusers' scheduler with shift 3 at 4 steps: its own default, and as pipelines with a list of 1, 3/4,
    /// 1/2, 1/4 call it. Both begin at t = 1, which has no sigma: a large one stands for it.
    #[test]
    fn times_are_those_of_diffusers() {
        let sigma = |t: f64| t / (1.0 - t);
        // its sigma_min is shifted already, and is shifted again
        let least = shifted_time(shifted_time(1e-3, 3.0), 3.0);
        for (least, expected) in
            [(least, [1.0, 0.857_692_31, 0.602_150_54, 0.008_928_57]), (0.5, [1.0, 0.9, 0.75, 0.5])]
        {
            let found = times(&flow_uniform(4, sigma(least), 1e10, 3.0).unwrap());
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-8, "{found:?} is not {expected:?}");
            }
        }
    }

    /// `UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3)` at 4 steps.
    #[test]
    fn trailing_times_are_those_of_diffusers() {
        let first = shifted_time(0.999, 3.0);
        let found = times(&flow_trailing(4, 1e-3, first / (1.0 - first), 3.0).unwrap());
        for (a, b) in found.iter().zip([1.0, 0.9001, 0.7504, 0.5010]) {
            assert!((a - b).abs() < 2e-3, "{found:?} is not {b}");
        }
        assert!(flow_trailing(0, 0.1, 80.0, 1.0).is_err() && flow_trailing(3, 0.1, 80.0, 0.0).is_err());
        for (low, high) in [(0.1, -1.0), (0.0, 1.0), (2.0, 1.0)] {
            assert!(matches!(flow_trailing(3, low, high, 1.0), Err(ScheduleError::Range { .. })), "{low} to {high}");
        }
    }

    /// A network of the times from 0.5 to 0.9: equal steps to 0 for as long as the last begins at 0.5 or above, then equal steps to 0.5.
    #[test]
    fn trailing_times_stay_within_the_range() {
        for (n, expected) in [(1, &[0.9][..]), (2, &[0.9, 0.5]), (3, &[0.9, 0.7, 0.5]), (5, &[0.9, 0.8, 0.7, 0.6, 0.5])]
        {
            let found = times(&flow_trailing(n, 1.0, 9.0, 1.0).unwrap());
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-14, "{found:?} is not {expected:?}");
            }
        }
        // of all times, the last of two steps begins in the middle
        assert!((times(&flow_trailing(2, 1e-3, 9.0, 1.0).unwrap())[1] - 0.45).abs() < 1e-14);
    }

    #[test]
    fn without_a_shift_it_is_uniform_in_time() {
        let found = times(&flow_uniform(5, 0.25, 4.0, 1.0).unwrap());
        for (a, b) in found.iter().zip([0.8, 0.65, 0.5, 0.35, 0.2]) {
            assert!((a - b).abs() < 1e-14, "{found:?}");
        }
        for shift in [0.0, -1.0, f64::NAN] {
            assert!(matches!(flow_uniform(4, 0.1, 10.0, shift), Err(ScheduleError::Parameter { name: "shift", .. })));
        }
    }
}
