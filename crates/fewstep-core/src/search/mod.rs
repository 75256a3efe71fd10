//! Searches: how a schedule or a plan is found. What counts as good is the business of [`crate::objective`].

mod paths;
mod table;

pub use paths::{ShortestPath, shortest_paths};
pub use table::{Found, minimise_bound, minimise_discretization};
