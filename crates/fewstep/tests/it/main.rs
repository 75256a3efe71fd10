//! Integration tests of the library.

mod programs;
mod support;
