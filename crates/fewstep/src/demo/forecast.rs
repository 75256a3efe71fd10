//! What the demo costs.

use fewstep_core::denoiser::Spec;
use fewstep_search::{Method, search_cost};

use super::DemoTask;
use crate::error::Result;
use crate::fitting::{FitSettings, evaluated};
use crate::forecast::Forecast;

/// The settings and the cost of a demo on a network of this description.
///
/// # Errors
/// If a setting is outside its domain.
pub fn forecast(task: &DemoTask, spec: &Spec) -> Result<Forecast> {
    task.check()?;
    let FitSettings { paper, tune, search, held_out, .. } = &task.settings;
    let numbers = task.steps.len() as u64;
    let steps = task.steps.iter().map(|&steps| steps as u64).sum::<u64>();
    let (held, images, teacher) = (held_out.samples as u64, task.images as u64, 2 * held_out.teacher_steps as u64 - 1);
    let found = search_cost(spec, &Method::BEST, &task.steps, search)?;
    Ok(Forecast::new(task, spec.calls)?
        .part("teacher on held-out latents", held * teacher)
        .part("teacher's images", images * teacher)
        .part("table of e(sigma)", (paper.grid * paper.table_images) as u64)
        .part("the search's teacher", found.teacher)
        .part("our search", found.search)
        .training("phase 2, twice", 2 * numbers * tune.evaluations_with_gradient(1))
        .part("held-out errors of phase 2", 2 * evaluated(tune.updates, tune.check_every) * held * steps)
        .part("five rows a number of steps", 5 * (images + held) * steps))
}
