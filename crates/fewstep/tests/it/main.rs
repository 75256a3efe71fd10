//! Integration tests of the library.

mod forecasts;
mod numbers;
mod programs;
mod resumed;
mod scores;
mod support;
mod temporary;
