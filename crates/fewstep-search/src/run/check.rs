//! What can be known to fail before a search begins.

use fewstep_core::denoiser::{Denoiser, Levels};
use fewstep_core::objective::BoundTable;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::MOST_LEVELS;
use fewstep_core::solver::Solver;

use super::teach::grid_and_fine;
use super::{Extras, gits, plain};
use crate::error::{Error, Result};
use crate::method::{Method, Refinement, Source};
use crate::settings::{Distance, SearchSettings};

/// Refuses, before any evaluation, what a search of `method` on `denoiser` is known to fail on.
///
/// # Errors
/// If a setting is outside its domain, the method has no plan of one of these numbers of evaluations, or it lacks something: latents,
/// training data, images, a derivative, a loss, levels that can move.
pub fn check_method<D: Denoiser>(
    denoiser: &D,
    method: &Method,
    steps: &[usize],
    settings: &SearchSettings,
    extras: &Extras<'_, D::Batch>,
) -> Result<()> {
    settings.validate()?;
    let known = &denoiser.spec().levels;
    let grids = Grids::new(known, settings)?;
    needs(denoiser, method, settings, extras)?;
    servable(method, steps, known, grids, extras.table)
}

/// Refuses, before there is a search, numbers of evaluations that `method` has no plan for on a denoiser of these levels. How many a table
/// of `bound` allows it does not know.
///
/// # Errors
/// If the settings leave no grid, or with all such numbers.
pub fn check_steps(known: &Levels, method: &Method, steps: &[usize], settings: &SearchSettings) -> Result<()> {
    servable(method, steps, known, Grids::new(known, settings)?, None)
}

/// Noise levels that plans choose from.
#[derive(Clone, Copy)]
pub(super) struct Grids {
    /// Those of the searches' teacher.
    pub search: usize,
    /// Those of GITS's own.
    pub gits: usize,
}

impl Grids {
    fn new(known: &Levels, settings: &SearchSettings) -> Result<Self> {
        let (grid, _) = grid_and_fine(known, &settings.teacher)?;
        Ok(Self { search: grid.len(), gits: gits::levels(known, &settings.gits) })
    }
}

/// Refuses a method that lacks something.
pub(super) fn needs<D: Denoiser>(
    denoiser: &D,
    method: &Method,
    settings: &SearchSettings,
    extras: &Extras<'_, D::Batch>,
) -> Result<()> {
    let (latents, least) = (settings.teacher.samples, method.least_latents());
    if latents < least {
        let rule = if least == 2 { "at least 2 for this method" } else { "at least 4 for this method" };
        return Err(Error::Setting { name: "teacher.samples", rule, value: latents.to_string() });
    }
    if method.source == Source::Bound {
        extras.table.ok_or_else(needs_table)?.check()?;
    }
    if method.matches_data() {
        if denoiser.appearance().is_none() {
            return Err(Error::NoImages);
        }
        extras.data.ok_or_else(needs_moments)?.check(&settings.moments)?;
    }
    if method.nearest {
        Method::others(&settings.nearest).try_for_each(|other| needs(denoiser, &other, settings, extras))?;
    }
    if method.refinement == Some(Refinement::Levels) {
        levels_can_move(&denoiser.spec().levels)?;
    }
    if method.follows_gradients() {
        if denoiser.differentiable().is_none() {
            return Err(Error::NotDifferentiable);
        }
        if settings.rollout.loss == Distance::Features && extras.loss.is_none() {
            return Err(Error::NoFeatures);
        }
    }
    Ok(())
}

/// Refuses to move levels of a denoiser that knows none between its own.
pub(super) fn levels_can_move(levels: &Levels) -> Result<()> {
    if levels.is_discrete() { Err(Error::DiscreteLevels { known: levels.discrete.len() }) } else { Ok(()) }
}

pub(super) fn needs_table() -> Error {
    Error::NeedsData { method: "the method bound".to_owned(), hint: "" }
}

pub(super) fn needs_moments() -> Error {
    Error::NeedsData {
        method: "a method with +data-moments".to_owned(),
        hint: " (+moments takes the teacher's samples)",
    }
}

/// How many noise levels plans of `method` choose from.
fn levels(method: &Method, grids: Grids, table: Option<&BoundTable>) -> usize {
    match (&method.source, table) {
        (Source::Bound, Some(table)) => table.grid().len(),
        (Source::Bound, None) => usize::MAX,
        (Source::Gits(_), _) => grids.gits,
        _ => grids.search,
    }
}

/// Those of `steps` that `method` has plans for.
pub(super) fn possible(
    method: &Method,
    steps: &[usize],
    known: &Levels,
    grids: Grids,
    table: Option<&BoundTable>,
) -> Vec<usize> {
    let served = |nfe: &usize| servable(method, &[*nfe], known, grids, table).is_ok();
    steps.iter().copied().filter(served).collect()
}

/// Refuses numbers of evaluations that `method` has no plan for on a denoiser of these levels, all of them in one sentence: those that
/// are too many, or else those that a schedule by its formula cannot be built for.
pub(super) fn servable(
    method: &Method,
    steps: &[usize],
    known: &Levels,
    grids: Grids,
    table: Option<&BoundTable>,
) -> Result<()> {
    method.check_evaluations(steps)?;
    let no_plan = |nfe: Vec<usize>, why: String| Err(Error::NoPlan { method: method.to_string(), nfe, why });
    let levels = levels(method, grids, table);
    let range = method.range(levels);
    let nfe: Vec<usize> = steps.iter().copied().filter(|nfe| !range.contains(nfe)).collect();
    if nfe.is_empty() {
        let unbuilt = |nfe: usize| Some((nfe, method.by_formula(nfe, known)?.err()?.to_string()));
        let (nfe, why): (Vec<usize>, Vec<String>) = steps.iter().filter_map(|nfe| unbuilt(*nfe)).unzip();
        return why.into_iter().next().map_or(Ok(()), |why| no_plan(nfe, why));
    }
    let (least, most) = range.into_inner();
    let why = match (method.grid_setting(), &method.source) {
        (Some(setting), _) => format!(
            "its levels are of a grid, and {levels} of them allow {most} evaluations at most: raise the setting {setting}"
        ),
        (None, Source::Bound) => format!(
            "its levels are of a table of {levels}, which allows {least} to {most} evaluations: make the table on a grid of more levels"
        ),
        (None, _) => format!("a schedule has {MOST_LEVELS} levels at most, which allow {most} evaluations"),
    };
    no_plan(nfe, why)
}

impl Method {
    /// The plan of `nfe` evaluations that it begins with on a denoiser of these levels, or why there is none; nothing where it begins with
    /// no schedule by a formula.
    fn by_formula(&self, nfe: usize, known: &Levels) -> Option<Result<Plan>> {
        match &self.source {
            Source::Fixed(_, family) => {
                Some(plain::by_formula(family, self.solver.unwrap_or(Solver::Euler), known, nfe))
            }
            _ => None,
        }
    }
}
