//! Figures of an experiment, and what they are drawn from.

use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::schedule::Schedule;
use fewstep_report::{Axis, Plot, Reference, Series, Style};
use serde::{Deserialize, Serialize};

use super::ReproduceTask;
use super::tables::{Measure, measures};
use crate::cells::{Row, diverged};
use crate::error::Result;
use crate::figures;
use crate::fitting::InterpolationPoint;
use crate::runs::slug;

/// Where it stands, in the run folder.
pub(super) const FIGURES: &str = "figures.json";

/// Learned levels beside the baseline's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Levels {
    pub steps: usize,
    pub rho_7: Vec<f64>,
    pub learned: Vec<f64>,
}

/// The held-out error while a row's levels or network were learned.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Learning {
    pub steps: usize,
    pub method: String,
    /// Updates made, error.
    #[serde(deserialize_with = "diverged::history")]
    pub evaluations: Vec<(u64, f64)>,
}

/// Phase 1 on its way down one objective.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Descent {
    /// The objective.
    pub name: String,
    /// Number of levels.
    pub steps: usize,
    /// After so many updates, the objective on that update's images.
    pub loss: Vec<(u64, f64)>,
    /// After so many updates, the held-out rollout error.
    #[serde(deserialize_with = "diverged::history")]
    pub rollout_error: Vec<(u64, f64)>,
    /// The levels in the end.
    pub sigmas: Vec<f64>,
}

/// What figures are drawn from, beside the rows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Figures {
    /// The network's parameterisation; none where there is no network.
    pub parameterisation: Option<Parameterisation>,
    pub levels: Vec<Levels>,
    pub descents: Vec<Descent>,
    pub learning: Vec<Learning>,
    /// What images chose among.
    #[serde(default)]
    pub interpolations: Vec<Interpolation>,
}

/// The levels or networks that images chose among for a row of so many steps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Interpolation {
    pub steps: usize,
    /// The row, or [`LEVELS`].
    pub method: String,
    pub points: Vec<InterpolationPoint>,
}

/// What interpolated levels are called.
pub(super) const LEVELS: &str = "levels";

/// Name of the file and plot of each figure.
pub(super) fn plots(rows: &[Row], task: &ReproduceTask, drawn: &Figures) -> Result<Vec<(String, Plot)>> {
    let mut plots = Vec::new();
    for (index, measure) in measures(rows).iter().enumerate() {
        let others = if index > 0 { format!("-{}-{}", index + 1, slug(&measure.name())) } else { String::new() };
        plots.push((format!("fig2{others}"), curves(rows, task, measure)));
    }
    for Levels { steps, rho_7, learned } in &drawn.levels {
        let both: [(&str, &[f64]); 2] = [("rho = 7", rho_7), ("learned", learned)];
        plots.push((format!("fig3-{steps:03}"), figures::schedules(format!("Noise levels, {steps} steps"), &both)));
        if let Some(parameterisation) = &drawn.parameterisation {
            let [raw, times] = figures::weights(*steps, &Schedule::new(learned.clone())?, parameterisation);
            plots.push((format!("fig4-{steps:03}-weights"), raw));
            plots.push((format!("fig4-{steps:03}-times-probability"), times));
        }
    }
    for &steps in &task.steps {
        let learning: Vec<&Learning> = drawn.learning.iter().filter(|learning| learning.steps == steps).collect();
        if !learning.is_empty() {
            plots.push((format!("learning-{steps:03}"), learned(steps, &learning)));
        }
    }
    for &steps in task.steps.iter().filter(|_| !drawn.descents.is_empty()) {
        let descents: Vec<&Descent> = drawn.descents.iter().filter(|descent| descent.steps == steps).collect();
        plots.extend(descended(steps, &descents));
    }
    Ok(plots)
}

/// What becomes of the sampler while the phases learn: as they have updates of their own, over the fraction that is made.
fn learned(steps: usize, learning: &[&Learning]) -> Plot {
    let line = |learning: &&Learning| {
        let last = learning.evaluations.last().map_or(1.0, |(update, _)| (*update as f64).max(1.0));
        let points = learning.evaluations.iter().map(|(update, error)| (*update as f64 / last, *error)).collect();
        Series::new(learning.method.clone(), points, Style::LineMarkers)
    };
    Plot {
        title: format!("The sampler while phases learn, {steps} steps"),
        x: Axis::linear("fraction of the updates"),
        y: Axis::log("held-out rollout error"),
        series: learning.iter().map(line).collect(),
        ..Plot::default()
    }
}

/// The objectives on their way down, what becomes of the sampler meanwhile, and where the levels end.
fn descended(steps: usize, descents: &[&Descent]) -> [(String, Plot); 3] {
    let lines = |points: &dyn Fn(&Descent) -> Vec<(f64, f64)>, style: Style| -> Vec<Series> {
        descents.iter().map(|descent| Series::new(descent.name.clone(), points(descent), style)).collect()
    };
    let plot = |title: String, y: Axis, series: Vec<Series>| Plot {
        title,
        x: Axis::linear("update"),
        y,
        series,
        ..Plot::default()
    };
    let float = |&(update, value): &(u64, f64)| (update as f64, value);
    let losses = lines(&|descent| smooth(&descent.loss), Style::Line);
    let errors = lines(&|descent| descent.rollout_error.iter().map(float).collect(), Style::LineMarkers);
    let levels: Vec<(&str, &[f64])> =
        descents.iter().map(|descent| (descent.name.as_str(), descent.sigmas.as_slice())).collect();
    let name = |what: &str| format!("objectives-{steps:03}-{what}");
    let of = |what: &str| format!("{what}, {steps} steps");
    [
        (name("loss"), plot(of("The objective"), Axis::log("objective"), losses)),
        (name("error"), plot(of("The sampler"), Axis::log("held-out rollout error"), errors)),
        (name("levels"), figures::schedules(of("Noise levels in the end"), &levels)),
    ]
}

/// Means of twenty updates: single batches are noisy.
fn smooth(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let mean = |part: &[(u64, f64)]| {
        let total: f64 = part.iter().map(|point| point.1).sum();
        Some((part.last()?.0 as f64, total / part.len() as f64))
    };
    points.chunks(20).filter_map(mean).collect()
}

/// Fig. 2: distance against steps.
fn curves(rows: &[Row], task: &ReproduceTask, measure: &Measure) -> Plot {
    let line = |name: &str| {
        let points = rows.iter().filter(|row| row.method == name).map(|row| (row.nfe as f64, measure.of(row)));
        Series::new(name, points.collect(), Style::LineMarkers)
    };
    let teacher = rows.iter().find(|row| row.method == "teacher" && !matches!(measure, Measure::RolloutError));
    let teacher = teacher.map(|row| (format!("teacher, {} evaluations", row.nfe), measure.of(row)));
    let reference = teacher.filter(|(_, y)| y.is_finite()).map(|(name, y)| Reference { name, y });
    let what = measure.name();
    Plot {
        x: Axis::linear("steps"),
        y: Axis::log(&what),
        title: what,
        series: task.rows().into_iter().map(|kind| line(kind.name())).collect(),
        references: reference.into_iter().collect(),
        ..Plot::default()
    }
}
