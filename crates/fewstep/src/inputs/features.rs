//! Feature networks: a file, or the one that comes with the program.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fewstep_eval::features::torchscript::{InputRange, Options};
use fewstep_eval::features::{self, FeatureNetwork, TorchScript};
use fewstep_nn::tch::Device;

use super::has_extension;
use crate::assets;

/// What turns images into features.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Features")]
pub struct FeatureArgs {
    /// Feature network: a .safetensors file of `fewstep features`, or a TorchScript .pt file, which is a program and will
    /// run [default: the built-in one for Fashion-MNIST]
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// What a TorchScript file takes pixels as: 0 to 255, 0 to 1, or -1 to 1
    #[arg(long, value_name = "RANGE", default_value = "bytes", requires = "features")]
    pub input_range: Range,
    /// Call a TorchScript file with `return_features`, as NVIDIA's Inception networks need
    #[arg(long, requires = "features")]
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
    /// Opens the network for images of these channels, height and width.
    pub fn open(&self, shape: [usize; 3], device: Device) -> Result<Box<dyn FeatureNetwork>> {
        let Some(path) = &self.features else {
            let [c, h, w] = shape;
            if shape != assets::IMAGE_SHAPE {
                bail!(
                    "the built-in features are for grey images of 32x32 (Fashion-MNIST), but these have {c} channel(s) of \
                     {h}x{w}: give a feature network with --features, or pad Fashion-MNIST with --pad-to 32"
                );
            }
            return assets::features(device);
        };
        ensure!(path.exists(), "the feature network {} does not exist: check the path", path.display());
        if has_extension(path, "pt") {
            let range = match self.input_range {
                Range::Bytes => InputRange::Bytes,
                Range::Unit => InputRange::Unit,
                Range::Signed => InputRange::Signed,
            };
            let options = Options { range, return_features: self.return_features, ..Options::default() };
            return Ok(Box::new(TorchScript::load(path, options, device)?));
        }
        Ok(features::open(path, device)?)
    }
}
