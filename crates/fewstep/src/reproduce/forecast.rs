//! What an experiment costs, at most.

use fewstep_core::denoiser::Spec;
use fewstep_search::search_cost;

use super::{Experiment, ReproduceSettings, ReproduceTask, RowKind};
use crate::cells::TIMED;
use crate::error::Result;
use crate::fitting::settings::TuneSettings;
use crate::fitting::{evaluated, interpolation_evaluations, trajectory_evaluations};
use crate::forecast::Forecast;

/// The settings and the cost of an experiment on a denoiser of this description; what an earlier run left is not taken off.
///
/// # Errors
/// If the task cannot be done.
pub fn forecast(task: &ReproduceTask, spec: &Spec) -> Result<Forecast> {
    let ReproduceSettings { seeds, fit, .. } = &task.settings;
    let steps = task.steps.iter().map(|&steps| steps as u64).sum::<u64>();
    let held = fit.held_out.samples as u64;
    let teacher = 2 * fit.held_out.teacher_steps as u64 - 1;
    let mut cost = Forecast::new(task, spec.calls)?.part("teacher on held-out latents", held * teacher);
    if task.learns_levels() {
        let descents = if task.experiment == Experiment::Objectives { 4 } else { 1 };
        let errors = evaluated(fit.paper.iterations, fit.paper.check_every) * held * steps;
        cost = cost
            .training("phase 1", descents * fit.paper.iterations * fit.paper.batch as u64 * steps)
            .part("held-out errors of phase 1", descents * errors);
    }
    if !task.experiment.scores() {
        return Ok(cost);
    }
    let images = if task.references.is_empty() { TIMED } else { seeds.images * seeds.ranges };
    let others = if task.references.is_empty() { 0 } else { seeds.images };
    cost = cost.part("the teacher's samples", (images + others + held) * teacher);
    let rows = task.rows();
    let paper = rows.iter().filter(|row| !row.searches()).filter_map(|row| row.tuning(&task.settings));
    let paper: Vec<TuneSettings> = paper.collect();
    let of_all = |each: &dyn Fn(usize) -> u64| task.steps.iter().map(|&steps| each(steps)).sum::<u64>();
    let errors = |tune: &TuneSettings| evaluated(tune.updates, tune.check_every) * held * steps;
    if !paper.is_empty() {
        let gradients = |tune: &TuneSettings| of_all(&|steps| tune.evaluations_with_gradient(steps));
        cost = cost
            .training("phase 2", paper.iter().map(gradients).sum())
            .part("held-out errors of phase 2", paper.iter().map(errors).sum());
    }
    cost = ours(task, spec, cost, &rows, (held, errors(&task.settings.rollout)))?;
    Ok(cost.part(format!("samples of {} methods", rows.len()), rows.len() as u64 * (images + held) * steps))
}

/// With our rows; `errors`: evaluations of the held-out error by our tuning.
fn ours(
    task: &ReproduceTask,
    spec: &Spec,
    cost: Forecast,
    rows: &[RowKind],
    (held, errors): (u64, u64),
) -> Result<Forecast> {
    let ReproduceSettings { fit, rollout, method, .. } = &task.settings;
    if !rows.iter().any(|row| row.searches()) {
        return Ok(cost);
    }
    let found = search_cost(spec, method, &task.steps, &fit.search)?;
    let cost = cost.part("our search's teacher", found.teacher).part(format!("our search, {method}"), found.search);
    if !rows.contains(&RowKind::OursTuned) {
        return Ok(cost);
    }
    let of_all = |each: &dyn Fn(usize) -> u64| task.steps.iter().map(|&steps| each(steps)).sum::<u64>();
    let images = if task.references.is_empty() { 0 } else { fit.interpolate.images as u64 };
    let steps = of_all(&|steps| steps as u64);
    Ok(cost
        .part(
            "teacher's trajectories",
            of_all(&|n| trajectory_evaluations(&fit.search.teacher, rollout.trajectories, n)),
        )
        .part("evaluations of our tuning before their gradients", of_all(&|n| rollout.repeated_evaluations(n)))
        .training("the critic of our tuning", of_all(&|n| rollout.criticised_images(n)))
        .training("our tuning", of_all(&|n| rollout.evaluations_with_gradient(n)))
        .part("held-out errors of our tuning", errors)
        .part(
            "interpolation between the untuned and the tuned network",
            interpolation_evaluations(images, held, found.matching, steps),
        ))
}
