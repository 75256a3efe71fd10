//! The subcommands, one file each: arguments, and what they do.

pub mod shell;
pub mod train;
