//! Linear combinations of what a sampler knows.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Something a state may be built from.
///
/// Written in files and tables as `latent`, `constant`, `x3` and `d3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Unit normal noise, the sampler's only input (not yet scaled by sigma_max).
    Latent,
    /// The image that the plan holds ([`super::Constant`]).
    Constant,
    /// The network input of a stage.
    Input(usize),
    /// The network output `D` of a stage.
    Output(usize),
}

/// `sum_k c_k source_k`, each source at most once, in the order latent, constant, inputs, outputs (which is also the order of
/// summation, so that equal plans give equal images).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Combination(Vec<(Source, f64)>);

/// What is wrong with a combination.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TermError {
    /// No terms at all.
    #[error("has no terms")]
    Empty,
    /// The constant image, in a plan without one.
    #[error("uses the constant image, which the plan does not hold")]
    NoConstant,
    /// A source that is not computed before it is used.
    #[error("uses {0}, which is not known yet at that point")]
    NotYet(Source),
    /// A coefficient that is infinite or NaN.
    #[error("has the coefficient {1} for {0}; coefficients must be finite")]
    NotFinite(Source, f64),
    /// The same source twice.
    #[error("names {0} twice")]
    Twice(Source),
}

impl Combination {
    /// A combination of these terms. Sources should differ; validation reports one that repeats.
    pub fn new(mut terms: Vec<(Source, f64)>) -> Self {
        terms.sort_by_key(|(source, _)| *source);
        Self(terms)
    }

    /// The terms in order.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = (Source, f64)> + '_ {
        self.0.iter().copied()
    }

    /// The coefficients, mutable, for whoever refines a plan.
    pub fn terms_mut(&mut self) -> impl ExactSizeIterator<Item = (Source, &mut f64)> + '_ {
        self.0.iter_mut().map(|(source, c)| (*source, c))
    }

    /// Number of terms.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without terms, which only an unfinished plan has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The coefficient of `source`; 0 if it does not occur.
    pub fn coefficient(&self, source: Source) -> f64 {
        self.0.iter().filter(|(s, _)| *s == source).map(|(_, c)| c).sum()
    }

    /// Checks the combination where the inputs and outputs of the first `known` stages exist, and perhaps a constant.
    pub(super) fn validate(&self, known: usize, constant: bool) -> Result<(), TermError> {
        if self.0.is_empty() {
            return Err(TermError::Empty);
        }
        let mut before = None;
        for &(source, c) in &self.0 {
            if source == Source::Constant && !constant {
                return Err(TermError::NoConstant);
            }
            if matches!(source, Source::Input(k) | Source::Output(k) if k >= known) {
                return Err(TermError::NotYet(source));
            }
            if !c.is_finite() {
                return Err(TermError::NotFinite(source, c));
            }
            // terms are sorted by their sources, so that equal ones are neighbours
            if before.replace(source) == Some(source) {
                return Err(TermError::Twice(source));
            }
        }
        Ok(())
    }

    /// The combination with every `Input(k)` replaced by `inputs[k]`.
    pub(super) fn substitute(&self, inputs: &[Self]) -> Self {
        let mut sum = BTreeMap::new();
        for &(source, c) in &self.0 {
            match source {
                Source::Input(k) => {
                    for &(inner, ci) in &inputs[k].0 {
                        *sum.entry(inner).or_insert(0.0) += c * ci;
                    }
                }
                _ => *sum.entry(source).or_insert(0.0) += c,
            }
        }
        sum.into_iter().collect()
    }
}

impl Source {
    /// True for what is an image rather than a noisy state: network outputs, and the constant that stands for one.
    pub fn is_image(self) -> bool {
        matches!(self, Self::Constant | Self::Output(_))
    }
}

impl FromIterator<(Source, f64)> for Combination {
    fn from_iter<I: IntoIterator<Item = (Source, f64)>>(terms: I) -> Self {
        Self::new(terms.into_iter().collect())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latent => write!(f, "latent"),
            Self::Constant => write!(f, "constant"),
            Self::Input(k) => write!(f, "x{k}"),
            Self::Output(k) => write!(f, "d{k}"),
        }
    }
}

/// A name that is no source's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a source; expected \"latent\", \"constant\", \"x<stage>\" or \"d<stage>\"")]
pub struct UnknownSource(String);

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        let number = |digits: &str| match digits.parse() {
            // one spelling per source, so that a file cannot name one twice in disguise ("x01", "x+1")
            Ok(k) if usize::to_string(&k) == digits => Some(k),
            _ => None,
        };
        let parsed = match text.split_at_checked(1) {
            _ if text == "latent" => Some(Self::Latent),
            _ if text == "constant" => Some(Self::Constant),
            Some(("x", digits)) => number(digits).map(Self::Input),
            Some(("d", digits)) => number(digits).map(Self::Output),
            _ => None,
        };
        parsed.ok_or_else(|| UnknownSource(text.to_owned()))
    }
}

/// As a map in the order of the terms: `{"x0": 0.2, "d0": 0.8}`.
impl Serialize for Combination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (source, c) in &self.0 {
            map.serialize_entry(&source.to_string(), c)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Combination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Terms;

        impl<'de> Visitor<'de> for Terms {
            type Value = Combination;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a map from sources to coefficients, such as {{\"x0\": 0.2, \"d0\": 0.8}}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Combination, A::Error> {
                let mut terms = Vec::new();
                while let Some((name, c)) = map.next_entry::<String, f64>()? {
                    terms.push((name.parse().map_err(A::Error::custom)?, c));
                }
                Ok(Combination::new(terms))
            }
        }

        deserializer.deserialize_map(Terms)
    }
}
