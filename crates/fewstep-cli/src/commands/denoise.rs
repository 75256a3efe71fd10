//! `fewstep denoise`: the denoiser on given arrays, which is how an import is checked.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep::denoise::denoise_file;
use serde::Serialize;

use crate::inputs::{ModelArgs, check_extension, check_new_file};
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep denoise`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep denoise edm-cifar10.pkl arrays.npz --out denoised.npz")]
pub struct Args {
    /// Model: a file, or the name of a built-in one
    #[arg(value_name = "MODEL")]
    pub name: String,
    /// npz file with x [N, ...], sigma [N] and, if the model knows classes, class_labels [N, classes]
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Where to: an npz file with the array denoised [N, ...]
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// Samples at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// What a run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    out: String,
    samples: usize,
    model: String,
    model_sha256: String,
}

/// Computes D(x; sigma).
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    ensure!(args.batch > 0, "--batch must be at least 1");
    check_extension(&args.out, "npz")?;
    let out = check_new_file(&args.out, args.overwrite)?;
    let opened = args.model.open(&args.name, args.batch)?;
    let samples = denoise_file(opened.denoiser(), &args.input, out, args.batch, terminal)?;
    let outcome =
        Outcome { out: args.out.display().to_string(), samples, model: opened.name, model_sha256: opened.hash };
    output.result(&outcome, || format!("{}: {samples} samples denoised by {}", outcome.out, outcome.model))
}
