//! Images in the terminal.

use std::io::{IsTerminal, stdout};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Checks that there is a terminal to show images in.
pub fn check() -> Result<()> {
    ensure!(stdout().is_terminal(), "--show needs a terminal: with stdout elsewhere, write a file with --out");
    Ok(())
}

/// Shows a PNG: as pixels where the terminal can (kitty's and iTerm's protocols), else as coloured half blocks, as large as fits.
pub fn show(path: &Path) -> Result<()> {
    let image = image::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config = viuer::Config { absolute_offset: false, use_kitty: answers_kitty(), ..viuer::Config::default() };
    viuer::print(&image, &config).context("the terminal cannot show images")?;
    Ok(())
}

/// Whether the terminal says of itself that it speaks kitty's protocol. To ask one that does not would be to wait for an answer.
fn answers_kitty() -> bool {
    let says = |name: &str, what: &[&str]| {
        std::env::var(name).is_ok_and(|value| what.iter().any(|what| value.to_lowercase().contains(what)))
    };
    says("TERM", &["kitty", "ghostty"]) || says("TERM_PROGRAM", &["ghostty", "wezterm"])
}
