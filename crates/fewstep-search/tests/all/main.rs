//! Tests against exact oracles: Gaussian and mixture flows known in closed form or to rounding.

mod costs;
mod doubts;
mod dressed;
mod finding;
mod flows;
mod gauss_newton;
#[path = "../../../fewstep-core/tests/all/parameterisations.rs"]
mod parameterisations;
mod refinement;
mod refit;
mod refusals;
mod rounding;
mod searches;
mod spread;
mod support;
mod tables;
