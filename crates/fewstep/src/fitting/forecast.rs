//! What a fit costs, at most: early stopping may end phases sooner.

use fewstep_search::search_cost;
use fewstep_search::settings::TeacherSettings;

use super::interpolate::NETWORKS;
use super::outcome::IMAGES;
use super::settings::{FitSettings, PlanSource, TuneLoss};
use super::task::FitTask;
use crate::error::Result;
use crate::forecast::Forecast;
use crate::models::OpenModel;

/// The cost of a task on a model: the search is run on a small mixture of Gaussians that counts its evaluations, and updates are
/// counted as the settings say.
///
/// # Errors
/// If the task cannot be done.
pub fn forecast(task: &FitTask, model: &OpenModel) -> Result<Forecast> {
    let spec = model.spec();
    let FitSettings { paper, tune, search, held_out, interpolate, .. } = &task.settings;
    let (held, rounds) = (held_out.samples as u64, task.rounds as u64);
    let sum = |of: &dyn Fn(usize) -> u64| task.steps.iter().map(|&steps| of(steps)).sum::<u64>();
    let steps = sum(&|steps| steps as u64);
    let numbers = task.steps.len() as u64;
    let mut cost = Forecast::new(task, spec.calls)?
        .part("teacher on held-out latents", held * (2 * held_out.teacher_steps as u64 - 1))
        .part("baseline on held-out latents", held * steps);
    let mut matching = 0;
    if task.finds() {
        let table = (paper.grid * paper.table_images) as u64;
        let needs_table = task.settings.needs_table(&task.method);
        cost = match &task.method {
            PlanSource::Paper if needs_table => cost.part("table of e(sigma)", rounds * table),
            PlanSource::Paper => cost.training("phase 1", rounds * paper.iterations * paper.batch as u64 * steps).part(
                "held-out errors of phase 1",
                rounds * evaluated(paper.iterations, paper.check_every) * held * steps,
            ),
            PlanSource::Method(method) => {
                let first = search_cost(spec, method, &task.steps, search)?;
                matching = first.matching;
                // one for all numbers of steps, then one each for its own tuned network
                let mut later = 0;
                if rounds > 1 {
                    for &steps in &task.steps {
                        later += search_cost(spec, method, &[steps], search)?.search;
                    }
                }
                let tables = if needs_table { (1 + (rounds - 1) * numbers) * table } else { 0 };
                cost.part("table of e(sigma)", tables)
                    .part("the search's teacher", first.teacher)
                    .part(format!("search {method}"), first.search + (rounds - 1) * later)
            }
        };
        cost = cost.part("plans on held-out latents", rounds * held * steps);
    }
    if task.tunes() {
        let rollout = tune.loss == TuneLoss::Rollout;
        let trajectory = |steps: usize| trajectory_evaluations(&search.teacher, tune.trajectories, steps);
        let beside = rollout && tune.data_weight > 0.0;
        cost = cost
            .part("teacher's trajectories", if rollout { rounds * sum(&trajectory) } else { 0 })
            .training(
                "training images of phase 2 beside trajectories",
                if beside { rounds * tune.updates * sum(&|steps| tune.update_size(steps).batch as u64) } else { 0 },
            )
            .part("evaluations of phase 2 before their gradients", rounds * sum(&|n| tune.repeated_evaluations(n)))
            .training("the critic of phase 2", rounds * sum(&|n| tune.criticised_images(n)))
            .training("phase 2", rounds * sum(&|n| tune.evaluations_with_gradient(n)))
            .part("held-out errors of phase 2", rounds * evaluated(tune.updates, tune.check_every) * held * steps)
            .part("the teacher's images that those of networks are compared with", {
                let images = if task.references.is_empty() { 0 } else { interpolate.images as u64 };
                images * (2 * held_out.teacher_steps as u64 - 1)
            })
            .part("interpolation between the untuned and the tuned network", {
                let images = if task.references.is_empty() { 0 } else { interpolate.images as u64 };
                rounds * interpolation_evaluations(images, held, matching, steps)
            })
            .part("tuned networks under other plans", {
                // one alone is tried under a plan of twice as many evaluations
                let plans = if numbers == 1 { 2 } else { numbers - 1 };
                2 * plans * held * steps
            });
    }
    let samplers = 1 + u64::from(task.finds()) + u64::from(task.tunes());
    let images = if model.denoiser().pixel_shape().is_some() { IMAGES } else { 0 };
    Ok(cost.part("images of the report", images * samplers * steps))
}

/// Evaluations of the held-out error that so many updates take.
pub(crate) fn evaluated(updates: u64, every: u64) -> u64 {
    updates.div_ceil(every.max(1)) + 1
}

/// Evaluations of so many trajectories of a teacher at the levels of a plan of `steps` evaluations.
pub(crate) fn trajectory_evaluations(teacher: &TeacherSettings, trajectories: usize, steps: usize) -> u64 {
    let levels = teacher.grid.max(2) + (teacher.grid - 1) * (teacher.substeps - 1) + steps;
    (teacher.solver.evaluations_per_step() * levels * trajectories) as u64
}

/// Evaluations of networks between the untuned and the tuned one, on so many images and held-out latents, for plans of `steps`
/// evaluations in all; `matching` is what matching the moments of these plans takes.
pub(crate) fn interpolation_evaluations(images: u64, held_out: u64, matching: u64, steps: u64) -> u64 {
    let networks = if images > 0 { NETWORKS as u64 } else { 1 };
    networks * (matching + (images + held_out) * steps) + (images + held_out) * steps
}
