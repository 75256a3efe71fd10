//! `oss`: a solver's steps, each level chosen by where the student's own states get to (optimal stepsize
//! distillation, OSS, Pei et al. 2025, "Optimal Stepsize for Diffusion Sampling").

use std::ops::RangeInclusive;

use super::student::{self, Past, Rule, Step, StudentOptions};
use super::teacher::{Nodes, Teacher};
use super::{Outcome, SearchError};
use fewstep_core::plan::{Combination, Source};
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_core::space::VectorSpace;

/// The schedules on which `solver` gets nearest to the teacher, by dynamic programming over its own states: the state
/// kept at level `j` after `k` steps is the one nearest to the teacher's there, and the steps that follow start from
/// it. One pass serves every number of steps. The optimum of the program is that of the rollout error only where
/// the nearest state is also the best to go on from; a beam widens that.
///
/// OSS has Euler's step and one schedule an image, of which its authors take the median over images; this is one
/// schedule for the batch, by its mean squared error, and any solver that evaluates once a step. The plans are those
/// that the solver leaves on the schedules.
///
/// Costs at most `1 + beam (most - 1) (grid - 1)` evaluations. Memory: at most `(2 depth + 1) beam grid` batches
/// beside the teacher, `depth` the number of evaluations that a step of the solver refers to.
///
/// # Errors
/// If the solver evaluates several times a step, or steps differently depending on how many steps follow; if all states
/// reached diverge; and the first error of the denoiser.
pub fn oss<V: VectorSpace, E>(
    teacher: &Teacher<V>,
    solver: Solver,
    options: &StudentOptions,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Outcome, SearchError<E>> {
    let depth = depth(solver, options.last_step).ok_or_else(|| SearchError::Solver { solver: solver.to_string() })?;
    student::search("oss", teacher, options, &SolverRule { solver, depth }, denoise)
}

/// Evaluations of the plans that [`depth`] looks at: more than any step refers to.
const EVALUATIONS: usize = 16;

/// How many evaluations a step refers to, as the solver's own plans say; `None` for solvers that the search cannot step with: those
/// of several evaluations a step, and those whose steps hang on how many follow or on what is too far back.
fn depth(solver: Solver, last_step: LastStep) -> Option<usize> {
    if solver.evaluations_per_step() != 1 {
        return None;
    }
    // steps of different lengths, so that no term cancels
    let levels: Vec<f64> =
        (0..EVALUATIONS + 5).map(|k| 0.6_f64.powi(k as i32) * (1.0 + 0.1 * (k % 3) as f64)).collect();
    // The state at one of them, where so many follow. A step to the last level may be any, but where that level is the end of the
    // search: there a step knows that none follows, and the others that at least one does.
    let state = |following: usize| {
        let schedule = Schedule::new(levels[..=EVALUATIONS + following].to_vec()).ok()?;
        let options = SolverOptions { last_step: LastStep::Stop, analytical_first_step: false };
        let mut plan = solver.plan(&schedule, &options).ok()?;
        Some(if following > 0 { plan.stages.swap_remove(EVALUATIONS).input } else { plan.output })
    };
    let fewest = usize::from(last_step == LastStep::Stop);
    let step = state(fewest)?;
    if (fewest + 1..fewest + 4).any(|following| state(following).as_ref() != Some(&step)) {
        return None;
    }
    let back = |(source, _)| match source {
        Source::Input(k) | Source::Output(k) => EVALUATIONS - k,
        Source::Latent | Source::Constant => usize::MAX,
    };
    let depth = step.terms().map(back).max().filter(|depth| *depth < EVALUATIONS)?;
    // what it does not refer to does not count either
    let short = SolverRule { solver, depth }.terms(&levels[..EVALUATIONS], levels[EVALUATIONS], false)?;
    (short == step).then_some(depth)
}

struct SolverRule {
    solver: Solver,
    depth: usize,
}

impl SolverRule {
    /// The solver's state at `next` (0 for the image) after evaluations at `levels`. It is read off the solver's own
    /// plan, so that there is no second implementation of any step; of the levels, only those that it refers to count.
    fn terms(&self, levels: &[f64], next: f64, is_end: bool) -> Option<Combination> {
        let forgotten = levels.len().saturating_sub(self.depth);
        let levels = &levels[forgotten..];
        let mut all = levels.to_vec();
        let last_step = if next > 0.0 { LastStep::Stop } else { LastStep::ToZero };
        if next > 0.0 {
            all.push(next);
            if !is_end {
                // steps to come, so that the solver does not take this one for its last
                all.extend([next / 2.0, next / 4.0]);
            }
        }
        let options = SolverOptions { last_step, analytical_first_step: false };
        let plan = self.solver.plan(&Schedule::new(all).ok()?, &options).ok()?;
        let state = plan.stages.get(levels.len()).map_or(&plan.output, |stage| &stage.input);
        let shifted = state.terms().map(|(source, c)| match source {
            Source::Latent | Source::Constant => (source, c),
            Source::Input(k) => (Source::Input(k + forgotten), c),
            Source::Output(k) => (Source::Output(k + forgotten), c),
        });
        Some(shifted.collect())
    }
}

impl<V: VectorSpace> Rule<V> for SolverRule {
    fn depth(&self) -> (usize, usize) {
        (self.depth, self.depth)
    }

    fn takes_constant(&self) -> bool {
        false
    }

    fn steps(&self, path: &[usize], past: &Past<V>, nodes: &Nodes<V>, to: RangeInclusive<usize>) -> Vec<Step> {
        let levels: Vec<f64> = path.iter().map(|&j| nodes.sigma(j)).collect();
        let step = |j: usize| match self.terms(&levels, nodes.sigma(j), j == nodes.end()) {
            Some(terms) => {
                let error = past.value(&terms, Some(nodes.state(j))).norm_squared();
                Step { terms, error, distance: error.sqrt(), regularised: false }
            }
            // levels so extreme that a coefficient overflows
            None => Step {
                terms: Combination::default(),
                error: f64::INFINITY,
                distance: f64::INFINITY,
                regularised: false,
            },
        };
        to.map(step).collect()
    }

    fn describe(&self, _: &mut serde_json::Map<String, serde_json::Value>) -> String {
        self.solver.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formulas of order p refer to p outputs, and UniPC's corrector to one more. Lower orders at the end make a step hang on how many
    /// follow, but for those of order 2 where a step knows whether it is the last.
    #[test]
    fn depths_are_those_of_the_formulas() {
        for (name, to_zero, stop) in [
            ("euler", Some(1), Some(1)),
            ("heun", None, None),
            ("dpm2", None, None),
            ("ipndm1", Some(1), Some(1)),
            ("ipndm4", Some(4), Some(4)),
            ("ipndm_v3", Some(3), Some(3)),
            ("dpmpp2m", None, Some(2)),
            ("dpmpp3m", None, None),
            ("dpmpp3m_nolof", Some(3), Some(3)),
            ("unipc2_bh2", None, Some(3)),
            ("unipc3_bh1", None, None),
            ("deis_tab3", Some(3), Some(3)),
            ("deis_rhoab4", Some(4), Some(4)),
        ] {
            let solver: Solver = name.parse().unwrap();
            let found = [LastStep::ToZero, LastStep::Stop].map(|last_step| depth(solver, last_step));
            assert_eq!(found, [to_zero, stop], "{name}");
        }
    }
}
