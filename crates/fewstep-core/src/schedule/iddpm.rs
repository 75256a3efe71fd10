use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleError, check_count, check_range};

/// The discrete noise levels of improved DDPM in the form of Karras et al. 2022 (Table 1, column iDDPM):
/// `u_M = 0`, `u_{j-1} = sqrt((u_j^2 + 1) / max(alpha_bar_{j-1} / alpha_bar_j, C_1) - 1)`,
/// `alpha_bar_j = sin^2(pi/2 j / (M (C_2 + 1)))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct IddpmLevels {
    /// Bound on a single step at high noise.
    pub c_1: f64,
    /// Offset of the cosine at low noise.
    pub c_2: f64,
    /// Number of discrete steps M.
    pub m: usize,
}

impl Default for IddpmLevels {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl IddpmLevels {
    /// The numbers of the published networks.
    pub const DEFAULT: Self = Self { c_1: 0.001, c_2: 0.008, m: 1000 };

    /// `u_0 > u_1 > ... > u_M = 0`, `M + 1` values.
    ///
    /// Made in single precision, the one exception to this crate's `f64`: these are the levels a network was trained
    /// at, its own table was made so, and `1 - alpha_bar_{j-1} / alpha_bar_j` cancels, so that `f64` would give other
    /// levels (by 0.05 % at the smallest).
    pub fn table(&self) -> Vec<f64> {
        let alpha_bar = |j: usize| {
            let angle = (0.5 * std::f64::consts::PI) as f32 * j as f32 / self.m as f32 / (self.c_2 + 1.0) as f32;
            // Rounded once: the last bit of the sine shows in the levels.
            (f64::from(angle).sin() as f32).powi(2)
        };
        let mut u = vec![0.0_f32; self.m + 1];
        for j in (1..=self.m).rev() {
            let ratio = (alpha_bar(j - 1) / alpha_bar(j)).max(self.c_1 as f32);
            u[j - 1] = ((u[j] * u[j] + 1.0) / ratio - 1.0).sqrt();
        }
        u.into_iter().map(f64::from).collect()
    }
}

/// `n` of the discrete levels in `[sigma_min, sigma_max]`, evenly spread by index (Karras et al., Table 1).
///
/// The ends of the range only select: the schedule starts and ends at the outermost levels inside it.
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], the range is not `0 < sigma_min < sigma_max`, or fewer than `n` levels lie in
/// it.
pub fn iddpm(n: usize, sigma_min: f64, sigma_max: f64, levels: &IddpmLevels) -> Result<Schedule, ScheduleError> {
    check_count(n)?;
    check_range(sigma_min, sigma_max)?;
    let inside: Vec<f64> = levels.table().into_iter().filter(|u| (sigma_min..=sigma_max).contains(u)).collect();
    if inside.len() < n {
        return Err(ScheduleError::TooFewDiscreteLevels { asked: n, available: inside.len() });
    }
    let stride = (inside.len() - 1) as f64 / (n.max(2) - 1) as f64;
    Schedule::new((0..n).map(|i| inside[(stride * i as f64).round_ties_even() as usize]).collect())
}
