//! Feature networks: a file, or the one that comes with the program.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fewstep_eval::Statistics;
use fewstep_eval::features::torchscript::{InputRange, Options};
use fewstep_eval::features::{self, Convention, FeatureId, FeatureNetwork, OpenOptions};
use fewstep_nn::tch::{Device, Kind, Tensor};

use crate::{assets, pixels};

/// What turns images into features.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Features")]
pub struct FeatureArgs {
    /// Feature network: a .safetensors file of `fewstep features` or `fewstep import`, or Inception's .pth file of pytorch-fid
    /// or torch-fidelity [default: the built-in one for Fashion-MNIST]
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
    /// A file, read as data and not run; without one, the built-in network.
    pub fn file(features: Option<PathBuf>, resize: &str) -> Self {
        Self { features, resize: resize.to_owned(), torchscript: None, return_features: false }
    }

    /// Opens the network for images of these channels, height and width.
    pub fn open(&self, shape: [usize; 3], device: Device) -> Result<Box<dyn FeatureNetwork>> {
        let Some(path) = &self.features else {
            if shape != assets::IMAGE_SHAPE {
                bail!(
                    "the built-in features are for images of {} (Fashion-MNIST), but these are {}: give a feature network with \
                     --features, or pad Fashion-MNIST with --pad-to 32",
                    pixels::words(assets::IMAGE_SHAPE),
                    pixels::words(shape)
                );
            }
            return assets::features(device);
        };
        ensure!(path.exists(), "the feature network {} does not exist: check the path", path.display());
        let torchscript = self.torchscript.map(|range| {
            let range = match range {
                Range::Bytes => InputRange::Bytes,
                Range::Unit => InputRange::Unit,
                Range::Signed => InputRange::Signed,
            };
            Options { range, return_features: self.return_features, ..Options::default() }
        });
        let options = OpenOptions { convention: Convention::parse(&self.resize)?, torchscript };
        Ok(features::open(path, &options, device)?)
    }
}

/// Refuses statistics that are not of this network's features of images of this shape (channels, height, width), tried on a black
/// image: what does not fit shows before any work is done. `place` names the statistics.
pub fn check_features(
    network: &dyn FeatureNetwork,
    shape: [usize; 3],
    statistics: &Statistics,
    place: &str,
) -> Result<()> {
    FeatureId::check_same(Some(network.id()), statistics.features.as_ref())?;
    let (found, dim) = (dimension(network, shape)?, statistics.dim());
    ensure!(
        dim == found,
        "the statistics {place} are of {dim} features, but {} has {found}: they come from different networks",
        network.id().name
    );
    Ok(())
}

/// How many features the network has of an image of this shape (channels, height, width), tried on a black one.
///
/// # Errors
/// If such images do not fit the network.
pub fn dimension(network: &dyn FeatureNetwork, shape: [usize; 3]) -> Result<usize> {
    let [channels, height, width] = shape.map(|size| size as i64);
    let black = Tensor::f_zeros([1, channels, height, width], (Kind::Uint8, Device::Cpu))?;
    Ok(network.features(&black)?.size().get(1).copied().unwrap_or_default() as usize)
}
