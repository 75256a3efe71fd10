use super::{Schedule, ScheduleError, check_positive, lerp, spaced};

/// The polynomial schedule of Karras et al. 2022 (Eq. 5): `sigma^(1/rho)` falls linearly.
///
/// `rho = 7` is EDM's sampler, `rho = 1` is uniform in sigma, and a growing `rho` tends to [`super::log_snr`].
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], the range is not `0 < sigma_min < sigma_max`, or `rho` is not positive.
pub fn karras(n: usize, sigma_min: f64, sigma_max: f64, rho: f64) -> Result<Schedule, ScheduleError> {
    check_positive("rho", rho)?;
    let (top, bottom) = (sigma_max.powf(1.0 / rho), sigma_min.powf(1.0 / rho));
    spaced(n, sigma_min, sigma_max, |u| lerp(top, bottom, u).powf(rho))
}
