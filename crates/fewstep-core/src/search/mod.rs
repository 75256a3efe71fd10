//! Searches: how a schedule or a plan is found.
//!
//! Two kinds. Those over tables of forward-noised data ([`minimise_bound`], [`minimise_discretization`]) minimise the
//! objectives of [`crate::objective`] and never see a sampler. Those over a [`Teacher`], a fine solve from the same
//! latents, measure a student against it and leave plans for every number of steps in one pass:
//!
//! - [`StepCosts`] (`local`, GITS): single steps from the teacher's states;
//! - [`reachable`] (OSS): a solver's steps from the student's own states;
//! - [`least_squares`]: fitted steps from the student's own states, schedule and solver together; [`least_squares_along`] moves
//!   the levels that it chose.
//!
//! [`gauss_newton`] then moves the levels and coefficients of any plan together, from evaluations alone; [`refine`] moves
//! them down the gradient of its rollout error; [`refit_output`] fits the last combination to a distance between sets of
//! images. A plan is scored on latents that no search saw by
//! [`Endpoints::rollout_error`].

mod calibration;
mod least_squares;
mod local;
mod normal;
mod outcome;
mod paths;
mod reachable;
mod refine;
mod ridge;
mod rollout;
mod student;
mod table;
mod teacher;

pub use least_squares::{Fit, least_squares, least_squares_along, least_squares_seen};
pub use local::{CostMetric, StepCosts};
pub use outcome::{FoundPlan, Outcome, SearchError};
pub use paths::{ShortestPath, shortest_paths};
pub use reachable::reachable;
pub use refine::{
    GaussNewtonOptions, Moving, RefineError, RefineOptions, Refined, Refiner, RefitOptions, Refitted, Solved,
    gauss_newton, gauss_newton_seen, refine, refit_output,
};
pub use rollout::{
    DifferentiableDenoiser, PlanGradient, pseudo_huber, pseudo_huber_constant, rollout_gradient, squared_error,
    states_gradient,
};
pub use student::StudentOptions;
pub use table::{Found, minimise_bound, minimise_discretization};
pub use teacher::{Endpoints, Held, Teacher, refined};
