//! The command line of fewstep: arguments in, calls of the library, progress and tables out.

// Doc comments of arguments are help texts, and their `[default: ...]` are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod cli;
mod commands;
mod inputs;
mod interrupt;
mod ranks;
mod repeat;
mod terminal;
mod ui;
mod waiting;

use clap::CommandFactory;
use fewstep_nn::kernels;

fn main() {
    ui::report_panics_in_a_sentence();
    kernels::keep_freed_memory();
    ranks::end_with_parent();
    let done = std::panic::catch_unwind(|| interrupt::install().and_then(|()| run()));
    end(match done {
        Ok(done) => done.unwrap_or_else(|error| failed(&error)),
        Err(_) => {
            ranks::fail("it came to a bug, or to want of memory: its own message says more", PANICKED);
            PANICKED
        }
    })
}

/// Exit code of a process that panicked, as Rust has it.
const PANICKED: u8 = 101;

/// Says why the program fails, to whoever started it and to the processes that share its work; the exit code.
fn failed(error: &anyhow::Error) -> u8 {
    if let Some(how) = ended_as_asked(error) {
        ui::note(&how);
        ranks::fail(&how, interrupt::EXIT_CODE);
        return interrupt::EXIT_CODE;
    }
    if let Some((reason, code)) = of_another(error) {
        ranks::fail(&reason, code.unwrap_or(1)); // others may still have to hear of it
        // that one has said it on a stderr of its own; here it is said where people look
        if code == Some(interrupt::EXIT_CODE) {
            ui::note(reason)
        } else {
            ui::error_of_another(&reason)
        }
        return code.unwrap_or(1);
    }
    let text = ui::sentence(error);
    ui::error(&text);
    ranks::fail(&text, 1);
    1
}

/// The failure of another process of the same run, with its exit code.
fn of_another(error: &anyhow::Error) -> Option<(String, Option<u8>)> {
    use fewstep_nn::Error::Process;
    error.chain().find_map(|cause| match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(Process { reason, code }), _) => Some((reason.clone(), *code)),
        (_, Some(fewstep::Error::Network(Process { reason, code }))) => Some((reason.clone(), *code)),
        _ => None,
    })
}

/// Ends at once. libtorch would take its tables of operators apart first, which takes a third of the time of a short command, for memory
/// that the system takes back anyway; all that is ours is written and dropped.
#[cfg(unix)]
#[allow(unsafe_code)] // listed in ARCHITECTURE.md
fn end(code: u8) -> ! {
    unsafe extern "C" {
        safe fn _exit(code: std::ffi::c_int) -> !;
    }
    let _ = std::io::Write::flush(&mut std::io::stdout());
    _exit(code.into())
}

#[cfg(not(unix))]
fn end(code: u8) -> ! {
    std::process::exit(code.into())
}

fn run() -> anyhow::Result<u8> {
    let (typed, of_processes) = ranks::apart(std::env::args_os().collect());
    let args = repeat::arguments(&cli::Cli::command(), typed)?;
    match cli::Cli::read(args.into_iter().chain(of_processes).collect()) {
        Ok(cli) => cli.run(),
        // help and version are no errors, and go to stdout
        Err(asked) if !asked.use_stderr() => {
            let text = asked.render();
            let text = if ui::colour_on_stdout() { text.ansi().to_string() } else { text.to_string() };
            ui::print(text.as_bytes()).map(|()| 0)
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
