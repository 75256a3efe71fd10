//! Why a name means no method, or a method has no plan.

use fewstep_core::solver::SolverError;

/// A name that means no method.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MethodError {
    /// Unknown, with a known name nearby.
    #[error("there is no {what} named '{name}'; did you mean '{near}'?")]
    DidYouMean {
        /// A method or a solver.
        what: &'static str,
        /// As it was given.
        name: String,
        /// The nearest known name.
        near: String,
    },
    /// Unknown.
    #[error(
        "there is no method '{0}'; write SOURCE/SOLVER, such as karras/ipndm4, gits/euler (gits@1.15/euler with a coefficient of \
         your own), oss/euler or bound/euler, or least-squares, and +gauss-newton, +rollout or +levels after any of them to refine what \
         it finds, and +moments, +data-moments or +data-moments+nearest at the end"
    )]
    Unknown(String),
    /// An unknown solver.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// A coefficient that is no number.
    #[error("'{coefficient}' in {method} is no finite number above 0")]
    Coefficient {
        /// As it was given.
        coefficient: String,
        /// Where.
        method: String,
    },
    /// A coefficient where none belongs.
    #[error("'{source_name}' in {method} takes no coefficient")]
    NoCoefficient {
        /// The part of the name.
        source_name: String,
        /// The whole.
        method: String,
    },
    /// A solver where none belongs.
    #[error("least-squares fits a solver of its own: write it without '/'")]
    OwnSolver,
    /// Levels of a solver that there is none of.
    #[error(
        "least-squares fits coefficients, which have no formula to follow levels by: write +rollout or +gauss-newton, not +levels"
    )]
    NoFormula,
    /// A choice by training data of plans that do not match them.
    #[error("+nearest follows +data-moments, and {0} does not: write ...+data-moments+nearest")]
    NotOfData(String),
    /// A number of evaluations that the solver cannot make.
    #[error("{method}: {solver} makes {}, and the steps ask for {nfe}", numbers(*per_step))]
    Evaluations {
        /// The method.
        method: String,
        /// The solver.
        solver: String,
        /// Evaluations that it takes a step.
        per_step: usize,
        /// The number.
        nfe: usize,
    },
    /// No evaluation at all.
    #[error("{method} has no plan of 0 evaluations: a sample takes at least 1")]
    NoEvaluations {
        /// The method.
        method: String,
    },
}

/// The numbers of evaluations of a solver that takes so many a step.
fn numbers(per_step: usize) -> String {
    match per_step {
        2 => "odd numbers of evaluations".to_owned(),
        _ => format!("1, {}, {}, ... evaluations", per_step + 1, 2 * per_step + 1),
    }
}
