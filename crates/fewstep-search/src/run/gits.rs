//! GITS as its authors run it: on a teacher of its own, whose evaluations tell what every single step costs.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use fewstep_core::denoiser::{Denoiser, Levels};
use fewstep_core::observe::Progress;
use fewstep_core::schedule::{Schedule, karras};
use fewstep_core::solver::{LastStep, Solver};
use fewstep_core::space::VectorSpace;

use super::plain::longest;
use super::{Candidates, SEARCH_SEEDS, Search};
use crate::error::{Error, Result};
use crate::seeded::Seeded;
use crate::settings::GitsSettings;
use crate::{FoundPlan, SearchError, StepCosts, Teacher};

/// Latents whose trajectories are in memory at a time, at most: two samples a level of each.
const TOGETHER: usize = 64;

/// The levels that its plans choose from; fewer than the setting where some round to the same.
pub(super) fn grid(levels: &Levels, settings: &GitsSettings) -> Result<Schedule> {
    let (low, high) = levels.sampling;
    Ok(karras(settings.grid, low, high, 7.0)?.round_grid(levels)?)
}

/// How many they are; none where they cannot be, which is an error of GITS alone.
pub(super) fn levels(levels: &Levels, settings: &GitsSettings) -> usize {
    grid(levels, settings).map_or(0, |grid| grid.len())
}

impl<D: Denoiser> Search<'_, D> {
    /// Of each number of evaluations the plan of the coefficient whose rollout error on the search's own latents is least, where there are
    /// several.
    pub(super) fn gits(
        &self,
        solver: Solver,
        settings: &GitsSettings,
        candidates: &mut Candidates,
        steps: &[usize],
    ) -> Result<()> {
        let costs = self.costs(settings, candidates)?;
        let before = self.student.evaluations();
        let mut best: BTreeMap<usize, (f64, FoundPlan)> = BTreeMap::new();
        for &coefficient in &settings.coefficients {
            let found = costs.search(longest(steps), coefficient, solver)?.plans;
            for found in found.into_iter().filter(|found| steps.contains(&found.plan.nfe())) {
                let nfe = found.plan.nfe();
                let known = best.get(&nfe);
                if known.is_some_and(|(_, known)| known.plan.stages == found.plan.stages) && !self.tries_all {
                    continue;
                }
                let error =
                    if settings.coefficients.len() > 1 { self.training_error(&found.plan)? } else { f64::INFINITY };
                if known.is_none_or(|known| error < known.0 || known.0.is_nan()) {
                    best.insert(nfe, (error, found));
                }
            }
        }
        candidates.found = best.into_values().map(|(_, found)| found).collect();
        candidates.evaluations += self.student.evaluations() - before;
        Ok(())
    }

    /// What single steps cost: measured once, whatever solvers and coefficients there are.
    fn costs(&self, settings: &GitsSettings, candidates: &mut Candidates) -> Result<Rc<StepCosts>> {
        let key = GitsSettings { coefficients: Vec::new(), ..settings.clone() };
        if let Some((_, known)) = self.costs.borrow().iter().find(|(known, _)| *known == key) {
            return Ok(Rc::clone(known));
        }
        let denoiser = self.student.denoiser();
        let (grid, solver) = (grid(&denoiser.spec().levels, settings)?, settings.solver_on(&denoiser.spec().levels));
        let total = grid.len() * solver.evaluations_per_step() * settings.samples;
        let mut progress = Progress::new(self.observer, "gits", "evaluations", total as u64, 0);
        let mut whole: Option<StepCosts> = None;
        let together = TOGETHER.min(self.settings.teacher.samples.max(1));
        for start in (0..settings.samples).step_by(together) {
            let seeds: Vec<u64> =
                (start..settings.samples.min(start + together)).map(|seed| SEARCH_SEEDS + seed as u64).collect();
            let seeded = Seeded::new(denoiser, &seeds, self.observer)?;
            let before = candidates.evaluations;
            let told = || progress.set(before + seeded.evaluations(), "");
            let part = seeded.relied_on(costs_of(&seeded, &grid, solver, settings, told))?;
            candidates.evaluations += seeded.evaluations();
            whole = Some(match whole {
                Some(whole) => whole.merged(&part),
                None => part,
            });
        }
        let costs = Rc::new(whole.ok_or(Error::Search(SearchError::NoSamples))?);
        self.costs.borrow_mut().push((key, Rc::clone(&costs)));
        Ok(costs)
    }
}

/// What single steps cost from these latents. A step of Euler's from a level starts with the output that the teacher's own step starts
/// with, so that its evaluations are all that it takes.
fn costs_of<D: Denoiser>(
    seeded: &Seeded<'_, D>,
    grid: &Schedule,
    solver: Solver,
    settings: &GitsSettings,
    mut told: impl FnMut(),
) -> Result<StepCosts> {
    let (mut calls, mut outputs) = (0, VecDeque::with_capacity(grid.len()));
    let denoise = |x: &D::Batch, sigma: f64| {
        let output = seeded.denoised(x, sigma)?;
        if !output.norm_squared().is_finite() {
            return Err(Error::AnswerNotFinite { sigma });
        }
        // every solver evaluates first at the level itself
        if calls % solver.evaluations_per_step() == 0 {
            outputs.push_back((sigma, output.clone()));
        }
        calls += 1;
        told();
        Ok(output)
    };
    let teacher = Teacher::solve(solver, grid, grid, seeded.latents().clone(), seeded.samples(), denoise)?;
    let output = |x: &D::Batch, sigma: f64| match outputs.pop_front() {
        Some((level, output)) if level == sigma => Ok(output),
        _ => seeded.denoised(x, sigma), // of a solver that does not evaluate first at the level
    };
    Ok(StepCosts::of_outputs(&teacher, settings.metric, LastStep::ToZero, output)?)
}
