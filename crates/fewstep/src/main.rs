//! fewstep turns a pretrained diffusion model into the best few-step sampler for it.

// Doc comments of arguments are help texts, and their `[default: ...]` are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod assets;
mod cli;
mod commands;
mod figures;
mod fitting;
mod forecast;
mod gallery;
mod inputs;
mod interrupt;
mod measure;
mod pixels;
mod provenance;
mod runs;
mod searching;
mod studio;
mod suggest;
mod terminal;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ui::report_panics_in_a_sentence();
    let done = runs::arguments().map(cli::Cli::parse_from).and_then(commands::run);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}
