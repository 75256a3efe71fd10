//! Tests against exact oracles: Gaussian and mixture flows known in closed form or to rounding.

mod gauss_newton;
mod objectives;
mod orders;
mod parameterisations;
mod plans;
mod refinement;
mod refit;
mod searches;
mod support;
mod tables;
