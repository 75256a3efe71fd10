//! Solvers of the probability-flow ODE `dx/dsigma = (x - D(x; sigma)) / sigma` (Eq. 6), each in a file of its own.
//!
//! A solver is ordinary code, written like its paper, that runs once over symbolic expressions and leaves a
//! [`Plan`]. [`Solver`] is the registry: names, declared orders, and [`Solver::plan`].

mod ablation;
mod deis;
mod dpm_solver_2;
mod dpmpp;
mod euler;
mod heun;
mod ipndm;
mod lagrange;
mod march;
mod phi;
mod registry;
mod unipc;

pub use ablation::{OneStep, along_path};
pub use deis::Basis;
pub use registry::Solver;
pub use unipc::Variant;

use crate::plan::{Plan, PlanError};
use crate::schedule::Schedule;

/// What every solver can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SolverOptions {
    /// What happens at the last level of the schedule.
    pub last_step: LastStep,
    /// Replace the first evaluation, where the noise drowns the image, by the slope `x / sqrt(1 + sigma^2)` of unit
    /// normal data (Dockhorn et al. 2022, GENIE; diff-sampler's `afs`). Saves one evaluation.
    pub analytical_first_step: bool,
}

/// What happens at the last noise level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastStep {
    /// A last first-order step to zero noise: the image is `D(x; sigma_min)` (EDM; diff-sampler's `denoise_to_zero`).
    /// `N` levels cost a first-order solver `N` evaluations.
    #[default]
    ToZero,
    /// The image is the state at the last level, which is not evaluated (diff-sampler). `N` levels cost `N - 1`.
    Stop,
}

/// Why a solver leaves no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SolverError {
    /// Options that leave nothing to evaluate, or no first step to replace.
    #[error(
        "{levels} noise levels are too few for these options: stopping at the last level takes one more level than \
         evaluations, and an analytical first step takes at least 2 levels"
    )]
    TooFewLevels {
        /// Levels given.
        levels: usize,
    },
    /// No solver of that name.
    #[error("there is no solver named \"{name}\"; the solvers are {}", known())]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// Levels so extreme that a coefficient overflowed.
    #[error("the noise levels are too extreme for this solver: {0}")]
    Plan(#[from] PlanError),
}

fn known() -> String {
    Solver::all().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Names a finished tape after its solver and checks it.
fn finished(plan: Plan, solver: &Solver, schedule: &Schedule) -> Result<Plan, SolverError> {
    let plan = plan.named(solver.to_string(), Some(schedule.clone()));
    plan.validate()?;
    Ok(plan)
}
