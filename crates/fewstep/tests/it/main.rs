//! Integration tests of the library.

mod programs;
mod scores;
mod support;
