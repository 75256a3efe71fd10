//! A tuned network under plans that it was not tuned for: those of the other numbers of evaluations, or where there are none a plan of
//! another solver with twice as many.

use fewstep_core::denoiser::Levels;
use fewstep_core::plan::Plan;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_nn::TorchDenoiser;
use fewstep_search::baseline;

use super::Fitter;
use super::outcome::CrossPlan;
use crate::error::Result;
use crate::forecast::{product, total};

/// A plan that a network was not tuned for.
pub(super) struct Other {
    plan: Plan,
    /// What kind of plan it is, where the fit did not find it.
    solver: Option<String>,
}

/// The plans that the network tuned for the plan at `index` is tried under; a network of discrete levels may not know enough for any.
///
/// # Errors
/// If the solver takes no such levels.
pub(super) fn others(levels: &Levels, plans: &[Plan], index: usize) -> Result<Vec<Other>> {
    if let [plan] = plans {
        let solver = Solver::DpmPp { order: 3, lower_order_final: true };
        let Ok(levels) = baseline(levels, 2 * plan.nfe()) else { return Ok(Vec::new()) };
        let plan = solver.plan(&levels, &SolverOptions::default())?;
        return Ok(vec![Other { plan, solver: Some(format!("{solver} on rho = 7")) }]);
    }
    let others = plans.iter().enumerate().filter(|(other, _)| *other != index);
    Ok(others.map(|(_, plan)| Other { plan: plan.clone(), solver: None }).collect())
}

/// The rollout errors of the untuned and of the tuned network under such a plan.
///
/// # Errors
/// If a network fails.
pub(super) fn cross_plan(fitter: &Fitter, tuned: &dyn TorchDenoiser, other: &Other) -> Result<CrossPlan> {
    let Other { plan, solver } = other;
    let [untuned, tuned] = [fitter.base, tuned].map(|network| fitter.rollout_error(network, plan));
    Ok(CrossPlan { steps: plan.nfe(), solver: solver.clone(), untuned: untuned?, tuned: tuned? })
}

/// Evaluations that it takes to try every network under its others, at most.
pub(super) fn cross_plan_evaluations(steps: &[usize], held_out: usize) -> u64 {
    let all = total(steps.iter().map(|&steps| steps as u64));
    let others = if steps.len() == 1 { 2 } else { steps.len().saturating_sub(1) as u64 };
    product([2, held_out as u64, others, all])
}
