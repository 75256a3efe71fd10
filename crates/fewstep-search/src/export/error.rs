//! Why a plan has no form for a tool.

use fewstep_core::schedule::ScheduleError;
use fewstep_core::solver::SolverError;

use super::levels::{decimal, decimals};
use super::noise_table::Betas;

/// Shorthand for the results of exports.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a plan has no form for a tool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool does something else than the plan does, whatever it is told.
    #[error("{tool} cannot express this plan: {reason}")]
    CannotExpress {
        /// What messages call the tool.
        tool: String,
        /// What it lacks.
        reason: String,
    },
    /// The tool runs networks of another kind.
    #[error("{tool} cannot run this plan: {reason}")]
    OtherNetwork {
        /// What messages call the tool.
        tool: String,
        /// What network the plan is for, and where it can go.
        reason: String,
    },
    /// The tool fails at this plan and at all that is near it.
    #[error("{tool} has nothing near this plan: {reason}")]
    NothingNear {
        /// What messages call the tool.
        tool: String,
        /// What it lacks.
        reason: String,
    },
    /// Two noise levels of the plan are nearest to the same one of the tool's.
    #[error(
        "{tool} cannot hold this plan: its noise levels {} become one, {}{}",
        decimals(levels).join(" and "), decimal(*became),
        betas.as_ref().map(|betas| format!(", in the noise table {betas}")).unwrap_or_default()
    )]
    LevelsBecomeOne {
        /// What messages call the tool.
        tool: String,
        /// The plan's levels.
        levels: [f64; 2],
        /// What both are to the tool.
        became: f64,
        /// The table that it has them from, if it has one.
        betas: Option<Betas>,
    },
    /// A table with a column for every evaluation, of too many of them.
    #[error(
        "a table has a column for every evaluation and is made for {most} at most, and the plan has {evaluations}: \
         export it as json, which has every coefficient"
    )]
    TooWide {
        /// Evaluations of the plan.
        evaluations: usize,
        /// Evaluations of a table, at most.
        most: usize,
    },
    /// A time shift that is none.
    #[error("a time shift must be a finite number above 0, not {0}")]
    Shift(f64),
    /// The levels that the tool would have are no schedule.
    #[error("the plan's noise levels do not fall: {0}")]
    Schedule(#[from] ScheduleError),
    /// The tool's solver makes no plan of these levels.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// The plan cannot be written.
    #[error("the plan cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}
