//! Tests against exact oracles: Gaussian and mixture flows known in closed form or to rounding.

mod objectives;
mod orders;
mod parameterisations;
mod plans;
mod schedules;
mod support;
