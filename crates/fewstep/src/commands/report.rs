//! `fewstep report`: the page of any run folder, made anew from its files.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, atomic};
use serde_json::Value;

use super::{compare, demo, fit, reproduce, train};
use crate::inputs::check_new_file;
use crate::ui::Output;

/// Name of the page, in the run folder.
pub const REPORT: &str = "report.html";

/// Arguments of `fewstep report`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep report runs/cifar10")]
pub struct Args {
    /// Folder of a demo, fit, compare, reproduce or train
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Write the page here [default: report.html in the folder, replaced]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace what --out names
    #[arg(long, requires = "out")]
    pub overwrite: bool,
}

/// Writes the page.
pub fn run(args: Args, output: Output) -> Result<()> {
    if let Some(out) = &args.out {
        check_new_file(out, args.overwrite)?;
    }
    let place = args.folder.display();
    ensure!(args.folder.join(RUN_FILE).is_file(), "{place} is not a run folder: it holds no {RUN_FILE}");
    let folder = RunFolder::open_existing(&args.folder)?;
    let run: Value = folder.read_json(RUN_FILE)?;
    let page = match run["kind"].as_str() {
        Some("demo") => demo::report(&folder)?,
        Some("fit") => fit::report(&folder)?,
        Some("compare") => compare::report(&folder)?,
        Some("reproduce") => reproduce::report(&folder)?,
        Some("train") => train::report(&folder)?,
        kind => bail!(
            "{place} is a folder of `{}`, which has no report: those of demo, fit, compare, reproduce and train do",
            kind.unwrap_or("something unknown")
        ),
    };
    let out = args.out.unwrap_or_else(|| folder.file(REPORT));
    atomic::write_bytes(&out, page.to_html().as_bytes())?;
    let value = serde_json::json!({ "report": out, "headline": page.headline });
    output.result(&value, || format!("{}\nreport: {}", page.headline, out.display()))
}
