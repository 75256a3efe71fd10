//! `fewstep report`: the page of any run folder, made anew from its files.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, atomic};
use serde_json::Value;

use super::{compare, demo, fit, reproduce, train};
use crate::inputs::check_new_file;
use crate::runs::REPORT;
use crate::ui::Output;

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
    // the run.json itself means its folder
    let named = args.folder.file_name().is_some_and(|name| name == RUN_FILE);
    let path = if named { args.folder.parent().unwrap_or(Path::new("")).join(".") } else { args.folder.clone() };
    let place = path.display();
    ensure!(path.join(RUN_FILE).is_file(), "{place} is not a run folder: it holds no {RUN_FILE}");
    let folder = RunFolder::open_to_read(&path)?;
    let run: Value = folder.read_json(RUN_FILE)?;
    let finished = |file: &str| {
        let hint = "go on with it by --resume, or wait for it";
        ensure!(folder.has(file), "nothing in {place} is finished yet that a report could show: {hint}");
        Ok(&folder)
    };
    let page = match run["kind"].as_str() {
        Some("demo") => demo::report(finished(demo::RESULTS)?)?,
        Some("fit") => fit::report(finished(fit::OUTCOMES)?)?,
        Some("compare") => compare::report(finished(compare::ROWS)?)?,
        Some("reproduce") => reproduce::report(finished(reproduce::ROWS)?)?,
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
