//! Sources of plans that need no fit: schedules by formula, OSS, and the paper's bound.

use fewstep_core::denoiser::{Denoiser, Levels};
use fewstep_core::observe::Progress;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Family;
use fewstep_core::solver::Solver;

use super::check::needs_table;
use super::{Candidates, Search, on_schedule};
use crate::error::{Error, Result};
use crate::settings::OssSettings;
use crate::{FoundPlan, SearchError, StudentOptions, minimise_bound, oss};

/// A plan that no search over the grid found.
fn alone(plan: Plan) -> FoundPlan {
    FoundPlan { plan, path: Vec::new(), error: f64::NAN }
}

/// The plan of a solver on `nfe` evaluations' worth of a family's levels, rounded to those that a denoiser knows.
///
/// # Errors
/// If there are not so many levels, or the solver leaves no plan on them.
pub(super) fn by_formula(family: &Family, solver: Solver, known: &Levels, nfe: usize) -> Result<Plan> {
    let (low, high) = known.sampling;
    // a solver of e evaluations a step makes e (n - 1) + 1 of them
    let count = nfe.div_ceil(solver.evaluations_per_step());
    on_schedule(solver, &family.on(known).build(count, low, high)?.round(known)?)
}

pub(super) fn longest(steps: &[usize]) -> usize {
    steps.iter().copied().max().unwrap_or(0)
}

impl<D: Denoiser> Search<'_, D> {
    /// One plan for each number of evaluations that the solver can make.
    pub(super) fn schedule(
        &self,
        family: &Family,
        solver: Solver,
        candidates: &mut Candidates,
        steps: &[usize],
    ) -> Result<()> {
        let known = &self.student.denoiser().spec().levels;
        for nfe in steps {
            candidates.found.push(alone(by_formula(family, solver, known, *nfe)?));
        }
        Ok(())
    }

    /// For solvers that the search cannot step with, Euler's schedules serve, as they do in OSS. Every state is gone on from,
    /// as there: to drop the idle ones can cost a fixed solver its best plan.
    pub(super) fn oss(
        &self,
        solver: Solver,
        settings: &OssSettings,
        candidates: &mut Candidates,
        steps: &[usize],
    ) -> Result<()> {
        let before = self.student.evaluations();
        let options = StudentOptions {
            most: longest(steps),
            beam: settings.beam,
            gain: f64::NEG_INFINITY,
            ..StudentOptions::default()
        };
        let most = options.most_evaluations(self.teacher.grid().len(), false);
        let total = most.saturating_mul(self.settings.teacher.samples);
        let mut progress = Progress::new(self.observer, "oss", "evaluations (at most)", total as u64, 0);
        let mut denoise = |x: &D::Batch, sigma: f64| {
            let outputs = self.student.denoised(x, sigma)?;
            progress.set(self.student.evaluations() - before, "");
            Ok::<_, Error>(outputs)
        };
        candidates.found = match oss(&self.teacher, solver, &options, &mut denoise) {
            Ok(outcome) => outcome.plans,
            Err(SearchError::Solver { .. }) => {
                let found = oss(&self.teacher, Solver::Euler, &options, &mut denoise)?.plans;
                let on = |found: FoundPlan| -> Result<FoundPlan> {
                    let FoundPlan { plan, path, error } = found;
                    let Some(schedule) = &plan.schedule else { return Ok(FoundPlan { plan, path, error }) };
                    let mut solved = on_schedule(solver, schedule)?;
                    solved.metadata = plan.metadata;
                    solved.metadata.found_by.insert("searched_with".into(), "euler".into());
                    Ok(FoundPlan { plan: solved, path, error })
                };
                found.into_iter().map(on).collect::<Result<_>>()?
            }
            Err(error) => return Err(error.into()),
        };
        candidates.evaluations += self.student.evaluations() - before;
        Ok(())
    }

    /// The paper's Eq. 12 over the table that was given.
    ///
    /// # Errors
    /// If there is none, or it is not finite.
    pub(super) fn bound(&self, solver: Solver, candidates: &mut Candidates, steps: &[usize]) -> Result<()> {
        let table = self.extras.table.ok_or_else(needs_table)?;
        table.check()?;
        for found in minimise_bound(table, longest(steps)) {
            candidates.found.push(alone(on_schedule(solver, &found.schedule)?));
        }
        Ok(())
    }
}
