//! `fewstep import`: checkpoints and feature networks of other programs as safetensors files of ours.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep::import::import;
use fewstep_nn::checkpoint::Storage;

use crate::inputs::{check_extension, check_new_file};
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep import`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep import edm-cifar10-32x32-uncond-vp.pkl --out cifar10.safetensors\n  fewstep import pt_inception-2015-12-05-6726825d.pth --out inception.safetensors"
)]
pub struct Args {
    /// Snapshot of the EDM or EDM2 code (.pkl) or Inception's weights (.pth, .pt, .safetensors), read as data: nothing is executed
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Where to [default: beside it, ending in .safetensors]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Store the weights as f16: half the size
    #[arg(long)]
    pub half: bool,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
}

/// Imports the file and says what it found.
pub fn run(args: Args, output: Output, _: &Terminal) -> Result<()> {
    let Args { input, out, half, overwrite } = args;
    let out = out.unwrap_or_else(|| input.with_extension("safetensors"));
    ensure!(out != input, "{} has the name that the result would get: name another with --out", out.display());
    check_extension(&out, "safetensors")?;
    let file = check_new_file(&out, overwrite)?;
    let found = import(&input, &file, if half { Storage::F16 } else { Storage::F32 })?;
    output.result(&found.to_json(&input), || found.to_text(&input, output.colour()))
}
