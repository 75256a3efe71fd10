//! What is said of a critic on the command line.

use anyhow::{Result, ensure};
use fewstep_nn::train::CriticOf;

/// Its weight where none is given: 1 is no better and costs more of the error (docs/tuning.md).
const WEIGHT: f64 = 0.3;

/// What a critic tells images from, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CriticName {
    Teacher,
    Data,
}

impl From<CriticName> for CriticOf {
    fn from(name: CriticName) -> Self {
        match name {
            CriticName::Teacher => Self::Teacher,
            CriticName::Data => Self::Data,
        }
    }
}

/// What is asked for, by the options of these names.
#[derive(Clone, Copy, Debug)]
pub struct CriticArgs {
    pub weight: (&'static str, Option<f64>),
    pub of: (&'static str, Option<CriticName>),
    /// Whether there are training images to look at.
    pub data: bool,
}

impl CriticArgs {
    /// A critic's weight and what it tells images from: training images, where there are some and nothing else is asked for.
    pub fn checked(self) -> Result<(f64, CriticOf)> {
        let Self { weight: (weight_option, weight), of: (of_option, of), data } = self;
        let value = weight.unwrap_or(WEIGHT);
        ensure!(value >= 0.0 && value.is_finite(), "--{weight_option} must be a finite number of at least 0");
        ensure!(
            value > 0.0 || of.is_none(),
            "--{of_option} is for a critic: give it a weight with --{weight_option}, or leave both out"
        );
        let of = match of {
            Some(name) => name.into(),
            None if data && value > 0.0 => CriticOf::Data,
            None => CriticOf::Teacher,
        };
        Ok((value, of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_critic_of_what_there_is_unless_none_is_asked_for() {
        let checked = |weight, of, data| CriticArgs { weight: ("weight", weight), of: ("of", of), data }.checked();
        assert_eq!(checked(None, None, true).unwrap(), (WEIGHT, CriticOf::Data));
        assert_eq!(checked(None, None, false).unwrap(), (WEIGHT, CriticOf::Teacher));
        assert_eq!(checked(Some(1.0), Some(CriticName::Teacher), true).unwrap(), (1.0, CriticOf::Teacher));
        assert_eq!(checked(Some(0.0), None, true).unwrap(), (0.0, CriticOf::Teacher));
        for (weight, of) in [(Some(0.0), Some(CriticName::Data)), (Some(f64::NAN), None), (Some(-1.0), None)] {
            assert!(checked(weight, of, true).unwrap_err().to_string().contains("--weight"));
        }
    }
}
