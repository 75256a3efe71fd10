//! The subcommands, one file each: arguments, and what they do.

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

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::ui::Output;

/// Runs what was asked for.
pub fn run(cli: Cli) -> Result<()> {
    let output = Output::new(cli.json);
    match cli.command {
        Command::Demo(args) => demo::run(args, output),
        Command::Fit(args) => fit::run(args, output),
        Command::Compare(args) => compare::run(args, output),
        Command::Export(args) => export::run(args, output),
        Command::Sample(args) => sample::run(args, output),
        Command::Eval(args) => eval::run(args, output),
        Command::Data(args) => data::run(args, output),
        Command::Train(args) => train::run(args, output),
        Command::Import(args) => import::run(args, output),
        Command::Denoise(args) => denoise::run(args, output),
        Command::Info(args) => info::run(args, output),
        Command::Ref(args) => reference::run(args, output),
        Command::Features(args) => features::run(args, output),
        Command::Reproduce(args) => reproduce::run(args, output),
        Command::Report(args) => report::run(args, output),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args, output),
    }
}
