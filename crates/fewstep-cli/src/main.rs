//! The command line of fewstep: arguments in, calls of the library, progress and tables out.

// Doc comments of arguments are help texts, and their `[default: ...]` are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod cli;
mod commands;
mod inputs;
mod interrupt;
mod repeat;
mod terminal;
mod ui;
mod waiting;

use std::process::ExitCode;

use clap::CommandFactory;
use fewstep_nn::kernels;

fn main() -> ExitCode {
    ui::report_panics_in_a_sentence();
    kernels::keep_freed_memory();
    let done = interrupt::install().and_then(|()| repeat::arguments(&cli::Cli::command())).and_then(run);
    match done {
        Ok(code) => code,
        Err(error) => match ended_as_asked(&error) {
            Some(how) => {
                ui::note(how);
                ExitCode::from(interrupt::EXIT_CODE)
            }
            None => {
                ui::error(&error);
                ExitCode::FAILURE
            }
        },
    }
}

fn run(args: Vec<std::ffi::OsString>) -> anyhow::Result<ExitCode> {
    match cli::Cli::read(args) {
        Ok(cli) => cli.run().map(|()| ExitCode::SUCCESS),
        // help and version are no errors, and go to stdout
        Err(asked) if !asked.use_stderr() => {
            let text = asked.render();
            let text = if ui::colour_on_stdout() { text.ansi().to_string() } else { text.to_string() };
            ui::print(text.as_bytes()).map(|()| ExitCode::SUCCESS)
        }
        Err(wrong) => wrong.exit(),
    }
}

/// What there is to say where work ended because a signal asked for it, which is no failure.
fn ended_as_asked(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(stopped @ fewstep::Error::Stopped { .. }), _) => Some(stopped.to_string()),
        (_, Some(cancelled @ fewstep::search::Error::Cancelled)) => Some(cancelled.to_string()),
        _ => None,
    })
}
