//! Tests against exact oracles: Gaussian and mixture flows known in closed form or to rounding.

mod finding;
mod gauss_newton;
mod refinement;
mod refit;
mod searches;
mod support;
mod tables;
