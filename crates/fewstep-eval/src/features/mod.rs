//! Networks that turn images into features.

use std::fmt;
use std::path::Path;

use fewstep_io::{FileKind, safetensors};
use fewstep_nn::distance::FeatureMap;
use fewstep_nn::tch::{Device, Kind, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

mod file;
pub mod inception;
pub mod small;
pub mod torchscript;
pub mod train;
mod trainable;

pub use inception::{Convention, Inception};
pub use small::SmallCnn;
pub use torchscript::TorchScript;

/// Which network made a set of features: the condition for comparing two numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureId {
    /// Architecture and, where there are several, the input convention.
    pub name: String,
    /// SHA-256 of the weights file, in hexadecimal.
    pub sha256: String,
}

impl fmt::Display for FeatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.sha256.get(..12).unwrap_or(&self.sha256);
        write!(f, "{} {short}", self.name)
    }
}

impl FeatureId {
    /// Checks that two measurements used the same features, as far as both say.
    ///
    /// # Errors
    /// [`Error::FeaturesDiffer`] if both are known and differ. Reference files of other tools do not name their features;
    /// those can only be checked by their dimension.
    pub fn check_same(a: Option<&FeatureId>, b: Option<&FeatureId>) -> Result<()> {
        match (a, b) {
            (Some(a), Some(b)) if a != b => Err(Error::FeaturesDiffer { left: a.to_string(), right: b.to_string() }),
            _ => Ok(()),
        }
    }
}

/// What a network says about a batch of images.
#[derive(Debug)]
pub struct Activations {
    /// `[N, d]`, f32 on the CPU.
    pub features: Tensor,
    /// Class scores before the softmax, `[N, classes]`, f32 on the CPU, where the network has them.
    pub logits: Option<Tensor>,
}

/// A network that maps images to features.
pub trait FeatureNetwork {
    /// Name and hash of the network.
    fn id(&self) -> &FeatureId;

    /// Features and class scores of u8 `images` `[N, C, H, W]`, C = 1 or 3, on any device; without a graph. A grey image
    /// counts as its three equal channels where the network wants colour.
    ///
    /// # Errors
    /// If the images do not fit the network.
    fn activations(&self, images: &Tensor) -> Result<Activations>;

    /// The features alone, `[N, d]`, f32 on the CPU.
    ///
    /// # Errors
    /// As [`FeatureNetwork::activations`].
    fn features(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.activations(images)?.features)
    }

    /// Features of f32 `images` `[N, C, H, W]` in 0 to 255, not rounded, with the graph that these have, on the
    /// network's device.
    ///
    /// # Errors
    /// If the images do not fit the network, or it cannot be differentiated.
    fn differentiable(&self, images: &Tensor) -> Result<Tensor> {
        let _ = images;
        Err(Error::Input(format!(
            "{} cannot be differentiated; give Inception's weights or a classifier of `fewstep features`",
            self.id()
        )))
    }
}

/// A feature network as training sees it: on images in [-1, 1].
#[derive(Clone, Copy)]
pub struct Differentiable<'a>(pub &'a dyn FeatureNetwork);

impl fmt::Debug for Differentiable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Differentiable({})", self.0.id())
    }
}

impl FeatureMap for Differentiable<'_> {
    fn features(&self, images: &Tensor) -> fewstep_nn::Result<Tensor> {
        let bytes = images.f_add_scalar(1.0)?.f_mul_scalar(127.5)?;
        self.0.differentiable(&bytes).map_err(|error| fewstep_nn::Error::Input(error.to_string()))
    }
}

/// How [`open`] reads a file whose kind leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Input convention, if it is an Inception network.
    pub convention: Convention,
    /// Runs the file as a TorchScript program, called in this way. Only for files that are trusted: without it no file
    /// is executed.
    pub torchscript: Option<torchscript::Options>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { convention: Convention::Tf1, torchscript: None }
    }
}

/// Opens a feature network from its file: a `.safetensors` file (the small classifier or Inception), Inception's `.pth`
/// of pytorch-fid or torch-fidelity, a TorchScript archive of it read as data, or, if the options say so, a TorchScript program.
///
/// # Errors
/// If the file cannot be read or is no feature network.
pub fn open(path: &Path, options: &OpenOptions, device: Device) -> Result<Box<dyn FeatureNetwork>> {
    if let Some(call) = options.torchscript {
        return Ok(Box::new(TorchScript::load(path, call, device)?));
    }
    match FileKind::of_file(path)? {
        FileKind::Safetensors if is_small(path)? => Ok(Box::new(SmallCnn::load(path, device)?)),
        _ => Ok(Box::new(Inception::load(path, options.convention, device)?)),
    }
}

/// Whether a safetensors file is our small classifier; files of other programs can only be Inception.
fn is_small(path: &Path) -> Result<bool> {
    let contents = safetensors::read(path)?;
    Ok(file::is_ours(&contents.metadata) && file::architecture(path, &contents)? == small::NAME)
}

/// Checks that `images` are what every network takes and gives them `channels` channels.
pub(crate) fn with_channels(images: &Tensor, channels: i64) -> Result<Tensor> {
    of_kind(images, channels, Kind::Uint8)
}

/// The same for images of another kind.
pub(crate) fn of_kind(images: &Tensor, channels: i64, wanted: Kind) -> Result<Tensor> {
    let size = images.size();
    match (images.kind(), size.as_slice()) {
        (kind, &[n, c, h, w]) if kind == wanted && n > 0 && h > 0 && w > 0 && (c == 1 || c == 3) => match (c, channels)
        {
            (c, channels) if c == channels => Ok(images.shallow_clone()),
            (1, 3) => Ok(images.f_expand([n, 3, h, w], false)?),
            _ => Err(Error::Input("the feature network is for grey images, but these have 3 channels".to_owned())),
        },
        (kind, size) => Err(Error::Input(format!(
            "images of shape {size:?} ({kind:?}) where {} [N, 1 or 3, height, width] is needed",
            if wanted == Kind::Uint8 { "u8" } else { "f32" }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_images_get_three_equal_channels() {
        let grey = Tensor::randint(255, [2, 1, 4, 5], (Kind::Uint8, Device::Cpu));
        let colour = with_channels(&grey, 3).unwrap();
        assert_eq!(colour.size(), [2, 3, 4, 5]);
        assert_eq!(colour.select(1, 2), grey.select(1, 0));
        assert!(with_channels(&colour, 1).unwrap_err().to_string().contains("grey"));
    }

    #[test]
    fn what_is_no_image_batch_is_refused() {
        for (shape, kind) in [
            (&[1i64, 1, 4, 4][..], Kind::Float),
            (&[1, 2, 4, 4], Kind::Uint8),
            (&[0, 1, 4, 4], Kind::Uint8),
            (&[4, 4], Kind::Uint8),
        ] {
            let error = with_channels(&Tensor::zeros(shape, (kind, Device::Cpu)), 3).unwrap_err();
            assert!(error.to_string().contains("u8 [N, 1 or 3, height, width]"), "{error}");
        }
    }

    #[test]
    fn files_of_other_kinds_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.onnx");
        let error = || open(&path, &OpenOptions::default(), Device::Cpu).err().map(|error| error.to_string()).unwrap();
        assert!(error().contains("weights.onnx does not exist"), "{}", error());
        for (bytes, kind) in [
            (&b""[..], "an empty file"),
            (b"<!doctype html><html>", "a web page (HTML)"),
            (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer"),
            (b"\x08\x08\x12\x07pytorch\x1a", "an ONNX graph"),
            (b"{\"version\": 1}", "a JSON file"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = error();
            assert!(error.contains(&format!("is {kind}")) && error.contains(".safetensors"), "{error}");
        }
    }
}
