//! The noise levels of whole timesteps.
//!
//! Betas and their products are rounded to single precision where PyTorch rounds them in diffusers and k-diffusion, because
//! the networks were trained with those values: `1 - alpha_bar` cancels at the small end, so that `f64` throughout would
//! give other levels there (DDPM's smallest by 8e-5 of itself, the cosine's by 3e-4). Levels are then taken in `f64` from
//! the rounded `alpha_bar`; they agree with those tools' own single-precision levels to 1e-6 of themselves. A list of
//! `alphas_cumprod` is used as it is.

use std::fmt;

use super::super::{MAX_DISCRETE_LEVELS, ParameterisationError, check};
use super::Alphas;

/// Finite noise levels by timestep, rising, and their logarithms: at least two.
#[derive(Clone, PartialEq)]
pub(super) struct NoiseTable {
    levels: Vec<f64>,
    log_levels: Vec<f64>,
}

/// Without the levels, of which there may be many.
impl fmt::Debug for NoiseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} levels", self.levels.len())
    }
}

impl NoiseTable {
    pub(super) fn new(alphas: &Alphas) -> Result<Self, ParameterisationError> {
        let mut levels = levels(alphas)?;
        levels.retain(|level| level.is_finite());
        Ok(Self { log_levels: levels.iter().map(|level| level.ln()).collect(), levels })
    }

    pub(super) fn levels(&self) -> &[f64] {
        &self.levels
    }

    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let (below, log) = (self.below(sigma), sigma.ln());
        let [low, high] = [self.log_levels[below], self.log_levels[below + 1]];
        below as f64 + ((log - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// The derivative of the timestep by `ln sigma`: 0 outside the table.
    pub(super) fn slope(&self, sigma: f64) -> f64 {
        let below = self.below(sigma);
        let inside = (self.levels[0]..=self.levels[self.levels.len() - 1]).contains(&sigma);
        if inside { 1.0 / (self.log_levels[below + 1] - self.log_levels[below]) } else { 0.0 }
    }

    pub(super) fn level(&self, timestep: f64) -> f64 {
        let last = (self.levels.len() - 1) as f64;
        let timestep = timestep.clamp(0.0, last);
        let below = (timestep as usize).min(self.levels.len() - 2);
        let [low, high] = [self.log_levels[below], self.log_levels[below + 1]];
        (low + (timestep - below as f64) * (high - low)).exp()
    }

    /// The timestep at the lower end of the segment that `sigma` lies in, of the nearest one outside the table.
    fn below(&self, sigma: f64) -> usize {
        self.levels.partition_point(|level| *level < sigma).clamp(1, self.levels.len() - 1) - 1
    }
}

pub(super) fn levels(alphas: &Alphas) -> Result<Vec<f64>, ParameterisationError> {
    let (betas, rescale_zero_snr) = match *alphas {
        Alphas::AlphasCumprod { ref values } => return levels_of(values),
        Alphas::Linear { start, end, steps, rescale_zero_snr } => {
            check_line(start, end, steps)?;
            (linspace(start, end, steps).collect(), rescale_zero_snr)
        }
        Alphas::ScaledLinear { start, end, steps, rescale_zero_snr } => {
            check_line(start, end, steps)?;
            let roots = linspace(start.sqrt(), end.sqrt(), steps);
            (roots.map(|root| root * root).collect(), rescale_zero_snr)
        }
        Alphas::SquaredcosCapV2 { steps, rescale_zero_snr } => {
            check_steps(steps)?;
            let alpha_bar = |step: usize| {
                let t = step as f64 / steps as f64;
                ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
            };
            let beta = |t| (1.0 - alpha_bar(t + 1) / alpha_bar(t)).min(0.999) as f32;
            ((0..steps).map(beta).collect::<Vec<f32>>(), rescale_zero_snr)
        }
    };
    let mut alphas_cumprod = cumprod(betas.into_iter().map(|beta| 1.0 - beta));
    if rescale_zero_snr {
        alphas_cumprod = rescaled(&alphas_cumprod);
    }
    levels_of(&alphas_cumprod.into_iter().map(f64::from).collect::<Vec<f64>>())
}

fn check_steps(steps: usize) -> Result<(), ParameterisationError> {
    check("steps", steps as f64, "between 2 and 100000", (2..=MAX_DISCRETE_LEVELS).contains(&steps))
}

fn check_line(start: f64, end: f64, steps: usize) -> Result<(), ParameterisationError> {
    check_steps(steps)?;
    check("start", start, "above 0 and below 1", start > 0.0 && start < 1.0)?;
    check("end", end, "at least start and below 1", end >= start && end < 1.0)
}

/// `torch.linspace` in single precision, which counts from the nearer end.
fn linspace(start: f64, end: f64, steps: usize) -> impl Iterator<Item = f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (steps - 1) as f32;
    (0..steps).map(move |i| if i < steps / 2 { start + step * i as f32 } else { end - step * (steps - 1 - i) as f32 })
}

/// `torch.cumprod` of single-precision numbers, which multiplies in double precision.
fn cumprod(alphas: impl IntoIterator<Item = f32>) -> Vec<f32> {
    let products = alphas.into_iter().scan(1.0_f64, |product, alpha| {
        *product *= f64::from(alpha);
        Some(*product as f32)
    });
    products.collect()
}

/// Lin et al. 2024, Algorithm 1, in the order of diffusers' `rescale_zero_terminal_snr`: `sqrt(alpha_bar)` is moved to end
/// at 0 and scaled to begin where it did, and goes through alphas and betas once more.
fn rescaled(alphas_cumprod: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = alphas_cumprod.iter().map(|alpha_bar| alpha_bar.sqrt()).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let squares: Vec<f32> = roots.iter().map(|root| (root - last) * (first / (first - last))).map(|r| r * r).collect();
    let ratios = squares.windows(2).map(|pair| pair[1] / pair[0]);
    cumprod(std::iter::once(squares[0]).chain(ratios).map(|alpha| 1.0 - (1.0 - alpha)))
}

/// The levels of `alpha_bar`s that fall between 1 and 0. The last may be 0, whose level is infinite, if two stand before it.
fn levels_of(alphas_cumprod: &[f64]) -> Result<Vec<f64>, ParameterisationError> {
    let count = alphas_cumprod.len();
    let sensible = (2..=MAX_DISCRETE_LEVELS).contains(&count);
    check("the number of alphas_cumprod", count as f64, "between 2 and 100000", sensible)?;
    let mut levels = Vec::with_capacity(count);
    let mut log_before = f64::NEG_INFINITY;
    for (index, &value) in alphas_cumprod.iter().enumerate() {
        let level = ((1.0 - value) / value).sqrt();
        let noise_alone = value == 0.0 && index + 1 == count && count > 2;
        // the logarithm, in which timesteps are interpolated, is what must rise: neighbours in f64 may share one
        if !(value < 1.0 && level.ln() > log_before && (level.is_finite() || noise_alone)) {
            let rule = "below the one before it (the first below 1) and above 0 (the last may be 0 after two others)";
            return Err(ParameterisationError { name: "alphas_cumprod", index: Some(index), value, rule });
        }
        log_before = level.ln();
        levels.push(level);
    }
    Ok(levels)
}
