//! Searches over a teacher: against brute force and their own definitions, and against each other.

mod along;
mod claim;
mod constant;
mod gits;
mod least_squares;
mod oss;
mod robustness;
mod teacher;

use fewstep_core::mixture::Mixture;
use fewstep_core::schedule::karras;
use fewstep_core::{LastStep, Plan, Schedule, Solver, SolverOptions};
use fewstep_search::{Endpoints, Outcome, Teacher, refined};

use crate::support::{denoiser, latents};

pub const LAST_STEPS: [LastStep; 2] = [LastStep::ToZero, LastStep::Stop];
pub const LEVELS: usize = 7;

pub fn grid() -> Schedule {
    karras(LEVELS, 0.05, 20.0, 5.0).unwrap()
}

pub fn teacher(data: &Mixture, grid: &Schedule, first: u64, count: u64) -> Teacher<Vec<f64>> {
    let latent = latents(data, first, count);
    Teacher::solve(Solver::Heun, &refined(grid, 3).unwrap(), grid, latent, count as usize, denoiser(data)).unwrap()
}

/// All rising paths of `steps` levels from the first, out of the levels that may be evaluated.
pub fn paths(steps: usize, last_step: LastStep) -> Vec<Vec<usize>> {
    let free = LEVELS - 1 - usize::from(last_step == LastStep::Stop);
    let masks = (0_u32..1 << free).filter(|mask| mask.count_ones() as usize == steps - 1);
    masks.map(|mask| [0].into_iter().chain((1..=free).filter(|j| mask >> (j - 1) & 1 == 1)).collect()).collect()
}

pub fn schedule(path: &[usize], last_step: LastStep) -> Schedule {
    let end = (last_step == LastStep::Stop).then_some(LEVELS - 1);
    Schedule::new(path.iter().copied().chain(end).map(|j| grid().levels()[j]).collect()).unwrap()
}

pub fn options(last_step: LastStep) -> SolverOptions {
    SolverOptions { last_step, analytical_first_step: false }
}

/// What any plan of a search promises.
pub fn check(outcome: &Outcome, last_step: LastStep, calls: usize) {
    assert_eq!(outcome.evaluations, calls);
    for (n, found) in outcome.plans.iter().enumerate() {
        found.plan.validate().unwrap();
        assert_eq!((found.plan.nfe(), found.path.len()), (n + 1, n + 1));
        assert_eq!(found.plan.schedule.as_ref().unwrap(), &schedule(&found.path, last_step));
        assert_eq!(Plan::from_json(&found.plan.to_json().unwrap()).unwrap(), found.plan);
        assert_eq!(found.plan.metadata.found_by["evaluations"], calls);
    }
}

/// The error per sample of a solver on a path, at the end of the search.
pub fn path_error(data: &Mixture, teacher: &Teacher<Vec<f64>>, plan: &Plan, last_step: LastStep) -> f64 {
    let target = match last_step {
        LastStep::ToZero => teacher.ends().image.clone(),
        LastStep::Stop => teacher.states()[LEVELS - 1].clone(),
    };
    let ends = Endpoints { image: target, ..teacher.ends().clone() };
    ends.rollout_error(plan, denoiser(data)).unwrap()
}
