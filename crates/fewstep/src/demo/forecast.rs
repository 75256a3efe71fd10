//! What the demo costs.

use fewstep_search::{Method, search_cost, usual_teacher};

use super::DemoTask;
use crate::error::Result;
use crate::fitting::{FitSettings, Runs, tuning};
use crate::forecast::Forecast;
use crate::models::OpenModel;

/// The settings and the cost of a demo on a model.
///
/// # Errors
/// If a setting is outside its domain.
pub fn forecast(task: &DemoTask, model: &OpenModel) -> Result<Forecast> {
    task.check(model)?;
    let FitSettings { paper, tune, search, held_out, .. } = &task.settings;
    let spec = model.spec();
    let steps = task.steps.iter().map(|&steps| steps as u64).sum::<u64>();
    let (held, teacher) = (held_out.samples as u64, usual_teacher(&spec.levels, held_out.teacher_steps)?.nfe() as u64);
    let images = if model.denoiser().pixel_shape().is_some() { task.images as u64 } else { 0 };
    let found = search_cost(spec, &Method::BEST, &task.steps, search)?;
    let mut cost = Forecast::new(task, spec.calls)?
        .part("teacher on held-out latents", held * teacher)
        .part("teacher's images", images * teacher)
        .part("the search's teacher", found.teacher)
        .part("our search", found.search);
    let mut rows = 2;
    if DemoTask::has_phases(model) {
        rows += 3;
        cost = cost.part("table of e(sigma)", (paper.grid * paper.table_images) as u64);
        cost = tuning(cost, "phase 2, twice", &task.settings, tune, Runs { spec, steps: &task.steps, times: 2 })?;
    }
    Ok(cost.part(format!("{rows} rows a number of steps"), rows * (images + held) * steps))
}
