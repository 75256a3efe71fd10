//! `fewstep completions` and `fewstep man`: what shells and `man` read, made from the same definitions as `--help`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use fewstep_io::atomic;

use crate::ui::{self, Output};

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

/// Prints the completions of `command`.
pub fn completions(args: CompletionsArgs, mut command: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "fewstep", &mut script);
    ui::print(&script)
}

/// Arguments of `fewstep man`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep man --out ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Folder for the pages: fewstep.1 and one a command
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// Writes the pages of `command`.
pub fn man(args: ManArgs, command: clap::Command, output: Output) -> Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let mut command = command.disable_help_subcommand(true);
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
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let man = clap_mangen::Man::new(command.clone().after_help("")).title(name.clone());
        let mut text = Vec::new();
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut text)?;
        }
        text.extend(sections(&after).into_bytes());
        Ok((format!("{name}.1"), text))
    };
    commands.map(page).collect()
}

/// What stands after a command's options, as sections: lines that begin with a known title open one.
fn sections(text: &str) -> String {
    const TITLES: [(&str, &str); 5] = [
        ("Methods:", "METHODS"),
        ("Example:", "EXAMPLES"),
        ("Examples:", "EXAMPLES"),
        ("Exit codes:", "EXIT STATUS"),
        ("Environment:", "ENVIRONMENT"),
    ];
    let mut page = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let title = TITLES.iter().find_map(|(start, title)| Some((title, line.strip_prefix(start)?)));
        let rest = match title {
            Some((title, rest)) => {
                page.push_str(&format!(".SH {title}\n"));
                rest
            }
            None => line,
        };
        if !rest.trim().is_empty() {
            // examples keep their lines; a backslash and a leading dot mean something to roff
            page.push_str(&format!(".nf\n\\&{}\n.fi\n", rest.replace('\\', "\\e")));
        }
    }
    page
}
