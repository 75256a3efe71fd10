//! Feature networks as they are named on the command line.

use std::path::PathBuf;

use anyhow::Result;
use fewstep::features::FeatureOptions;
use fewstep_eval::features::torchscript::{InputRange, Options};
use fewstep_eval::features::{Convention, FeatureNetwork};
use fewstep_nn::tch::Device;

/// What turns images into features.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Features")]
pub struct FeatureArgs {
    /// Feature network: .safetensors of `fewstep features` or `import`, or Inception's .pth [default: Fashion-MNIST's]
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// How Inception's images are resized: tf1 (EDM, torch-fidelity) or pytorch-fid
    #[arg(long, value_name = "NAME", default_value = "tf1")]
    pub resize: String,
    /// Run --features as a TorchScript program, only if you trust it, on pixels of this range
    #[arg(long, value_name = "RANGE", requires = "features", num_args = 0..=1, default_missing_value = "bytes")]
    pub torchscript: Option<Range>,
    /// Call the TorchScript program with `return_features`, as NVIDIA's need
    #[arg(long, requires = "torchscript")]
    pub return_features: bool,
}

/// Range of a TorchScript network's input. (Documented variants would make every help page that shows them twice as long.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Range {
    Bytes,
    Unit,
    Signed,
}

impl FeatureArgs {
    /// As the library takes them.
    pub fn options(&self) -> Result<FeatureOptions> {
        let torchscript = self.torchscript.map(|range| {
            let range = match range {
                Range::Bytes => InputRange::Bytes,
                Range::Unit => InputRange::Unit,
                Range::Signed => InputRange::Signed,
            };
            Options { range, return_features: self.return_features, ..Options::default() }
        });
        Ok(FeatureOptions { file: self.features.clone(), convention: Convention::parse(&self.resize)?, torchscript })
    }

    /// Opens the network for images of these channels, height and width.
    pub fn open(&self, shape: [usize; 3], device: Device) -> Result<Box<dyn FeatureNetwork>> {
        Ok(self.options()?.open(shape, device)?)
    }
}
