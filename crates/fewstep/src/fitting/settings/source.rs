//! Where plans come from.

use std::fmt;
use std::str::FromStr;

use fewstep_core::solver::Solver;
use fewstep_search::{Method, MethodError, MomentsOf};
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// Where plans come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PlanSource {
    /// The paper's objectives on forward-noised data, for Euler's solver.
    Paper,
    /// A search.
    Method(Method),
}

impl Default for PlanSource {
    fn default() -> Self {
        Self::Method(Method::BEST)
    }
}

impl fmt::Display for PlanSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paper => f.write_str("paper"),
            Self::Method(method) => method.fmt(f),
        }
    }
}

impl FromStr for PlanSource {
    type Err = MethodError;

    fn from_str(text: &str) -> std::result::Result<Self, MethodError> {
        if text == "paper" { Ok(Self::Paper) } else { Ok(Self::Method(text.parse()?)) }
    }
}

impl TryFrom<String> for PlanSource {
    type Error = MethodError;

    fn try_from(text: String) -> std::result::Result<Self, MethodError> {
        text.parse()
    }
}

impl From<PlanSource> for String {
    fn from(source: PlanSource) -> Self {
        source.to_string()
    }
}

impl PlanSource {
    /// What its plans' samples have their moments matched with, if anything.
    pub fn moments(&self) -> Option<MomentsOf> {
        match self {
            Self::Method(method) => method.moments,
            Self::Paper => None,
        }
    }

    /// Whether it needs training images.
    pub fn needs_images(&self) -> bool {
        match self {
            Self::Paper => true,
            Self::Method(method) => method.needs_data(),
        }
    }

    /// Whether it refines plans down the gradient of the rollout error.
    pub fn follows_gradients(&self) -> bool {
        matches!(self, Self::Method(method) if method.follows_gradients())
    }
}

/// Refuses plans that phase 2 cannot tune for.
pub(in crate::fitting) fn check_tunable(source: &PlanSource) -> Result<()> {
    let heun = matches!(source, PlanSource::Method(method) if method.solver == Some(Solver::Heun));
    ensure!(
        !heun,
        "{source}: heun evaluates twice at every level, and phase 2 tunes for plans whose levels fall; choose another solver"
    );
    Ok(())
}
