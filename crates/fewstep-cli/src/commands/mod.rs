//! The subcommands, one file each: arguments, and what they do.

pub mod compare;
// pub mod data;
// pub mod demo;
// pub mod denoise;
// pub mod eval;
// pub mod export;
// pub mod features;
// pub mod fit;
// pub mod import;
// pub mod info;
// pub mod reference;
// pub mod report;
// pub mod reproduce;
// pub mod sample;
pub mod shell;
// pub mod train;
