use super::{Schedule, ScheduleError, vp::vp_rho};

/// diff-sampler's `time_uniform`: VP time from 1 to 0.001, with `t^(1/rho)` falling linearly. `rho = 1` is uniform
/// time, DPM-Solver's choice for large images.
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], the range is not `0 < sigma_min < sigma_max`, or `rho` is not positive.
pub fn time_uniform(n: usize, sigma_min: f64, sigma_max: f64, rho: f64) -> Result<Schedule, ScheduleError> {
    vp_rho(n, sigma_min, sigma_max, 1e-3, rho)
}
