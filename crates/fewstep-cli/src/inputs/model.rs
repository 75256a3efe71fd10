//! Models as they are named on the command line.

use anyhow::Result;
use fewstep::models::{GuidanceOptions, ModelOptions, OpenModel, open_model};
use fewstep_nn::Ranks;

use super::Compute;
use crate::ranks;

/// How models are opened.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// Guidance weight w in D_ref + w (D - D_ref); 1 is no guidance
    #[arg(long, value_name = "W", help_heading = "Model")]
    pub guidance: Option<f64>,
    /// Model that guides [default: the same without its class]
    #[arg(long, value_name = "MODEL", requires = "guidance", help_heading = "Model")]
    pub guide: Option<String>,
    /// Run the model's file as a program (TorchScript): only for files that you trust
    #[arg(long, help_heading = "Model")]
    pub trust: bool,
    #[command(flatten)]
    pub compute: Compute,
}

impl ModelArgs {
    /// Opens a model that evaluates `batch` samples at once.
    pub fn open(&self, name: &str, batch: usize) -> Result<OpenModel> {
        Ok(open_model(name, &self.options(batch)?)?)
    }

    /// The processes that share the work.
    pub fn ranks(&self) -> Result<Ranks> {
        ranks::join()
    }

    /// As the library takes them.
    pub fn options(&self, batch: usize) -> Result<ModelOptions> {
        let (device, kind) = self.compute.resolve()?;
        let guidance = self.guidance.map(|weight| GuidanceOptions { weight, by: self.guide.clone() });
        let ranks = self.ranks()?;
        Ok(ModelOptions { device, kind, batch: batch.max(1), trust: self.trust, guidance, ranks })
    }
}
