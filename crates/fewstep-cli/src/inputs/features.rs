//! Feature networks as they are named on the command line.

use std::path::PathBuf;

use fewstep::features::FeatureOptions;
use fewstep_eval::features::Convention;
use fewstep_eval::features::torchscript::{InputRange, Options};

/// What turns images into features.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Features")]
pub struct FeatureArgs {
    /// Feature network: .safetensors of `fewstep features` or `import`, or Inception's .pth [default: Fashion-MNIST's]
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// Run --features as a TorchScript program, only if you trust it, on pixels of this range
    #[arg(long, value_name = "RANGE", requires = "features", num_args = 0..=1, default_missing_value = "bytes")]
    pub torchscript: Option<Range>,
}

/// Range of a TorchScript network's input. (Documented variants would make every help page that shows them twice as long.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Range {
    Bytes,
    Unit,
    Signed,
}

impl FeatureArgs {
    /// As the library takes them, with what Inception's images are resized by, and how a TorchScript program is called.
    pub fn options(&self, convention: Convention, return_features: bool) -> FeatureOptions {
        let torchscript = self.torchscript.map(|range| {
            let range = match range {
                Range::Bytes => InputRange::Bytes,
                Range::Unit => InputRange::Unit,
                Range::Signed => InputRange::Signed,
            };
            Options { range, return_features, ..Options::default() }
        });
        FeatureOptions { file: self.features.clone(), convention, torchscript }
    }
}
