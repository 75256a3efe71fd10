//! Inception-v3 of 2015-12-05, the network that FID, KID and the inception score are defined on.
//!
//! TensorFlow's graph of that name, not torchvision's network: 1008 classes, average pools that leave the padding out, a
//! max pool in the last block. Tools differ only in how an image gets to 299 x 299 ([`Convention`]).

use std::path::Path;

use fewstep_nn::tch::{self, Device, Tensor};

use super::{Activations, FeatureId, FeatureNetwork, of_kind, with_channels};
use crate::error::Result;

mod blocks;
mod import;
mod names;
mod resize;
mod weights;

pub use import::{import, nvidia_pickle, read};
pub use resize::Convention;
pub use weights::{Weights, tensor_shapes};

use blocks::Node;

/// Value of `architecture` in our files' metadata, and the start of the name in [`FeatureId`].
pub const NAME: &str = "inception-v3-2015-12-05";
/// Dimension of the pool features.
pub const DIM: usize = 2048;

/// The network with an input convention, on a device.
#[derive(Debug)]
pub struct Inception {
    body: Vec<Node>,
    /// Transposed weight of the classifier, `[2048, 1008]`; the bias is left out of the scores, as for every inception score.
    classifier: Option<Tensor>,
    convention: Convention,
    id: FeatureId,
    device: Device,
}

impl Inception {
    /// Opens the network from any of the files that [`read`] takes.
    ///
    /// # Errors
    /// If the file is none of them, or its weights do not fit.
    pub fn load(path: &Path, convention: Convention, device: Device) -> Result<Self> {
        Self::new(&read(path)?, convention, device)
    }

    /// The network from its weights.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub fn new(weights: &Weights, convention: Convention, device: Device) -> Result<Self> {
        let id = FeatureId { name: format!("{NAME}/{}", convention.name()), sha256: weights.sha256()? };
        let body = blocks::body(&mut |name, shape| weights.folded(name, shape, device))?;
        let transposed = |weight: Tensor| weight.f_tr()?.f_contiguous()?.f_to_device(device);
        let classifier = weights.classifier()?.map(transposed).transpose()?;
        Ok(Self { body, classifier, convention, id, device })
    }

    /// Pool features of images in 0 to 255 of any kind, `[N, 3, H, W]`.
    fn pool(&self, images: &Tensor) -> Result<Tensor> {
        let x = blocks::channels_last(&self.convention.prepare(images)?)?; // [N, 3, 299, 299]
        let x = blocks::run(&self.body, &x)?; // [N, 2048, 8, 8]
        Ok(x.f_mean_dim(&[2i64, 3][..], false, tch::Kind::Float)?)
    }

    /// The input convention.
    pub fn convention(&self) -> Convention {
        self.convention
    }
}

impl FeatureNetwork for Inception {
    fn id(&self) -> &FeatureId {
        &self.id
    }

    /// Pool features `[N, 2048]` and scores without their bias `[N, 1008]`.
    fn activations(&self, images: &Tensor) -> Result<Activations> {
        let images = with_channels(images, 3)?.f_to_device(self.device)?;
        tch::no_grad(|| {
            let features = self.pool(&images)?;
            let scores = |weight: &Tensor| features.f_matmul(weight)?.f_to_device(Device::Cpu);
            let logits = self.classifier.as_ref().map(scores).transpose()?;
            Ok(Activations { features: features.f_to_device(Device::Cpu)?, logits })
        })
    }

    fn differentiable(&self, images: &Tensor) -> Result<Tensor> {
        self.pool(&of_kind(images, 3, tch::Kind::Float)?.f_to_device(self.device)?)
    }
}
