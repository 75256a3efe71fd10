//! The teacher of a search: made once, kept in the run folder.

use std::path::Path;

use anyhow::{Result, anyhow};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::{Schedule, karras};
use fewstep_core::search::{Held, Teacher, refined};
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_core::space::Samples;
use fewstep_nn::Model;
use fewstep_nn::held;
use fewstep_nn::search::{Network, load_teacher, save_teacher};
use fewstep_nn::tensor::Batch;

use super::{SearchSettings, TeacherSettings};
use crate::ui::Progress;

/// A file for a teacher's trajectories, and the network that they are of.
#[derive(Clone, Copy, Debug)]
pub struct Cache<'a> {
    /// The file; made if it is not there.
    pub path: &'a Path,
    /// SHA-256 of the network's file.
    pub model_sha256: &'a str,
}

/// The teacher from the cache, or from the network; with a constant image for plans to hold if the settings say so.
pub fn obtain(network: &Network, settings: &SearchSettings, cache: Option<Cache>) -> Result<Teacher<Batch>> {
    let kind = network.model().kind();
    let key = |cache: Cache| {
        let teacher = &settings.teacher;
        serde_json::json!({ "model_sha256": cache.model_sha256, "precision": format!("{kind:?}"), "teacher": teacher })
            .to_string()
    };
    let (grid, fine) = levels(network.model(), &settings.teacher)?;
    let teacher = cached(network, settings.teacher.solver, &fine, &grid, cache.map(|cache| (cache, key(cache))))?;
    if !settings.constant {
        return Ok(teacher);
    }
    let (latents, labels) = (network.latents(), network.class_labels());
    let (constant, evaluations) =
        held::mean_output(network.model(), teacher.grid().sigma_max(), &latents.0, labels, network.batch())?;
    let batch = held::repeated(&constant, &latents.0, labels);
    Ok(teacher.holding(Held { constant, batch }, evaluations.div_ceil(settings.teacher.samples)))
}

/// The levels that plans choose from, and those of the teacher's own steps.
fn levels(model: &Model, settings: &TeacherSettings) -> Result<(Schedule, Schedule)> {
    let precond = &model.config().precond;
    let (low, high) = precond.sampling_range();
    let grid = karras(settings.grid, low, high, 7.0)?.round_grid(precond)?;
    let fine = refined(&grid, settings.parts).round_grid(precond)?;
    Ok((grid, fine))
}

/// The levels of the teacher's own steps.
pub fn fine_levels(model: &Model, settings: &TeacherSettings) -> Result<Schedule> {
    Ok(levels(model, settings)?.1)
}

/// The searches' teacher as a plan, for latents that they do not see.
pub fn held_out_teacher(model: &Model, settings: &TeacherSettings) -> Result<Plan> {
    Ok(settings.solver.plan(&fine_levels(model, settings)?, &SolverOptions::default())?)
}

/// The trajectories of the network's latents by `solver` on the levels of `fine`, kept at those of `grid`: from the cache if
/// they are there under this key, else made, and kept for the next time.
fn cached(
    network: &Network,
    solver: Solver,
    fine: &Schedule,
    grid: &Schedule,
    cache: Option<(Cache, String)>,
) -> Result<Teacher<Batch>> {
    if let Some((cache, key)) = cache.as_ref().filter(|(cache, _)| cache.path.exists()) {
        return Ok(load_teacher(key, cache.path, network.model().device())?);
    }
    let (latents, samples) = (network.latents().clone(), network.latents().samples());
    let total = solver.evaluations_per_step() * fine.len() * samples;
    let mut progress = Progress::new("teacher", "evaluations", total as u64, 0);
    let denoise = |x: &Batch, sigma: f64| {
        let outputs = network.denoised(x, sigma)?;
        progress.set(network.evaluations(), "");
        Ok::<_, fewstep_nn::Error>(outputs)
    };
    let teacher = Teacher::solve(solver, fine, grid, latents, samples, denoise);
    let teacher = teacher.map_err(|error| anyhow!(error.to_string()))?;
    progress.finish();
    if let Some((cache, key)) = &cache {
        save_teacher(&teacher, key, cache.path)?;
    }
    Ok(teacher)
}
