use super::{Schedule, ScheduleError, lerp, spaced};

/// Uniform in the logarithm of the signal-to-noise ratio, that is in log sigma (DPM-Solver's choice for small images).
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], or the range is not `0 < sigma_min < sigma_max`.
pub fn log_snr(n: usize, sigma_min: f64, sigma_max: f64) -> Result<Schedule, ScheduleError> {
    spaced(n, sigma_min, sigma_max, |u| lerp(sigma_max.ln(), sigma_min.ln(), u).exp())
}
