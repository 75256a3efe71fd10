//! The paper's results, and the rows of its tables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ReproduceSettings;
use crate::error::{Error, Result};
use crate::fitting::settings::{TuneLoss, TuneSettings};

/// A result of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Experiment {
    /// Distance against the number of steps.
    Fig2,
    /// What each phase buys.
    Table1,
    /// Learned levels.
    Fig3,
    /// The weights that they induce.
    Fig4,
    /// What becomes of the sampler as each of the paper's objectives is minimised.
    Objectives,
}

impl Experiment {
    const ALL: [Self; 5] = [Self::Fig2, Self::Table1, Self::Fig3, Self::Fig4, Self::Objectives];

    /// As it is typed, and as its files are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fig2 => "fig2",
            Self::Table1 => "table1",
            Self::Fig3 => "fig3",
            Self::Fig4 => "fig4",
            Self::Objectives => "objectives",
        }
    }

    /// Whether samplers are scored.
    pub fn scores(self) -> bool {
        matches!(self, Self::Fig2 | Self::Table1)
    }

    /// The rows that the paper compares in it.
    pub(super) fn rows(self) -> &'static [RowKind] {
        use RowKind::{Baseline, Both, Original, Phase1, Phase2};
        match self {
            Self::Fig2 => &[Baseline, Both],
            Self::Table1 => &[Baseline, Phase1, Phase2, Original, Both],
            Self::Fig3 | Self::Fig4 | Self::Objectives => &[],
        }
    }
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Experiment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|experiment| experiment.name() == text);
        found.ok_or_else(|| {
            Error::Input(format!("there is no experiment '{text}': {}", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

/// A row of a table: a way to sample, of the paper's and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowKind {
    /// rho = 7, the untuned network.
    Baseline,
    /// Learned levels, the untuned network.
    Phase1,
    /// rho = 7, the network tuned by Eq. 12 for it.
    Phase2,
    /// rho = 7, the network tuned by the EDM recipe: the paper's ablation.
    Original,
    /// Learned levels, the network tuned by Eq. 12 for them.
    Both,
    /// What our search finds.
    Ours,
    /// The same, the network tuned on the sampler's own states.
    OursTuned,
}

impl RowKind {
    /// The order of tables.
    pub const ALL: [Self; 7] =
        [Self::Baseline, Self::Phase1, Self::Phase2, Self::Original, Self::Both, Self::Ours, Self::OursTuned];

    /// As it is typed.
    pub fn key(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Phase1 => "phase1",
            Self::Phase2 => "phase2",
            Self::Original => "original",
            Self::Both => "both",
            Self::Ours => "ours",
            Self::OursTuned => "ours-tuned",
        }
    }

    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Phase1 => "phase 1: levels",
            Self::Phase2 => "phase 2: network",
            Self::Original => "original weights",
            Self::Both => "both phases",
            Self::Ours => "our plan",
            Self::OursTuned => "our plan, rollout tuning",
        }
    }

    /// Whether its levels are learned by the paper's objective.
    pub fn learns_levels(self) -> bool {
        matches!(self, Self::Phase1 | Self::Both)
    }

    /// Whether its plan is our search's.
    pub fn searches(self) -> bool {
        matches!(self, Self::Ours | Self::OursTuned)
    }

    /// How its network is tuned, if it is.
    pub fn tuning(self, settings: &ReproduceSettings) -> Option<TuneSettings> {
        let paper = |loss: TuneLoss| Some(TuneSettings { loss, ..settings.fit.tune.clone() });
        match self {
            Self::Baseline | Self::Phase1 | Self::Ours => None,
            Self::Phase2 | Self::Both => paper(TuneLoss::Bound),
            Self::Original => paper(TuneLoss::Edm),
            Self::OursTuned => Some(settings.rollout.clone()),
        }
    }
}

impl FromStr for RowKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|row| row.key() == text);
        found.ok_or_else(|| Error::Input(format!("there is no row '{text}': {}", Self::ALL.map(Self::key).join(", "))))
    }
}
