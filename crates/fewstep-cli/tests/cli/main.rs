//! The program from outside: what it prints, what it leaves on disk, how it fails.

mod any_denoiser;
mod browser;
mod compare;
mod denoise;
mod diverging;
mod docs;
mod errors;
mod eval;
mod export;
mod fitting;
mod help;
mod import;
mod info;
mod interrupt;
mod killed;
mod mixture;
mod nearest;
mod parameterisations;
mod pictures;
mod processes;
mod programs;
#[cfg(target_os = "linux")]
mod quiet;
mod refusals;
mod repeating;
mod reproduce;
mod sample;
mod support;
mod training;
mod waiting;
