//! Why a plan has no form for a tool.

use fewstep_core::schedule::ScheduleError;
use fewstep_core::solver::SolverError;

use super::levels::decimal;
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
    /// Two noise levels of the plan are nearest to the same one of the tool's.
    #[error(
        "{tool} cannot hold this plan: its noise levels {} and {} become one, {}, in the noise table {betas}",
        decimal(levels[0]), decimal(levels[1]), decimal(*became)
    )]
    LevelsBecomeOne {
        /// What messages call the tool.
        tool: String,
        /// The plan's levels.
        levels: [f64; 2],
        /// The tool's.
        became: f64,
        /// The table.
        betas: Betas,
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
