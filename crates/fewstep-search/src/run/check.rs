//! What can be known to fail before a search begins.

use fewstep_core::denoiser::{Denoiser, Levels};
use fewstep_core::schedule::MOST_LEVELS;

use super::teach::grid_and_fine;
use super::{Extras, gits};
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
    let levels = &denoiser.spec().levels;
    let (grid, _) = grid_and_fine(levels, &settings.teacher)?;
    let grids = Grids { search: grid.len(), gits: gits::levels(levels, &settings.gits) };
    needs(denoiser, method, settings, extras)?;
    servable(method, steps, grids, extras)
}

/// Noise levels that plans choose from.
#[derive(Clone, Copy)]
pub(super) struct Grids {
    /// Those of the searches' teacher.
    pub search: usize,
    /// Those of GITS's own.
    pub gits: usize,
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

/// Noise levels that plans of `method` choose from.
fn levels<B>(method: &Method, grids: Grids, extras: &Extras<'_, B>) -> usize {
    match (&method.source, extras.table) {
        (Source::Bound, Some(table)) => table.grid().len(),
        (Source::Bound, None) => usize::MAX,
        (Source::Gits(_), _) => grids.gits,
        _ => grids.search,
    }
}

/// Those of `steps` that `method` has plans for.
pub(super) fn possible<B>(method: &Method, steps: &[usize], grids: Grids, extras: &Extras<'_, B>) -> Vec<usize> {
    let range = method.range(levels(method, grids, extras));
    method.possible(steps).into_iter().filter(|nfe| range.contains(nfe)).collect()
}

/// Refuses numbers of evaluations that `method` has no plan for, all of them in one sentence.
pub(super) fn servable<B>(method: &Method, steps: &[usize], grids: Grids, extras: &Extras<'_, B>) -> Result<()> {
    method.check_evaluations(steps)?;
    let levels = levels(method, grids, extras);
    let range = method.range(levels);
    let nfe: Vec<usize> = steps.iter().copied().filter(|nfe| !range.contains(nfe)).collect();
    if nfe.is_empty() {
        return Ok(());
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
    Err(Error::NoPlan { method: method.to_string(), nfe, why })
}
