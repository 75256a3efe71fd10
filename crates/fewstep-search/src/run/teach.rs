//! The teacher of all searches: its levels, its trajectories, and the mean output that plans may hold.

use fewstep_core::denoiser::{Denoiser, Levels, Spec};
use fewstep_core::observe::{Event, Observer, Progress};
use fewstep_core::plan::{Constant, Plan};
use fewstep_core::schedule::{Schedule, karras};
use fewstep_core::solver::SolverOptions;
use fewstep_core::space::{Batch, Samples, VectorSpace};
use serde_json::{Value, json};

use super::{doubts, search_seeds};
use crate::error::{Error, Result};
use crate::seeded::Seeded;
use crate::settings::{SearchSettings, TeacherSettings, TeacherSolver};
use crate::{MeanPrediction, Teacher, refined};

/// Most classes that each get a mean output of their own; with more, all share one.
const MOST_CLASSES: usize = 100;

/// rho = 7 over the range that samplers use on a denoiser (Karras et al. 2022), rounded to the levels that it knows.
///
/// # Errors
/// If there are not so many.
pub fn baseline(levels: &Levels, steps: usize) -> Result<Schedule> {
    let (low, high) = levels.sampling;
    Ok(karras(steps, low, high, 7.0)?.round(levels)?)
}

/// Levels of the teacher that images and rollout errors are compared with where nothing else is asked for.
pub const TEACHER_STEPS: usize = 18;

/// The teacher that images and rollout errors are compared with, of `2 steps - 1` evaluations: Heun on [`baseline`], which is EDM's
/// sampler; on a wide range the solver that [`TeacherSolver::Auto`] has there. Of a denoiser that knows few levels it makes fewer: those that
/// round to the same are one.
///
/// # Errors
/// If the range has no two levels.
pub fn usual_teacher(levels: &Levels, steps: usize) -> Result<Plan> {
    let (solver, times) = TeacherSolver::Auto.on(levels);
    let steps = times.saturating_mul(steps.saturating_sub(1)).saturating_add(1);
    let (low, high) = levels.sampling;
    let schedule = karras(steps, low, high, 7.0)?.round_grid(levels)?;
    Ok(solver.plan(&schedule, &SolverOptions::default())?)
}

/// The levels that plans choose from (fewer than `settings.grid` where some round to the same), and those of the teacher's own steps.
pub(super) fn grid_and_fine(levels: &Levels, settings: &TeacherSettings) -> Result<(Schedule, Schedule)> {
    let (low, high) = levels.sampling;
    let grid = karras(settings.grid, low, high, 7.0)?.round_grid(levels)?;
    let fine = refined(&grid, settings.steps_on(levels).1)?.round_grid(levels)?;
    Ok((grid, fine))
}

/// The levels of the teacher's own steps.
///
/// # Errors
/// If the settings leave none.
pub fn fine_levels(levels: &Levels, settings: &TeacherSettings) -> Result<Schedule> {
    Ok(grid_and_fine(levels, settings)?.1)
}

/// The searches' teacher as a plan, for latents that they do not see.
///
/// # Errors
/// If the settings leave none.
pub fn held_out_teacher(levels: &Levels, settings: &TeacherSettings) -> Result<Plan> {
    Ok(settings.steps_on(levels).0.plan(&fine_levels(levels, settings)?, &SolverOptions::default())?)
}

/// Everything that a teacher's trajectories depend on: the key of a file that keeps them.
pub fn teacher_key(spec: &Spec, settings: &TeacherSettings) -> Value {
    json!({ "denoiser": spec.identity, "guidance": spec.guidance, "teacher": settings })
}

/// The trajectories of `denoiser` from the search's latents. Second, the evaluations of single samples that they took, with the few that
/// tell whether it is a denoiser at all, before any long work.
///
/// # Errors
/// If the settings leave no grid, the denoiser fails or diverges, or the observer asks for the end.
pub fn solve_teacher<D: Denoiser>(
    denoiser: &D,
    settings: &SearchSettings,
    observer: &dyn Observer,
) -> Result<(Teacher<D::Batch>, u64)> {
    let (grid, fine) = grid_and_fine(&denoiser.spec().levels, &settings.teacher)?;
    let (samples, (solver, _)) = (settings.teacher.samples, settings.teacher.steps_on(&denoiser.spec().levels));
    let seeded = Seeded::new(denoiser, &search_seeds(settings), observer)?;
    let (doubt, asked) = doubts::ignored_input(denoiser, &grid, observer)?;
    if let Some(doubt) = doubt {
        observer.event(Event::Note(&format!("warning: {doubt}")));
    }
    let total = solver.evaluations_per_step() * fine.len() * samples;
    let mut progress = Progress::new(observer, "teacher", "evaluations", total as u64, 0);
    let denoise = |x: &D::Batch, sigma: f64| {
        let outputs = seeded.taught(x, sigma)?;
        progress.set(seeded.evaluations(), "");
        Ok::<_, Error>(outputs)
    };
    let teacher = Teacher::solve(solver, &fine, &grid, seeded.latents().clone(), samples, denoise);
    Ok((seeded.relied_on(teacher.map_err(Error::from))?, asked + seeded.evaluations()))
}

/// Refuses a teacher, such as one of a file, that a search with these settings would take apart where it has no samples.
///
/// # Errors
/// If it has more or fewer samples than the settings say, or samples of another size than the denoiser's.
pub(super) fn check_fits<B: Batch>(teacher: &Teacher<B>, spec: &Spec, settings: &TeacherSettings) -> Result<()> {
    let (ends, expected) = (teacher.ends(), settings.samples);
    let batches = [&ends.latent, &ends.image].into_iter().chain(teacher.states());
    let mut counts = std::iter::once(ends.samples).chain(batches.map(Samples::samples));
    if let Some(found) = counts.find(|count| *count != expected) {
        return Err(Error::TeacherSamples { found, expected });
    }
    match ends.image.other_size(spec.numel()) {
        Some(found) => Err(Error::SampleSize { what: "the teacher's images", found, shape: spec.shape.clone() }),
        None => Ok(()),
    }
}

/// The teacher with the student's mean output at the first level for plans to hold.
pub(super) fn holding<D: Denoiser>(student: &Seeded<D>, teacher: Teacher<D::Batch>) -> Result<Teacher<D::Batch>> {
    let constant = mean_output(student, teacher.grid().sigma_max())?;
    let batch = student.constant(&constant)?;
    let evaluations = (student.evaluations() as usize).div_ceil(student.samples().max(1));
    Ok(teacher.with_mean(MeanPrediction { constant, batch }, evaluations))
}

/// The mean of the outputs `D(sigma n; sigma)` over the latents: one for all, or one a class if there are up to 100, each from about
/// `N / classes` latents, at least 8.
fn mean_output<D: Denoiser>(student: &Seeded<D>, sigma: f64) -> Result<Constant> {
    let spec = student.denoiser().spec();
    let (shape, count, classes) = (spec.shape.clone(), student.samples(), spec.classes);
    let noisy = |latents: &D::Batch| D::Batch::combine(&[(sigma, latents)]);
    if classes == 0 || classes > MOST_CLASSES {
        let samples = vec![student.denoised(&noisy(student.latents()), sigma)?.mean_sample()];
        return Ok(Constant { sigma, shape, samples });
    }
    let each = count.div_ceil(classes).max(8).min(count);
    let few = noisy(&student.latents().part(0, each));
    let of_class = |class: usize| Ok(student.of_class(class, &few, each, sigma)?.mean_sample());
    let samples = (0..classes).map(of_class).collect::<Result<_>>()?;
    Ok(Constant { sigma, shape, samples })
}
