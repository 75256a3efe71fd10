//! What an experiment costs, at most.

use fewstep_core::denoiser::Spec;
use fewstep_search::{search_cost, usual_teacher};

use super::{Experiment, ReproduceSettings, ReproduceTask, RowKind};
use crate::cells::TIMED;
use crate::error::Result;
use crate::fitting::settings::TuneSettings;
use crate::fitting::{
    Runs, interpolated_networks, interpolation_evaluations, learning_levels, level_interpolation_evaluations, tuning,
};
use crate::forecast::{Forecast, product, total};

/// The settings and the cost of an experiment on a denoiser of this description; what an earlier run left is not taken off.
///
/// # Errors
/// If the task cannot be done.
pub fn forecast(task: &ReproduceTask, spec: &Spec) -> Result<Forecast> {
    let ReproduceSettings { seeds, fit, .. } = &task.settings;
    let steps = total(task.steps.iter().map(|&steps| steps as u64));
    let held = fit.held_out.samples as u64;
    let teacher = usual_teacher(&spec.levels, fit.held_out.teacher_steps)?.nfe() as u64;
    let mut cost = Forecast::new(task, spec.calls)?.part("teacher on held-out latents", product([held, teacher]));
    let chosen = task.experiment.scores() && !task.references.is_empty() && task.settings.choose_by_images;
    let scored = if chosen { fit.interpolate.images as u64 } else { 0 };
    let learnings = if scored > 0 { fit.interpolate.learnings(&fit.paper).len() } else { 1 };
    if task.learns_levels() {
        let times = if task.experiment == Experiment::Objectives { 4 } else { learnings as u64 };
        cost = learning_levels(cost, fit, Runs { spec, steps: &task.steps, times });
    }
    if !task.experiment.scores() {
        return Ok(cost);
    }
    let images = if task.references.is_empty() { TIMED } else { product([seeds.images, seeds.ranges]) };
    let others = if task.references.is_empty() { 0 } else { seeds.images };
    cost = cost.part("the teacher's samples", product([total([images, others, held]), teacher]));
    let rows = task.rows();
    let paper = rows.iter().filter(|row| !row.searches()).filter_map(|row| row.tuning(&task.settings));
    let paper: Vec<TuneSettings> = paper.collect();
    if task.learns_levels() {
        let between = level_interpolation_evaluations(learnings, scored, held, steps);
        cost = cost.part("interpolation between rho = 7 and the learned levels", between);
    }
    if let Some(tune) = paper.first() {
        // rows differ in their loss, not in the cost of a tuning
        let tunings =
            |tune: &TuneSettings| if scored > 0 { fit.interpolate.last_weights(tune).len() as u64 } else { 1 };
        let times = paper.iter().map(tunings).sum();
        let between =
            |tune| interpolation_evaluations(interpolated_networks(&fit.interpolate, tune), scored, held, 0, steps);
        cost = tuning(cost, "phase 2", fit, tune, Runs { spec, steps: &task.steps, times })?
            .part("networks of phase 2", total(paper.iter().map(between)));
    }
    cost = ours(task, spec, cost, &rows, held)?;
    let sampled = product([rows.len() as u64, total([images, held]), steps]);
    Ok(cost.part(format!("samples of {} methods", rows.len()), sampled))
}

/// With our rows.
fn ours(task: &ReproduceTask, spec: &Spec, cost: Forecast, rows: &[RowKind], held: u64) -> Result<Forecast> {
    let ReproduceSettings { fit, rollout, method, .. } = &task.settings;
    if !rows.iter().any(|row| row.searches()) {
        return Ok(cost);
    }
    let found = search_cost(spec, method, &task.steps, &fit.search)?;
    let cost = cost.part("our search's teacher", found.teacher).part(format!("our search, {method}"), found.search);
    if !rows.contains(&RowKind::OursTuned) {
        return Ok(cost);
    }
    let images = if task.references.is_empty() { 0 } else { fit.interpolate.images as u64 };
    let steps = total(task.steps.iter().map(|&steps| steps as u64));
    Ok(tuning(cost, "our tuning", fit, rollout, Runs { spec, steps: &task.steps, times: 1 })?.part(
        "interpolation between the untuned and the tuned network",
        interpolation_evaluations(
            interpolated_networks(&fit.interpolate, rollout),
            images,
            held,
            found.matching,
            steps,
        ),
    ))
}
