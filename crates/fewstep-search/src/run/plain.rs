//! Sources of plans that need no fit: schedules by formula, GITS, OSS, and the paper's bound.

use std::rc::Rc;

use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::Progress;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Family;
use fewstep_core::solver::{LastStep, Solver};

use super::check::needs_table;
use super::{Candidates, Search, on_schedule};
use crate::error::{Error, Result};
use crate::settings::{GitsSettings, OssSettings};
use crate::{FoundPlan, SearchError, StepCosts, StudentOptions, minimise_bound, oss};

/// A plan that no search over the grid found.
fn alone(plan: Plan) -> FoundPlan {
    FoundPlan { plan, path: Vec::new(), error: f64::NAN }
}

fn longest(steps: &[usize]) -> usize {
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
        let levels = &self.student.denoiser().spec().levels;
        let (low, high) = levels.sampling;
        for nfe in steps {
            // a solver of e evaluations a step makes e (n - 1) + 1 of them
            let count = nfe.div_ceil(solver.evaluations_per_step());
            candidates
                .found
                .push(alone(on_schedule(solver, &family.on(levels).build(count, low, high)?.round(levels)?)?));
        }
        Ok(())
    }

    fn costs(&self, settings: &GitsSettings) -> Result<Rc<StepCosts>> {
        if let Some((_, known)) = self.costs.borrow().iter().find(|(metric, _)| *metric == settings.metric) {
            return Ok(Rc::clone(known));
        }
        let denoise = |x: &D::Batch, sigma: f64| self.student.denoised(x, sigma);
        let costs = Rc::new(StepCosts::measure(&self.teacher, settings.metric, LastStep::ToZero, denoise)?);
        self.costs.borrow_mut().push((settings.metric, Rc::clone(&costs)));
        Ok(costs)
    }

    /// The plans of the coefficient whose rollout error on the search's own latents is least, where there are several.
    pub(super) fn gits(
        &self,
        solver: Solver,
        settings: &GitsSettings,
        candidates: &mut Candidates,
        steps: &[usize],
    ) -> Result<()> {
        let before = self.student.evaluations();
        let costs = self.costs(settings)?;
        let most = longest(steps);
        if let [coefficient] = settings.coefficients[..] {
            candidates.found = costs.search(most, coefficient, solver)?.plans;
        } else {
            let mut best: Vec<(f64, FoundPlan)> = Vec::new();
            for &coefficient in &settings.coefficients {
                for (n, found) in costs.search(most, coefficient, solver)?.plans.into_iter().enumerate() {
                    if best.get(n).is_some_and(|(_, known)| known.plan.stages == found.plan.stages) {
                        continue;
                    }
                    let error = self.training_error(&found.plan)?;
                    match best.get_mut(n) {
                        None => best.push((error, found)),
                        Some(kept) if error < kept.0 => *kept = (error, found),
                        Some(_) => {}
                    }
                }
            }
            candidates.found = best.into_iter().map(|(_, found)| found).collect();
        }
        candidates.evaluations += self.student.evaluations() - before;
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
