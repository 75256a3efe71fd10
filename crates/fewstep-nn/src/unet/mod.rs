//! The U-Nets of Karras et al. 2022, DDPM++ and NCSN++ (`song`) and ADM (`dhariwal`), and of 2024, EDM2 (`edm2`); and a mixture of Gaussians
//! in their place.

mod block;
mod dhariwal;
mod edm2;
mod layers;
mod mixture;
mod song;

use fewstep_core::noise;
use tch::{Device, Tensor};

use crate::config::{ModelConfig, NetworkConfig};
use crate::error::Result;
use crate::params::Builder;
use crate::random::{MaskSeed, Purpose, Stream};

/// What conditions the network besides the noise level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// One-hot (or soft) class labels `[N or 1, label_dim]`; `None` stands for the unconditional label, all zeros.
    pub class_labels: Option<&'a Tensor>,
    /// Augmentation parameters `[N, augment_dim]`, training only.
    pub augment_labels: Option<&'a Tensor>,
    /// Seed of the dropout of units and labels, in training; otherwise nothing is dropped.
    pub train: Option<MaskSeed>,
}

/// The seeds of what one pass through a network drops, one after the other.
struct Masks {
    seed: Option<MaskSeed>,
    count: u64,
}

impl Masks {
    fn of(conditions: &Conditions) -> Self {
        Self { seed: conditions.train, count: 0 }
    }

    /// The next one; none where nothing is dropped.
    fn next(&mut self) -> Option<MaskSeed> {
        self.count += 1;
        self.seed.map(|mask| MaskSeed { seed: noise::mix(mask.seed, self.count), ..mask })
    }
}

/// A network F(x; c_noise) of any supported kind.
#[derive(Debug)]
pub enum RawNetwork {
    /// DDPM++ or NCSN++.
    Song(song::SongUNet),
    /// ADM.
    Dhariwal(dhariwal::DhariwalUNet),
    /// EDM2.
    Edm2(Box<edm2::Edm2UNet>),
    /// A mixture of Gaussians, which is no U-Net.
    Mixture(mixture::Mixture),
}

impl RawNetwork {
    /// Builds the network that `config` describes, under the name `model`.
    pub fn new(b: &mut Builder, config: &ModelConfig) -> Result<Self> {
        match &config.network {
            NetworkConfig::SongUNet(song) => Ok(Self::Song(song::SongUNet::new(b, "model", config, song)?)),
            NetworkConfig::DhariwalUNet(adm) => {
                Ok(Self::Dhariwal(dhariwal::DhariwalUNet::new(b, "model", config, adm)?))
            }
            NetworkConfig::Edm2UNet(edm2) => Ok(Self::Edm2(Box::new(edm2::Edm2UNet::new(b, config, edm2)?))),
            NetworkConfig::GaussianMixture(mixture) => Ok(Self::Mixture(mixture::Mixture::new(b, config, mixture)?)),
        }
    }

    /// `x`: `[N, C, H, W]`, `c_noise`: `[N or 1]`; returns `[N, out, H, W]` in the type of `x`.
    pub fn forward(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        match self {
            Self::Song(net) => net.forward(x, c_noise, conditions),
            Self::Dhariwal(net) => net.forward(x, c_noise, conditions),
            Self::Edm2(net) => net.forward(x, c_noise, conditions),
            Self::Mixture(net) => net.forward(x, c_noise, conditions),
        }
    }

    /// The logarithm of the expected loss, as EDM2's networks predict it for their training: `c_noise` `[N]`; returns `[N]`. Others do not.
    pub fn logvar(&self, c_noise: &Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::Edm2(net) => net.logvar(c_noise).map(Some),
            Self::Song(_) | Self::Dhariwal(_) | Self::Mixture(_) => Ok(None),
        }
    }

    /// What the encoder makes of `x` at each of its resolutions, `[N, c, h, w]` each, finest first. A mixture has none: `x`
    /// itself.
    pub fn encoded(&self, x: &Tensor, c_noise: &Tensor, conditions: &Conditions) -> Result<Vec<Tensor>> {
        let maps = match self {
            Self::Song(net) => net.encoded(x, c_noise, conditions)?,
            Self::Dhariwal(net) => net.encoded(x, c_noise, conditions)?,
            Self::Edm2(net) => net.encoded(x, c_noise, conditions)?,
            Self::Mixture(_) => return Ok(vec![x.shallow_clone()]),
        };
        let last_at_its_size = |k: &usize| maps.get(k + 1).is_none_or(|next| next.size()[2] != maps[*k].size()[2]);
        Ok((0..maps.len()).filter(last_at_its_size).map(|k| maps[k].shallow_clone()).collect())
    }
}

/// Hides each sample's label with probability `p` where there is a `seed` (classifier-free guidance).
fn drop_labels(labels: &Tensor, p: f64, seed: Option<MaskSeed>) -> Result<Tensor> {
    match seed {
        Some(MaskSeed { seed, rows }) if p > 0.0 => {
            let mut stream = Stream::new(seed, Purpose::LabelDropout, 0).rows(rows);
            let drawn = stream.uniform(&[labels.size()[0], 1], Device::Cpu);
            let keep = drawn.f_to_device(labels.device())?.f_ge(p)?;
            Ok(labels.f_mul(&keep.f_to_kind(labels.kind())?)?)
        }
        _ => Ok(labels.shallow_clone()),
    }
}
