use super::{Schedule, ScheduleError, spaced};

/// The variance-exploding time steps of Song et al. 2021 (Karras et al., Table 1, column VE): `sigma^2` falls
/// geometrically, which is the same set of levels as [`super::log_snr`] on the same range.
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], or the range is not `0 < sigma_min < sigma_max`.
pub fn ve(n: usize, sigma_min: f64, sigma_max: f64) -> Result<Schedule, ScheduleError> {
    let ratio = (sigma_min / sigma_max).powi(2);
    spaced(n, sigma_min, sigma_max, |u| (sigma_max.powi(2) * ratio.powf(u)).sqrt())
}
