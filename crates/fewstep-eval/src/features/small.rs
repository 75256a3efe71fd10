//! A small convolutional classifier whose penultimate layer gives features: for data sets that Inception knows nothing of.
//!
//! Distances between its features compare samplers of one data set with each other. They are not FID and say so by name.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_io::atomic::OutFile;
use fewstep_io::tensors::TensorMap;
use fewstep_io::{hash, safetensors};
use fewstep_nn::checkpoint::{tensor_data, tensor_from};
use fewstep_nn::tch::{self, Device, Kind, Tensor};
use serde::{Deserialize, Serialize};

use super::{Activations, FeatureId, FeatureNetwork, of_kind, with_channels};
use crate::error::{Error, Result};

/// Value of `architecture` in the metadata, and the name in [`FeatureId`].
pub(crate) const NAME: &str = "small-cnn";

/// Convolutions 3x3 of one width at one resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Channels that each of its convolutions gives.
    pub width: i64,
    /// How many there are.
    pub convolutions: usize,
}

/// Architecture: stages of convolutions (each followed by a ReLU) with 2x2 max pooling between them, the mean over the
/// remaining pixels, a linear layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallCnnConfig {
    /// 1 for grey, 3 for colour.
    pub in_channels: i64,
    /// From the highest resolution to the lowest.
    pub stages: Vec<Stage>,
    /// Outputs of the linear layer.
    pub classes: i64,
}

impl SmallCnnConfig {
    /// The architecture that we ship: 96 features, 0.16 million weights.
    pub fn new(in_channels: i64, classes: i64) -> Self {
        let stage = |width, convolutions| Stage { width, convolutions };
        Self { in_channels, stages: vec![stage(32, 1), stage(48, 2), stage(96, 2)], classes }
    }

    /// Name, input and output channels of each convolution, in order.
    pub(crate) fn convolutions(&self) -> Vec<(String, i64, i64)> {
        let mut list = Vec::new();
        let mut c_in = self.in_channels;
        for (i, stage) in self.stages.iter().enumerate() {
            for j in 0..stage.convolutions {
                list.push((format!("stages.{i}.{j}"), c_in, stage.width));
                c_in = stage.width;
            }
        }
        list
    }

    /// Dimension of the features.
    pub fn dim(&self) -> i64 {
        self.stages.last().map_or(self.in_channels, |stage| stage.width)
    }

    /// Pixels of the smallest image that survives the pooling.
    pub fn min_resolution(&self) -> i64 {
        1 << self.stages.len().saturating_sub(1)
    }

    pub(crate) fn validate(&self) -> std::result::Result<(), String> {
        let stages = &self.stages;
        if !matches!(self.in_channels, 1 | 3) || !(1..=100_000).contains(&self.classes) {
            return Err(format!("{} input channels and {} classes are not possible", self.in_channels, self.classes));
        }
        let sane = |stage: &Stage| (1..=4096).contains(&stage.width) && (1..=64).contains(&stage.convolutions);
        if stages.is_empty() || stages.len() > 8 || !stages.iter().all(sane) {
            return Err("its stages must be 1 to 8 of 1 to 64 convolutions and 1 to 4096 channels".to_owned());
        }
        Ok(())
    }

    /// Features `[N, d]` of `images` u8 `[N, in_channels, H, W]`; `layer` is the i-th convolution with its ReLU.
    pub(crate) fn trunk(&self, images: &Tensor, layer: impl Fn(usize, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let mut x = images.f_to_kind(Kind::Float)?.f_div_scalar(127.5)?.f_sub_scalar(1.0)?;
        let mut index = 0;
        for (i, stage) in self.stages.iter().enumerate() {
            if i > 0 {
                x = x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
            }
            for _ in 0..stage.convolutions {
                x = layer(index, &x)?;
                index += 1;
            }
        }
        Ok(x.f_mean_dim(&[2i64, 3][..], false, Kind::Float)?)
    }
}

/// A layer's weight and bias.
#[derive(Debug)]
pub(crate) struct Layer {
    pub weight: Tensor,
    pub bias: Tensor,
}

/// The trained network, ready to give features.
#[derive(Debug)]
pub struct SmallCnn {
    config: SmallCnnConfig,
    convolutions: Vec<Layer>,
    head: Layer,
    id: FeatureId,
    device: Device,
}

impl SmallCnn {
    /// Reads a file that training wrote.
    ///
    /// # Errors
    /// If it is not such a file, or its weights do not fit its architecture or are not finite.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        Self::of_file(&safetensors::read(path)?, hash::sha256_file(path)?, path, device)
    }

    /// As [`SmallCnn::load`], from memory; `path` names the file in messages.
    ///
    /// # Errors
    /// As the same.
    pub fn from_bytes(bytes: &[u8], path: &Path, device: Device) -> Result<Self> {
        let file = safetensors::read_bytes(bytes, &path.display().to_string())?;
        Self::of_file(&file, hash::sha256_bytes(bytes), path, device)
    }

    fn of_file(file: &safetensors::File, sha256: String, path: &Path, device: Device) -> Result<Self> {
        super::file::expect(path, file, NAME)?;
        let config = file.metadata.get("config").map(String::as_str).unwrap_or_default();
        let config: SmallCnnConfig = serde_json::from_str(config)
            .map_err(|error| Error::network(path, format!("its architecture cannot be read: {error}")))?;
        let id = FeatureId { name: NAME.to_owned(), sha256 };
        Self::from_tensors(config, &file.tensors, id, device).map_err(|reason| Error::network(path, reason))
    }

    fn from_tensors(
        config: SmallCnnConfig,
        tensors: &TensorMap,
        id: FeatureId,
        device: Device,
    ) -> std::result::Result<Self, String> {
        config.validate()?;
        let take = |name: String, shape: &[i64]| -> std::result::Result<Tensor, String> {
            let data = tensors.get(&name).ok_or_else(|| format!("it has no tensor `{name}`"))?;
            data.check_finite(&name).map_err(|error| error.to_string())?;
            let tensor = tensor_from(data).map_err(|error| error.to_string())?;
            if tensor.size() != shape || tensor.kind() != Kind::Float {
                return Err(format!("`{name}` has shape {:?}, its architecture needs f32 {shape:?}", tensor.size()));
            }
            tensor.f_to_device(device).map_err(|error| error.to_string())
        };
        let layer = |name: &str, shape: &[i64]| -> std::result::Result<Layer, String> {
            let bias = shape.first().copied().unwrap_or_default();
            Ok(Layer { weight: take(format!("{name}.weight"), shape)?, bias: take(format!("{name}.bias"), &[bias])? })
        };
        let convolutions = config
            .convolutions()
            .iter()
            .map(|(name, c_in, c_out)| layer(name, &[*c_out, *c_in, 3, 3]))
            .collect::<std::result::Result<_, _>>()?;
        let head = layer("head", &[config.classes, config.dim()])?;
        Ok(Self { config, convolutions, head, id, device })
    }

    /// The architecture.
    pub fn config(&self) -> &SmallCnnConfig {
        &self.config
    }

    /// Features of images in 0 to 255 of any kind, in the network's channels.
    fn trunk(&self, images: &Tensor) -> Result<Tensor> {
        let least = self.config.min_resolution();
        let (h, w) = (images.size()[2], images.size()[3]);
        if h.min(w) < least {
            return Err(Error::Input(format!(
                "images of {w}x{h} are too small for the feature network ({least}x{least} at least)"
            )));
        }
        self.config.trunk(&images.f_to_device(self.device)?, |index, x| {
            let Layer { weight, bias } = &self.convolutions[index];
            Ok(x.f_conv2d(weight, Some(bias), 1, 1, 1, 1)?.f_relu_()?)
        })
    }
}

impl FeatureNetwork for SmallCnn {
    fn id(&self) -> &FeatureId {
        &self.id
    }

    fn activations(&self, images: &Tensor) -> Result<Activations> {
        let images = with_channels(images, self.config.in_channels)?;
        tch::no_grad(|| {
            let features = self.trunk(&images)?;
            let logits = features.f_linear(&self.head.weight, Some(&self.head.bias))?.f_to_device(Device::Cpu)?;
            Ok(Activations { features: features.f_to_device(Device::Cpu)?, logits: Some(logits) })
        })
    }

    fn differentiable(&self, images: &Tensor) -> Result<Tensor> {
        self.trunk(&of_kind(images, self.config.in_channels, Kind::Float)?)
    }
}

/// A trained network that has no file yet.
#[derive(Debug)]
pub(crate) struct Weights {
    pub config: SmallCnnConfig,
    pub convolutions: Vec<Layer>,
    pub head: Layer,
}

impl Weights {
    /// The network, under `id`.
    pub fn network(&self, id: FeatureId) -> Result<SmallCnn> {
        let tensors = self.tensors()?;
        SmallCnn::from_tensors(self.config.clone(), &tensors, id, Device::Cpu).map_err(Error::Input)
    }

    /// Writes the file that [`SmallCnn::load`] reads, f32, with `notes` beside the architecture in its metadata.
    pub fn save<'a>(&self, out: impl Into<OutFile<'a>>, notes: &BTreeMap<String, String>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|error| Error::Input(error.to_string()))?;
        let mut metadata = notes.clone();
        metadata.insert("config".to_owned(), config);
        Ok(safetensors::write(out, &self.tensors()?, &super::file::metadata(NAME, &metadata))?)
    }

    fn tensors(&self) -> Result<TensorMap> {
        let names = self.config.convolutions().into_iter().map(|(name, ..)| name);
        let layers = names.zip(&self.convolutions).chain([("head".to_owned(), &self.head)]);
        let mut tensors = TensorMap::new();
        for (name, layer) in layers {
            tensors.insert(format!("{name}.weight"), tensor_data(&layer.weight)?);
            tensors.insert(format!("{name}.bias"), tensor_data(&layer.bias)?);
        }
        Ok(tensors)
    }
}
