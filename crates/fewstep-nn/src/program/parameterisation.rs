//! What a program answers: a network's output under a preconditioning, or the denoised state itself.

use fewstep_core::denoiser::Levels;
use fewstep_core::precondition::Preconditioning;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::error::{Error, Result};

/// What a program answers, and what it is told of the noise.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameterisation {
    /// A raw network F: it is given c_in x and c_noise.
    Network(Preconditioning),
    /// A denoiser: it is given x and sigma and answers D(x; sigma).
    Denoiser {
        /// Smallest noise level that it supports.
        sigma_min: f64,
        /// Largest noise level that it supports.
        sigma_max: f64,
    },
}

impl Parameterisation {
    /// The smallest noise level that the program supports.
    pub fn sigma_min(&self) -> f64 {
        match self {
            Self::Network(precond) => precond.sigma_min(),
            Self::Denoiser { sigma_min, .. } => *sigma_min,
        }
    }

    /// The largest noise level that the program supports; infinite if there is none.
    pub fn sigma_max(&self) -> f64 {
        match self {
            Self::Network(precond) => precond.sigma_max(),
            Self::Denoiser { sigma_max, .. } => *sigma_max,
        }
    }

    /// `(sigma_min, sigma_max)` that a sampler of this program ends and begins at.
    pub fn sampling_range(&self) -> (f64, f64) {
        match self {
            Self::Network(precond) => precond.sampling_range(),
            Self::Denoiser { sigma_min, sigma_max } => (*sigma_min, *sigma_max),
        }
    }

    /// The noise level nearest to `sigma` that the program knows.
    pub fn round_sigma(&self, sigma: f64) -> f64 {
        match self {
            Self::Network(precond) => precond.round_sigma(sigma),
            Self::Denoiser { .. } => sigma,
        }
    }

    /// The noise levels that the program knows, largest first; empty where it knows all within its range.
    pub fn discrete_levels(&self) -> Vec<f64> {
        match self {
            Self::Network(precond) => precond.discrete_levels(),
            Self::Denoiser { .. } => Vec::new(),
        }
    }

    /// Checks parameters that came from outside.
    ///
    /// # Errors
    /// Names the first that is not usable.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Network(precond) => {
                precond.validate().map_err(|error| Error::Input(format!("`parameterisation`: {error}")))
            }
            Self::Denoiser { sigma_min, sigma_max }
                if 0.0 < *sigma_min && sigma_min < sigma_max && sigma_max.is_finite() =>
            {
                Ok(())
            }
            Self::Denoiser { sigma_min, sigma_max } => Err(Error::Input(format!(
                "`parameterisation`: the noise levels of a denoiser are {sigma_min} to {sigma_max}, which must satisfy \
                 0 < sigma_min < sigma_max and be finite"
            ))),
        }
    }
}

impl From<&Parameterisation> for Levels {
    fn from(parameterisation: &Parameterisation) -> Self {
        match parameterisation {
            Parameterisation::Network(precond) => Self::from(precond),
            Parameterisation::Denoiser { sigma_min, sigma_max } => Self::between(*sigma_min, *sigma_max),
        }
    }
}

/// The form in files of a denoiser.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Denoiser {
    r#type: DenoiserType,
    sigma_min: f64,
    sigma_max: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DenoiserType {
    Denoiser,
}

impl Serialize for Parameterisation {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match *self {
            Self::Network(ref precond) => precond.serialize(serializer),
            Self::Denoiser { sigma_min, sigma_max } => {
                Denoiser { r#type: DenoiserType::Denoiser, sigma_min, sigma_max }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Parameterisation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let wrong = |error: serde_json::Error| D::Error::custom(format!("`parameterisation`: {error}"));
        if value["type"] == "denoiser" {
            let Denoiser { sigma_min, sigma_max, .. } = serde_json::from_value(value).map_err(wrong)?;
            return Ok(Self::Denoiser { sigma_min, sigma_max });
        }
        let precond: Preconditioning = serde_json::from_value(value.clone()).map_err(|error| match &value["type"] {
            Value::String(_) => D::Error::custom(format!(
                "`parameterisation`: {error} (a program that answers D(x; sigma) itself is of type `denoiser`)"
            )),
            _ => wrong(error),
        })?;
        // a parameter that is misspelt would leave its default
        let network = Self::Network(precond);
        let known = serde_json::to_value(&network).map_err(wrong)?;
        let given = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        if let Some((name, _)) = given.into_iter().find(|(name, _)| known.get(name.as_str()).is_none()) {
            let names: Vec<&String> = known.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
            return Err(D::Error::custom(format!("`parameterisation`: unknown field `{name}`, there are {names:?}")));
        }
        Ok(network)
    }
}
