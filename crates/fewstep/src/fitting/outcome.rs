//! What a fit for one number of steps leaves: `fit.json`, tables and the report are made of it. Paths are relative to the run folder.

use std::path::PathBuf;

use fewstep_nn::fit::TuneStep;
use fewstep_report::{Cell, Column, Format, Table};
use serde::{Deserialize, Serialize};

use super::interpolate::{InterpolationPoint, interpolation_table};
use crate::cells::diverged;

/// What a fit for one number of steps left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Evaluations of the plan.
    pub steps: usize,
    /// Network calls of an image: more than evaluations under guidance.
    pub calls: usize,
    /// Rollout error of the baseline: rho = 7 under Euler, or the plan that tuning was given. (Errors of what diverges are infinite, in JSON
    /// null.)
    #[serde(deserialize_with = "diverged::error")]
    pub baseline: f64,
    /// What the baseline is.
    pub baseline_name: String,
    /// After each phase of each round.
    pub phases: Vec<PhaseOutcome>,
    /// The noise levels in the end.
    pub sigmas: Vec<f64>,
    /// The plan's file, in the run folder.
    pub plan: PathBuf,
    /// The tuned network's file, in the run folder, if phase 2 bought something.
    pub model: Option<PathBuf>,
    /// Images of equal seeds; none where samples are no images.
    #[serde(default)]
    pub grids: Vec<Grid>,
    /// The held-out error while the network was tuned, one list a round.
    #[serde(default)]
    pub tuning: Vec<Vec<TuneStep>>,
    /// The interpolation between the levels that phase 1 began with and the learned ones, one list a round.
    #[serde(default)]
    pub levels: Vec<Vec<InterpolationPoint>>,
    /// The interpolation between the untuned and the tuned network, one list a round.
    #[serde(default)]
    pub interpolation: Vec<Vec<InterpolationPoint>>,
    /// The tuned network under the plans of the other numbers of steps.
    #[serde(default)]
    pub cross_plan: Vec<CrossPlan>,
}

/// A tuned network under a plan that it was not tuned for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CrossPlan {
    /// Evaluations of the plan.
    pub steps: usize,
    /// What kind of plan it is where the fit did not find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solver: Option<String>,
    /// Rollout error of the untuned network.
    #[serde(deserialize_with = "diverged::error")]
    pub untuned: f64,
    /// Rollout error of the tuned network.
    #[serde(deserialize_with = "diverged::error")]
    pub tuned: f64,
}

/// Images of one sampler.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grid {
    /// What made them.
    pub label: String,
    /// A PNG in the run folder.
    pub file: PathBuf,
}

/// Images in a grid: of seeds from 0 on.
pub const IMAGES: u64 = 64;

/// One phase of one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseOutcome {
    /// From 1.
    pub round: usize,
    /// 1 or 2.
    pub phase: u8,
    /// Held-out rollout error after it.
    #[serde(deserialize_with = "diverged::error")]
    pub rollout_error: f64,
    /// Whether its outcome was taken over: with early stopping, only where it is better.
    pub kept: bool,
}

/// What every phase bought, a group for each number of steps.
pub fn table(outcomes: &[Outcome]) -> Table {
    let guided = outcomes.iter().any(|outcome| outcome.calls != outcome.steps);
    let mut columns = vec![Column::number("evaluations", Format::Integer)];
    columns.extend(guided.then(|| Column::number("network calls", Format::Integer)));
    columns.extend([Column::text("sampler"), Column::number("rollout error", Format::Significant(4)).lowest()]);
    let mut table = Table::new(columns);
    let rounds = outcomes.iter().flat_map(|outcome| &outcome.phases).any(|phase| phase.round > 1);
    for outcome in outcomes {
        table.start_group();
        let mut row = |what: String, error: f64| {
            let mut cells = vec![Cell::from(outcome.steps as f64)];
            cells.extend(guided.then(|| Cell::from(outcome.calls as f64)));
            cells.extend([what.as_str().into(), error.into()]);
            table.push(cells);
        };
        row(format!("{} (baseline)", outcome.baseline_name), outcome.baseline);
        for phase in &outcome.phases {
            let by_images = if phase.phase == 1 {
                !outcome.levels.concat().is_empty()
            } else {
                !outcome.interpolation.concat().is_empty()
            };
            let kept = match (phase.kept, by_images) {
                (true, _) => "",
                (false, true) => " (its images are no nearer: not kept)",
                (false, false) => " (no better: not kept)",
            };
            let round = if rounds { format!("round {}: ", phase.round) } else { String::new() };
            let what = if phase.phase == 1 { "plan" } else { "network tuned" };
            row(format!("{round}{what}{kept}"), phase.rollout_error);
        }
    }
    table
}

/// Interpolation points of networks for all numbers of steps; none where there are none.
pub fn interpolations(outcomes: &[Outcome]) -> Option<Table> {
    by_rounds(outcomes, |outcome| &outcome.interpolation)
}

/// Interpolation points of levels for all numbers of steps; none where there are none.
pub fn level_interpolations(outcomes: &[Outcome]) -> Option<Table> {
    by_rounds(outcomes, |outcome| &outcome.levels)
}

fn by_rounds(outcomes: &[Outcome], of: impl Fn(&Outcome) -> &Vec<Vec<InterpolationPoint>>) -> Option<Table> {
    interpolation_table(outcomes.iter().flat_map(|outcome| {
        of(outcome).iter().enumerate().map(|(round, points)| (outcome.steps, round + 1, points.as_slice()))
    }))
}

/// Tuned networks under other plans; none where there is nothing to say.
pub fn cross_plan_table(outcomes: &[Outcome]) -> Option<Table> {
    let mut table = Table::new(vec![
        Column::number("network tuned for", Format::Integer),
        Column::text("under the plan of"),
        Column::number("rollout error", Format::Significant(4)),
        Column::number("untuned", Format::Significant(4)),
        Column::number("ratio", Format::Significant(3)),
    ]);
    for outcome in outcomes.iter().filter(|outcome| !outcome.cross_plan.is_empty()) {
        table.start_group();
        for other in &outcome.cross_plan {
            let solver = other.solver.as_ref().map_or_else(String::new, |solver| format!(", {solver}"));
            let under = format!("{} evaluations{solver}", other.steps);
            let errors = [other.tuned, other.untuned, other.tuned / other.untuned].map(Cell::from);
            table.push([(outcome.steps as f64).into(), under.as_str().into()].into_iter().chain(errors).collect());
        }
    }
    outcomes.iter().any(|outcome| !outcome.cross_plan.is_empty()).then_some(table)
}
