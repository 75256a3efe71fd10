//! The subcommands, one file or folder each: arguments, calls of the library, what is printed.

pub mod compare;
pub mod data;
pub mod demo;
pub mod denoise;
pub mod eval;
pub mod export;
pub mod features;
pub mod fit;
pub mod import;
pub mod info;
pub mod reference;
pub mod report;
pub mod reproduce;
pub mod sample;
pub mod shell;
pub mod train;
