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
mod waiting;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use fewstep_nn::kernels;

fn main() -> ExitCode {
    ui::report_panics_in_a_sentence();
    kernels::keep_freed_memory();
    let done = runs::arguments(&cli::Cli::command()).and_then(|args| match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli.run().map(|()| ExitCode::SUCCESS),
        // help and version are no errors, and go to stdout
        Err(asked) if !asked.use_stderr() => {
            let text = asked.render();
            let text = if ui::colour_on_stdout() { text.ansi().to_string() } else { text.to_string() };
            ui::print(text.as_bytes()).map(|()| ExitCode::SUCCESS)
        }
        Err(wrong) => wrong.exit(),
    });
    match done {
        Ok(code) => code,
        Err(stop) if stop.is::<interrupt::Stopped>() => {
            ui::note(stop.to_string());
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}
