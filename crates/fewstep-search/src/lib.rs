//! Few-step samplers for any denoiser: noise levels and solver coefficients for every budget, from one teacher.
//!
//! [`find_plans`] takes anything that implements [`Denoiser`](fewstep_core::Denoiser) and leaves a plan for every number of network
//! evaluations that is asked for; [`Search`] serves many methods from one teacher. A [`Method`] is a short name for a list of
//! [`Stage`]s, each with [settings](SearchSettings) of its own.
//!
//! ```
//! use fewstep_core::denoiser::{Levels, Oracle};
//! use fewstep_core::{mixture::Mixture, observe::Silent};
//! use fewstep_search::{Method, SearchSettings, Seeded, find_plans};
//!
//! let data = Mixture::gaussian(vec![1.0, -1.0], 0.25)?;
//! let denoiser = Oracle::new(data, vec![2], Levels::between(0.002, 80.0));
//! let method = Method::LEAST_SQUARES;
//! let found = find_plans(&denoiser, &method, &[2, 3], &SearchSettings::default(), &Silent)?;
//! let plan = found.plan(&method, 3)?;
//! assert_eq!(plan.nfe(), 3);
//! let samples = Seeded::new(&denoiser, &[0, 1, 2], &Silent)?.run(plan)?; // of three seeds
//! assert_eq!(samples.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Below are the algorithms, for whoever builds a search of their own. Two kinds: those over tables of forward-noised data
//! ([`minimise_bound`], [`minimise_discretization`]) minimise the objectives of [`fewstep_core::objective`] and never see a sampler;
//! those over a [`Teacher`], a fine solve from the same latents, measure a student against it:
//!
//! - [`StepCosts`] (`gits`): single steps from the teacher's states;
//! - [`oss()`] (`oss`): a solver's steps from the student's own states;
//! - [`least_squares`]: fitted steps from the student's own states, schedule and solver together; [`least_squares_along`] moves
//!   the levels that it chose;
//! - [`gauss_newton`] moves the levels and coefficients of any plan together, from evaluations alone; [`refine`](refine()) moves
//!   them down the gradient of its rollout error; [`refit_output`] fits the last combination to a distance between sets of
//!   samples.
//!
//! A plan is run by [`sample`] or [`Seeded::run`], and scored on latents that no search saw by [`HeldOut`] or, from parts, by
//! [`Endpoints::rollout_error`]. [`export`] writes plans in the forms that other
//! tools take. Everything here builds without a tensor library.

mod clipping;
mod cost;
#[cfg(test)]
mod counted;
pub mod documented;
mod error;
pub mod export;
mod gain;
mod gaussian;
mod gits;
mod held_out;
mod least_squares;
mod match_variance;
mod method;
mod normal;
mod oss;
mod outcome;
mod paths;
pub mod random_features;
mod refine;
mod ridge;
mod rollout;
mod run;
mod seeded;
pub mod settings;
mod student;
pub mod suggest;
mod table;
mod teacher;

pub use gits::{CostMetric, StepCosts};
use least_squares::least_squares_swept;
pub use least_squares::{Fit, least_squares, least_squares_along, least_squares_in};
pub use oss::oss;
pub use outcome::{FoundPlan, Outcome, SearchError};
pub use paths::{ShortestPath, shortest_paths};
pub use refine::{
    GaussNewtonOptions, Moving, RefineError, RefineOptions, Refined, Refiner, RefitOptions, Refitted, Solved,
    gauss_newton, gauss_newton_in, refine, refit_output,
};
pub use rollout::{
    PlanGradient, pseudo_huber, pseudo_huber_constant, rollout_gradient, squared_error, states_gradient,
};
pub use student::{StudentOptions, sweep_evaluations};
pub use table::{TableSchedule, minimise_bound, minimise_discretization};
pub use teacher::{Endpoints, MeanPrediction, Teacher, refined};

pub use clipping::ClippingHistogram;
pub use cost::{SearchCost, search_cost, search_costs};
pub use documented::Documented;
pub use error::{Error, Result};
pub use gaussian::{FeatureMoments, Gaussian, GaussianError, mean_shift};
pub use held_out::HeldOut;
pub use method::{Method, MethodError, MomentsOf, Refinement, SCHEDULES, Source, Stage, parse_solver};
pub use run::{
    DataMoments, Extras, Found, HELD_OUT_SEEDS, MOST_TRAINING_SAMPLES, PlanScorer, SEARCH_REVISION, SEARCH_SEEDS,
    SampleLoss, Search, TEACHER_STEPS, baseline, check_method, check_steps, find_plans, fine_levels, held_out_teacher,
    search_seeds, solve_teacher, teacher_key, usual_teacher,
};
pub use seeded::{Seeded, sample};
pub use settings::SearchSettings;
