//! `fewstep info`: what a file is, in words.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep::describe::describe;

use crate::ui::{self, Output, Terminal};

/// Arguments of `fewstep info`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep info edm-cifar10.pkl plan.json runs/fashion/ cifar10.zip")]
pub struct Args {
    /// Models (or a built-in one by name), snapshots, plans, run folders, data sets, statistics, arrays, feature networks
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Describes each file; goes on after one that it cannot read.
pub fn run(args: Args, output: Output, _: &Terminal) -> Result<()> {
    let (mut texts, mut values, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for path in &args.files {
        match describe(path) {
            Ok(found) => {
                texts.push(found.to_text(path, output.colour()));
                values.push(found.to_json(path));
            }
            Err(error) => errors.push(anyhow::Error::from(error)),
        }
    }
    if !values.is_empty() {
        output.result(&values, || texts.join("\n"))?;
    }
    if args.files.len() == 1 {
        return errors.pop().map_or(Ok(()), Err);
    }
    errors.iter().for_each(|error| ui::error(&ui::sentence(error)));
    ensure!(errors.is_empty(), "{} of {} files could not be described", errors.len(), args.files.len());
    Ok(())
}
