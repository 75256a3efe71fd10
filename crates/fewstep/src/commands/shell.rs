//! `fewstep completions` and `fewstep man`: what shells and `man` read, made from the same definitions as `--help`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use fewstep_io::atomic;

use crate::cli::Cli;
use crate::ui::Output;

/// Arguments of `fewstep completions`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep completions bash > ~/.local/share/bash-completion/completions/fewstep\n  fewstep completions fish > ~/.config/fish/completions/fewstep.fish"
)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Prints the completions.
pub fn completions(args: CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fewstep", &mut script);
    // A reader that stops early is no error.
    let _ = std::io::stdout().write_all(&script);
    Ok(())
}

/// Arguments of `fewstep man`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep man --out ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Folder for the pages: fewstep.1 and one a command
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// Writes the pages.
pub fn man(args: ManArgs, output: Output) -> Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let mut command = Cli::command();
    command.build();
    let mut names = Vec::new();
    for page in pages(&command)? {
        atomic::write_bytes(args.out.join(&page.0), &page.1)?;
        names.push(page.0);
    }
    output.result(&names, || format!("{}: {} pages, the first is {}", args.out.display(), names.len(), names[0]))
}

/// Name and text of every page: the program's own first.
fn pages(command: &clap::Command) -> Result<Vec<(String, Vec<u8>)>> {
    let commands =
        std::iter::once(command).chain(command.get_subcommands().filter(|command| command.get_name() != "help"));
    let page = |command: &clap::Command| {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let mut text = Vec::new();
        clap_mangen::Man::new(command.clone()).title(name.clone()).render(&mut text)?;
        Ok((format!("{name}.1"), text))
    };
    commands.map(page).collect()
}
