//! The denoiser D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (Karras et al. 2022, Eq. 7).

use std::collections::BTreeMap;

use fewstep_core::denoiser::{Levels, Spec};
use fewstep_core::noise;
use fewstep_core::{Coefficients, Parameterisation};
use tch::{Device, Kind, Tensor};

use crate::codec::Codec;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::params::{Builder, Origin, Params};
use crate::random::{Purpose, Stream};
use crate::ranks::Ranks;
use crate::tensor::coefficients;
use crate::tunable::{Encoder, Tunable};
use crate::unet::{Conditions, RawNetwork};

/// A network with its parameterisation, on a device.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    params: Params,
    net: RawNetwork,
    device: Device,
    /// Type that the network computes in; the parameterisation is always applied in f32.
    kind: Kind,
    /// What it is as a denoiser.
    spec: Spec,
    /// Samples evaluated at once without a graph.
    batch: usize,
    /// How its samples become images.
    pub(crate) codec: Codec,
    /// The processes that compute with it.
    pub(crate) ranks: Ranks,
    /// Classes that it was trained on, ascending, where some were not.
    trained_classes: Option<Vec<i64>>,
}

/// Samples that are evaluated at once where nothing else is asked for.
pub(crate) const BATCH: usize = 64;

impl Model {
    /// A network with fresh weights, the same for the same `seed`.
    pub fn fresh(config: ModelConfig, seed: u64, device: Device) -> Result<Self> {
        config.validate()?;
        let mut builder = Builder::new(Origin::Fresh(Stream::new(seed, Purpose::Weights, 0)), device);
        builder.buffers(&config)?;
        let net = RawNetwork::new(&mut builder, &config)?;
        Ok(Self::of(config, builder.finish()?, net, device))
    }

    /// A network with the weights of a checkpoint: tensors under the EDM code's names, all of them and no others.
    pub fn from_tensors(config: ModelConfig, tensors: BTreeMap<String, Tensor>, device: Device) -> Result<Self> {
        config.validate()?;
        for (name, tensor) in &tensors {
            if tensor.is_floating_point() && !tensor.isfinite().all().double_value(&[]).eq(&1.0) {
                return Err(Error::NotFinite { name: name.clone() });
            }
        }
        let mut builder = Builder::new(Origin::Loaded(tensors), device);
        builder.buffers(&config)?;
        let net = RawNetwork::new(&mut builder, &config)?;
        Ok(Self::of(config, builder.finish()?, net, device))
    }

    fn of(config: ModelConfig, params: Params, net: RawNetwork, device: Device) -> Self {
        let kind = Kind::Float;
        let side = config.img_resolution as usize;
        let spec = Spec {
            shape: vec![config.img_channels as usize, side, side],
            levels: Levels::from(&config.parameterisation),
            parameterisation: config.parameterisation.name(),
            classes: config.label_dim as usize,
            calls: 1,
            guidance: None,
            rounding: rounding(kind),
            identity: String::new(),
        };
        let codec = Codec::direct(&spec.shape, device);
        Self {
            config,
            params,
            net,
            device,
            kind,
            spec,
            batch: BATCH,
            codec,
            ranks: Ranks::alone(),
            trained_classes: None,
        }
    }

    /// A second network of the same architecture with the same weights, independent of this one.
    pub fn duplicate(&self) -> Result<Self> {
        let tensors = self.params.iter().map(|(name, param)| (name.to_owned(), param.tensor.detach().copy())).collect();
        let copy = Self::from_tensors(self.config.clone(), tensors, self.device)?;
        let copy = copy.with_kind(self.kind);
        let (codec, trained_classes) = (self.codec.clone(), self.trained_classes.clone());
        Ok(Self { batch: self.batch, codec, ranks: self.ranks.clone(), trained_classes, ..copy })
    }

    /// The description.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Type that the network computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Lets the network compute in `kind` (f32, bf16, f16). Weights stay in f32.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self.spec.rounding = rounding(kind);
        self
    }

    /// With so many samples evaluated at once where no graph is kept.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self.codec = self.codec.with_batch(batch);
        self
    }

    /// With samples that become images so.
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = codec.with_batch(self.batch);
        self
    }

    /// With these processes, each of which has a copy of its own.
    pub fn with_ranks(mut self, ranks: Ranks) -> Self {
        self.ranks = ranks;
        self
    }

    /// With this name in cache keys and plans, such as the hash of its file.
    pub fn with_identity(mut self, identity: &str) -> Self {
        self.spec.identity = identity.to_owned();
        self
    }

    /// What it is as a denoiser.
    pub(crate) fn spec_of(&self) -> &Spec {
        &self.spec
    }

    /// Samples evaluated at once without a graph.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Notes that the training images were of these classes alone: images whose class is drawn are of these.
    ///
    /// # Errors
    /// If there are none, or the model does not know one of them.
    pub fn with_trained_classes(mut self, mut classes: Vec<i64>) -> Result<Self> {
        self.one_hot(&classes)?;
        classes.sort_unstable();
        classes.dedup();
        let dim = self.config.label_dim;
        if classes.is_empty() || dim == 0 {
            return Err(Error::Input("a network is trained on one class at least".to_owned()));
        }
        self.trained_classes = Some(classes).filter(|classes| (classes.len() as i64) < dim);
        Ok(self)
    }

    /// Classes that the model was trained on, where it is known that some were not.
    pub fn trained_classes(&self) -> Option<&[i64]> {
        self.trained_classes.as_deref()
    }

    /// The class of each seed, evenly among those that the model was trained on.
    pub fn classes_of(&self, seeds: &[u64]) -> Vec<i64> {
        match &self.trained_classes {
            None => noise::classes(seeds, self.spec.classes),
            Some(trained) => noise::classes(seeds, trained.len()).into_iter().map(|at| trained[at as usize]).collect(),
        }
    }

    /// Shape of one image: channels, height, width.
    pub fn image_shape(&self) -> [i64; 3] {
        [self.config.img_channels, self.config.img_resolution, self.config.img_resolution]
    }

    /// D(x; sigma). `x`: `[N, C, H, W]` f32, `sigma`: `[N]` or `[1]`; returns `[N, C, H, W]` f32, differentiable in both and in the weights.
    ///
    /// # Errors
    /// If shapes do not fit, or memory does not suffice.
    pub fn denoise(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let Coefficients { c_skip, c_out, c_in, c_noise } = self.coefficients(sigma)?;
        let input = wide(&c_in)?.f_mul(x)?.f_to_kind(self.kind)?;
        let mut out = self.net.forward(&input, &c_noise, conditions)?.f_to_kind(Kind::Float)?;
        if out.size()[1] != self.config.img_channels {
            out = out.f_narrow(1, 0, self.config.img_channels)?; // iDDPM's variance channels
        }
        Ok(wide(&c_skip)?.f_mul(x)?.f_add(&wide(&c_out)?.f_mul(&out)?)?)
    }

    fn coefficients(&self, sigma: &Tensor) -> Result<Coefficients<Tensor>> {
        let sigma = sigma.f_to_kind(Kind::Float)?.f_to_device(self.device)?.f_reshape([-1])?;
        coefficients(&self.config.parameterisation, &sigma)
    }

    /// What the network's encoder makes of `x` under the noise `sigma`, as in [`Model::denoise`]: a map `[N, c, h, w]` f32 for each
    /// of its resolutions, finest first, differentiable in `x`. A mixture of Gaussians, which has no encoder, answers `c_in x`.
    ///
    /// # Errors
    /// As [`Model::denoise`].
    pub fn encoded(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Vec<Tensor>> {
        let Coefficients { c_in, c_noise, .. } = self.coefficients(sigma)?;
        let maps = self.net.encoded(&wide(&c_in)?.f_mul(x)?.f_to_kind(self.kind)?, &c_noise, conditions)?;
        maps.into_iter().map(|map| Ok(map.f_to_kind(Kind::Float)?)).collect()
    }

    /// u(sigma), the logarithm of the expected loss at `sigma` `[N]` (Karras et al. 2024, Eq. 22), of networks that predict it (EDM2's); `[N]`.
    ///
    /// # Errors
    /// As [`Model::denoise`].
    pub fn logvar(&self, sigma: &Tensor) -> Result<Option<Tensor>> {
        self.net.logvar(&self.coefficients(sigma)?.c_noise)
    }

    /// D(x; sigma) at one noise level for the whole batch, without a graph.
    ///
    /// # Errors
    /// As [`Model::denoise`].
    pub fn denoise_at(&self, x: &Tensor, sigma: f64, class_labels: Option<&Tensor>) -> Result<Tensor> {
        let conditions = Conditions { class_labels, ..Conditions::default() };
        let sigma = Tensor::f_from_slice(&[sigma])?.f_to_kind(Kind::Float)?;
        tch::no_grad(|| self.denoise(x, &sigma, &conditions))
    }

    /// One-hot labels `[N, label_dim]` for class indices; `None` for an unconditional model.
    pub fn one_hot(&self, classes: &[i64]) -> Result<Option<Tensor>> {
        let dim = self.config.label_dim;
        if dim == 0 {
            return Ok(None);
        }
        if let Some(class) = classes.iter().find(|class| !(0..dim).contains(*class)) {
            return Err(Error::Input(format!(
                "class {class} is out of range: the model knows classes 0 to {}",
                dim - 1
            )));
        }
        let labels = Tensor::f_from_slice(classes)?.f_one_hot(dim)?.f_to_kind(Kind::Float)?;
        Ok(Some(labels.f_to_device(self.device)?))
    }
}

impl Tunable for Model {
    fn params(&self) -> &Params {
        &self.params
    }

    fn forward(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        self.denoise(x, sigma, conditions)
    }

    fn parameterisation(&self) -> &Parameterisation {
        &self.config.parameterisation
    }

    fn description(&self) -> String {
        serde_json::to_string(&self.config).unwrap_or_default()
    }

    fn duplicate(&self) -> Result<Self> {
        Self::duplicate(self)
    }

    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(self.duplicate()?))
    }
}

impl Encoder for Model {
    fn encoded(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Vec<Tensor>> {
        Self::encoded(self, x, sigma, conditions)
    }
}

/// Relative rounding of numbers of this type.
pub(crate) fn rounding(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 2f64.powi(-8),
        Kind::Half => 2f64.powi(-11),
        Kind::Double => 2f64.powi(-53),
        _ => 2f64.powi(-24),
    }
}

/// A coefficient for every image, as images are multiplied by it.
fn wide(coefficient: &Tensor) -> Result<Tensor> {
    Ok(coefficient.f_reshape([-1, 1, 1, 1])?)
}
