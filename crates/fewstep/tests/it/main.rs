//! Integration tests of the library.

mod forecasts;
mod programs;
mod scores;
mod support;
