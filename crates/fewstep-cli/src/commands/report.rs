//! `fewstep report`: the page of any run folder, made anew from its files.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fewstep::report;
use fewstep::runs::REPORT;
use fewstep_io::atomic;
use fewstep_io::run_folder::RUN_FILE;

use crate::inputs::check_new_file;
use crate::ui::{Output, Terminal};

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
pub fn run(args: Args, output: Output, _: &Terminal) -> Result<()> {
    let named = args.out.as_ref().map(|out| check_new_file(out, args.overwrite)).transpose()?;
    // the run.json itself means its folder
    let is_run_file = args.folder.file_name().is_some_and(|name| name == RUN_FILE);
    let path = if is_run_file { args.folder.parent().unwrap_or(Path::new("")).join(".") } else { args.folder.clone() };
    let page = report::of_folder(&path)?;
    let out = named.unwrap_or_else(|| path.join(REPORT).into());
    atomic::write_bytes(out.clone(), page.to_html().as_bytes())?;
    let value = serde_json::json!({ "report": out.path(), "headline": page.headline });
    output.result(&value, || format!("{}\nreport: {}", page.headline, out.path().display()))
}
