//! What can be asked for: the paper's results, the rows of its tables, and what each row needs.

use anyhow::Result;
use fewstep_nn::fit::TuneWeights;
use serde::{Deserialize, Serialize};

use super::{Settings, Task};
use crate::fitting::Phase2Settings;

/// Results of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Experiment {
    Fig2,
    Table1,
    Fig3,
    Fig4,
    Objectives,
}

/// One way to sample: the paper's, and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// rho = 7, the network as it came.
    Baseline,
    /// Learned levels, the network as it came.
    Stage1,
    /// rho = 7, the network tuned by Eq. 12 for it.
    Stage2,
    /// rho = 7, the network tuned by the EDM recipe: the paper's ablation.
    Original,
    /// Learned levels, the network tuned by Eq. 12 for them.
    Both,
    /// What our search finds.
    Ours,
    /// The same, the network tuned on the sampler's own states.
    OursTuned,
}

impl Cell {
    /// The order of tables.
    const ALL: [Self; 7] =
        [Self::Baseline, Self::Stage1, Self::Stage2, Self::Original, Self::Both, Self::Ours, Self::OursTuned];

    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Stage1 => "stage 1: levels",
            Self::Stage2 => "stage 2: network",
            Self::Original => "original weights",
            Self::Both => "both stages",
            Self::Ours => "our plan",
            Self::OursTuned => "our plan, rollout tuning",
        }
    }

    /// How its network is tuned, if it is.
    pub fn tuning(self, settings: &Settings) -> Option<Phase2Settings> {
        let paper = |weights| Some(Phase2Settings { weights, ..settings.fit.phase2.clone() });
        let bound = || Some(settings.fit.phase2.clone());
        match self {
            Self::Baseline | Self::Stage1 | Self::Ours => None,
            Self::Stage2 | Self::Both => bound(),
            Self::Original => paper(TuneWeights::Original),
            Self::OursTuned => Some(settings.rollout.clone()),
        }
    }
}

impl Experiment {
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

    /// Whether images are made and measured.
    pub fn measures(self) -> bool {
        matches!(self, Self::Fig2 | Self::Table1)
    }

    /// The methods that the paper compares in it.
    fn cells(self) -> &'static [Cell] {
        match self {
            Self::Fig2 => &[Cell::Baseline, Cell::Both],
            Self::Table1 => &[Cell::Baseline, Cell::Stage1, Cell::Stage2, Cell::Original, Cell::Both],
            Self::Fig3 | Self::Fig4 | Self::Objectives => &[],
        }
    }
}

impl Task {
    /// The rows of its table, in order: those that were asked for, or all that the experiment has.
    pub fn cells(&self) -> Vec<Cell> {
        let ours = |cell: &Cell| self.ours && matches!(cell, Cell::Ours | Cell::OursTuned);
        let asked = |cell: &Cell| match self.rows.as_slice() {
            [] => self.experiment.cells().contains(cell) || ours(cell),
            rows => rows.contains(cell),
        };
        Cell::ALL.into_iter().filter(|cell| self.experiment.measures() && asked(cell)).collect()
    }

    /// Refuses a data set that is too small for an update of what is asked for.
    pub fn check(&self, images: usize) -> Result<()> {
        if self.learns_levels() {
            self.settings.fit.phase1.check(images)?;
        }
        for cell in self.cells() {
            let batch = if cell == Cell::OursTuned { "rollout-batch" } else { "batch" };
            cell.tuning(&self.settings).map_or(Ok(()), |tuning| tuning.check(Some(images), &self.steps, batch))?;
        }
        Ok(())
    }

    /// Whether it takes the levels of stage 1.
    pub fn learns_levels(&self) -> bool {
        !self.experiment.measures() || self.cells().iter().any(|cell| matches!(cell, Cell::Stage1 | Cell::Both))
    }
}
