//! The page of a run folder, made anew from its files.

use std::path::Path;

use fewstep_io::RunFolder;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_report::Page;
use serde_json::Value;

use crate::error::{Result, bail, ensure};
use crate::{compare, demo, fitting, reproduce, training};

/// The page of the run in a folder, whatever command left it. Reads only: the run may still be going on.
///
/// # Errors
/// If it is no run folder, its kind of run has no page, or there is nothing yet to show.
pub fn of_folder(path: &Path) -> Result<Page> {
    let place = path.display();
    ensure!(path.join(RUN_FILE).is_file(), "{place} is not a run folder: it holds no {RUN_FILE}");
    let folder = RunFolder::open_to_read(path)?;
    let run: Value = folder.read_json(RUN_FILE)?;
    match run["kind"].as_str() {
        Some("plan" | "tune" | "fit") => fitting::report(&folder),
        Some("compare") => compare::report(&folder),
        Some("reproduce") => reproduce::report(&folder),
        Some("demo") => demo::report(&folder),
        Some("train") => training::report(&folder),
        kind => bail!(
            "{place} is a folder of `{}`, which has no report: those of demo, plan, tune, fit, compare, reproduce and train do",
            kind.unwrap_or("something unknown")
        ),
    }
}
