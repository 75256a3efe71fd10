//! fewstep turns a pretrained diffusion model into the best few-step sampler for it.

// Doc comments of arguments are help texts, and their `[default: ...]` are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod assets;
mod cli;
mod commands;
mod figures;
mod fitting;
mod inputs;
mod interrupt;
mod measure;
mod pixels;
mod provenance;
mod searching;
mod studio;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ui::report_panics_in_a_sentence();
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}
