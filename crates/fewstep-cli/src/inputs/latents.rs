//! What samples start from, as it is named on the command line: seeds, or latents from a file.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep::models::OpenModel;
use fewstep::sampling::Source;

use super::Numbers;
use crate::ui;

/// Which samples to make.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Samples")]
pub struct LatentArgs {
    /// Seeds, one a sample: 0-63, or 5,8, or 0-3,10
    #[arg(long, value_name = "LIST", default_value = "0-63")]
    pub seeds: Numbers,
    /// Class of every sample [default: each sample's own, drawn from its seed]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_class)]
    pub class: Option<i64>,
    /// Start from the array `latents` [N, ...] (unit normal) of this npz file instead of seeds
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    pub latents: Option<PathBuf>,
    /// Samples at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
}

fn parse_class(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "classes are numbers, from 0 on in the order of their names".to_owned())
}

impl LatentArgs {
    /// Reads and checks what samples of a model start from.
    pub fn resolve(&self, opened: &OpenModel) -> Result<Source> {
        let spec = opened.spec();
        let trained = opened.network().and_then(|network| network.model().trained_classes());
        if let Some(class) = self.class.filter(|class| trained.is_some_and(|trained| !trained.contains(class))) {
            ui::note(format!("warning: the model was trained on no image of class {class}"));
        }
        ensure!(
            self.class.is_none() || spec.classes > 0,
            "--class is for class-conditional models, and this one knows no classes"
        );
        Ok(match &self.latents {
            Some(path) => Source::latents(path, self.class, spec)?,
            None => Source::seeds(self.seeds.0.clone(), self.class, spec)?,
        })
    }
}
