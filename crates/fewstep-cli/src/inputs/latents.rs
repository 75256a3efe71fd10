//! What samples start from: seeds, or latents from a file.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep::latents::Latents;
use fewstep_core::denoiser::Spec;

use super::Numbers;

/// Which images to make.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct LatentArgs {
    /// Seeds, one an image: 0-63, or 5,8, or 0-3,10
    #[arg(long, value_name = "LIST", default_value = "0-63")]
    pub seeds: Numbers,
    /// Class of every image [default: each image's own, drawn from its seed]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub class: Option<i64>,
    /// Start from the array `latents` (unit normal) of this npz file instead of seeds
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    pub latents: Option<PathBuf>,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
}

impl LatentArgs {
    /// Reads and checks what samples of a denoiser start from.
    pub fn resolve(&self, spec: &Spec) -> Result<Latents> {
        ensure!(self.batch > 0, "--batch must be at least 1");
        Ok(match &self.latents {
            Some(path) => Latents::of_file(path, self.class, spec)?,
            None => Latents::of_seeds(self.seeds.0.clone(), self.class, spec)?,
        })
    }
}
