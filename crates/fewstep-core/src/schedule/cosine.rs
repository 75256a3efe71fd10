use super::{Schedule, ScheduleError, lerp, spaced};

/// Uniform in the angle `atan(sigma)`: the cosine schedule of Nichol and Dhariwal 2021 in continuous time, whose
/// `alpha_bar = cos^2(phi)` gives `sigma = tan(phi)` with `phi` linear in time.
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], or the range is not `0 < sigma_min < sigma_max`.
pub fn cosine(n: usize, sigma_min: f64, sigma_max: f64) -> Result<Schedule, ScheduleError> {
    spaced(n, sigma_min, sigma_max, |u| lerp(sigma_max.atan(), sigma_min.atan(), u).tan())
}
