//! The discrete noise levels of networks that are told a timestep.

use std::fmt;
use std::str::FromStr;

/// The variances beta_t of a discrete diffusion process, as model configurations name them: `linear:0.0001:0.02`,
/// `scaled-linear:0.00085:0.012` (linear in the square root) or `cosine`, and `:500` after it for other than 1000 steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Betas {
    family: Family,
    steps: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    Linear { start: f64, end: f64 },
    ScaledLinear { start: f64, end: f64 },
    Cosine,
}

const STEPS: usize = 1000;

impl Betas {
    /// The noise levels, made in single precision: the network's own table was made so, and `1 - alpha_bar` cancels at
    /// the small end, so that double precision would give other levels there.
    pub fn table(&self) -> NoiseTable {
        let betas: Vec<f32> = match self.family {
            Family::Linear { start, end } => line(start, end, self.steps).collect(),
            Family::ScaledLinear { start, end } => line(start.sqrt(), end.sqrt(), self.steps).map(|b| b * b).collect(),
            Family::Cosine => {
                let alpha_bar = |step: usize| {
                    let t = step as f64 / self.steps as f64;
                    ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
                };
                (0..self.steps).map(|t| (1.0 - alpha_bar(t + 1) / alpha_bar(t)).min(0.999) as f32).collect()
            }
        };
        let mut product = 1.0_f64;
        let levels = betas.into_iter().map(|beta| {
            product *= f64::from(1.0 - beta);
            let alpha_bar = product as f32;
            f64::from(((1.0 - alpha_bar) / alpha_bar).sqrt())
        });
        NoiseTable(levels.collect())
    }
}

/// `steps` numbers from `start` to `end`, counted from the nearer end.
fn line(start: f64, end: f64, steps: usize) -> impl Iterator<Item = f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (steps - 1) as f32;
    (0..steps).map(move |i| if i < steps / 2 { start + step * i as f32 } else { end - step * (steps - 1 - i) as f32 })
}

/// A text that is no table of variances.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BetasError {
    /// No family of that name, or not its parameters.
    #[error("write linear:START:END, scaled-linear:START:END or cosine, such as scaled-linear:0.00085:0.012")]
    Form,
    /// A parameter that is no number.
    #[error("'{0}' is no number")]
    Number(String),
    /// A number of steps that is none.
    #[error("'{0}' is no number of steps from 2 to 1000000")]
    Steps(String),
    /// More than a table has.
    #[error("there is something after the number of steps")]
    Rest,
    /// Variances that are none.
    #[error("betas must rise between 0 and 1")]
    Range,
    /// So many or so large variances that single precision cannot hold what is left of the image.
    #[error("these betas leave no rising noise levels in single precision")]
    Precision,
}

impl FromStr for Betas {
    type Err = BetasError;

    fn from_str(text: &str) -> Result<Self, BetasError> {
        let fields: Vec<&str> = text.split(':').collect();
        let number = |text: &str| text.parse::<f64>().map_err(|_| BetasError::Number(text.to_owned()));
        let (family, rest) = match fields[..] {
            ["linear", start, end, ref rest @ ..] => {
                (Family::Linear { start: number(start)?, end: number(end)? }, rest)
            }
            ["scaled-linear", start, end, ref rest @ ..] => {
                (Family::ScaledLinear { start: number(start)?, end: number(end)? }, rest)
            }
            ["cosine", ref rest @ ..] => (Family::Cosine, rest),
            _ => return Err(BetasError::Form),
        };
        let steps = match rest {
            [] => STEPS,
            [steps] => {
                let number = steps.parse().ok().filter(|number| (2..=1_000_000).contains(number));
                number.ok_or_else(|| BetasError::Steps((*steps).to_owned()))?
            }
            _ => return Err(BetasError::Rest),
        };
        if let Family::Linear { start, end } | Family::ScaledLinear { start, end } = family
            && !(0.0 < start && start <= end && end < 1.0)
        {
            return Err(BetasError::Range);
        }
        let betas = Self { family, steps };
        let rises = |levels: &[f64]| levels.windows(2).all(|pair| pair[0] < pair[1]);
        let NoiseTable(levels) = betas.table();
        if levels[0] > 0.0 && rises(&levels) && levels[steps - 1].is_finite() {
            Ok(betas)
        } else {
            Err(BetasError::Precision)
        }
    }
}

impl fmt::Display for Betas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::Linear { start, end } => write!(f, "linear:{start}:{end}")?,
            Family::ScaledLinear { start, end } => write!(f, "scaled-linear:{start}:{end}")?,
            Family::Cosine => write!(f, "cosine")?,
        }
        if self.steps == STEPS { Ok(()) } else { write!(f, ":{}", self.steps) }
    }
}

/// Noise levels by timestep: entry `t` is `sqrt((1 - alpha_bar_t) / alpha_bar_t)`, rising.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseTable(Vec<f64>);

impl NoiseTable {
    /// The smallest and the largest level.
    pub fn ends(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// The whole timestep whose level is nearest in log sigma.
    pub fn whole(&self, sigma: f64) -> usize {
        let above = self.0.partition_point(|level| *level < sigma).clamp(1, self.0.len() - 1);
        above - usize::from(sigma / self.0[above - 1] < self.0[above] / sigma)
    }

    /// The timestep, with its fraction, of a level: linear between the levels of whole timesteps, and the last one outside.
    pub fn timestep(&self, sigma: f64) -> f64 {
        let above = self.0.partition_point(|level| *level < sigma).clamp(1, self.0.len() - 1);
        let (low, high) = (self.0[above - 1], self.0[above]);
        (above - 1) as f64 + ((sigma - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// The level of a timestep: the inverse of [`NoiseTable::timestep`] within the table.
    pub fn level(&self, timestep: f64) -> f64 {
        let below = (timestep.floor().max(0.0) as usize).min(self.0.len() - 2);
        let part = timestep - below as f64;
        self.0[below] * (1.0 - part) + self.0[below + 1] * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> NoiseTable {
        text.parse::<Betas>().unwrap().table()
    }

    /// Levels 0, 1, 500 and 999 as PyTorch makes them for Stable Diffusion, DDPM and the cosine schedule.
    #[test]
    fn tables_are_those_of_the_published_models() {
        for (text, levels) in [
            ("scaled-linear:0.00085:0.012", [0.029_167_534_8, 0.041_314_479, 1.618_279_7, 14.614_646_9]),
            ("linear:0.0001:0.02", [0.010_001_329_7, 0.014_832_044, 3.442_967_41, 157.407_272]),
            ("cosine", [0.006_427_108_78, 0.009_351_345_71, 1.015_550_85, 20_291.302_7]),
        ] {
            for (t, level) in [0, 1, 500, 999].into_iter().zip(levels) {
                assert!((table(text).0[t] / level - 1.0).abs() < 1e-6, "{text} {t}: {}", table(text).0[t]);
            }
        }
        assert_eq!(table("cosine:500").0.len(), 500);
    }

    #[test]
    fn timesteps_and_levels_are_inverse_within_the_table() {
        let table = table("scaled-linear:0.00085:0.012");
        let (low, high) = table.ends();
        for sigma in [low, 0.03, 0.61, 3.2, 14.0, high] {
            assert!((table.level(table.timestep(sigma)) / sigma - 1.0).abs() < 1e-12, "{sigma}");
            let whole = table.whole(sigma);
            let off = |t: usize| (table.0[t] / sigma).ln().abs();
            assert!((0..1000).all(|t| off(whole) <= off(t)), "{sigma}");
        }
        assert_eq!((table.timestep(80.0), table.timestep(0.001)), (999.0, 0.0));
        assert_eq!((table.whole(80.0), table.whole(0.001)), (999, 0));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for (text, says) in [
            ("squared", "write linear"),
            ("linear:0.1", "write linear"),
            ("linear:a:0.02", "'a' is no number"),
            ("linear:0.02:0.0001", "rise"),
            ("linear:0.5:1", "between 0 and 1"),
            ("cosine:1", "steps"),
            ("cosine:1000:3", "after"),
            ("linear:0.9:0.999", "single precision"),
        ] {
            let error = text.parse::<Betas>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        for text in ["linear:0.0001:0.02", "scaled-linear:0.00085:0.012:500", "cosine"] {
            assert_eq!(text.parse::<Betas>().unwrap().to_string(), text);
        }
    }
}
