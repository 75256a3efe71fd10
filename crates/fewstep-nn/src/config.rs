//! The description of a network: everything that its tensors' names and shapes follow from.
//!
//! Field names are the constructor arguments of the EDM code, so that a description reads the same
//! in a snapshot, in our files and in Python.

use fewstep_core::parameterisation::Parameterisation;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::error::{Error, Result};
use crate::params::{Builder, Origin};
use crate::unet::RawNetwork;

/// A denoiser D(x; sigma): image format, parameterisation and U-Net.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Height and width in pixels.
    pub img_resolution: i64,
    /// Colour channels.
    pub img_channels: i64,
    /// Number of classes, 0 for an unconditional model.
    pub label_dim: i64,
    /// Whether the snapshot asks for a half-precision network on a GPU.
    #[serde(default)]
    pub use_fp16: bool,
    /// What the network inside answers and is told; `precond` in files, as in the EDM code.
    #[serde(rename = "precond")]
    pub parameterisation: Parameterisation,
    /// The network inside.
    pub network: NetworkConfig,
}

/// The U-Nets of Karras et al. 2022 and 2024, and a mixture whose denoiser is known exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type")]
pub enum NetworkConfig {
    /// DDPM++ and NCSN++ (Song et al. 2021).
    SongUNet(SongConfig),
    /// ADM (Dhariwal and Nichol 2021).
    DhariwalUNet(DhariwalConfig),
    /// EDM2 (Karras et al. 2024).
    Edm2UNet(Edm2Config),
    /// A mixture of isotropic Gaussians (`unet/mixture.rs`).
    GaussianMixture(MixtureConfig),
}

/// How the noise level enters the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embedding {
    /// Sinusoids of geometric frequencies (DDPM++).
    Positional,
    /// Sinusoids of random frequencies (NCSN++).
    Fourier,
}

/// How the input image reaches the deeper levels of the encoder, or the output those of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// Through the blocks alone.
    Standard,
    /// A resampled copy is added at each level.
    Skip,
    /// A learned downsampling path is added at each level (encoder only).
    Residual,
}

/// Constructor arguments of `SongUNet`; defaults as in the EDM code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SongConfig {
    /// Size of the augmentation label, 0 for none.
    pub augment_dim: i64,
    /// Channels at the first level.
    pub model_channels: i64,
    /// Channel factor of each level.
    pub channel_mult: Vec<i64>,
    /// Size of the embedding relative to `model_channels`.
    pub channel_mult_emb: i64,
    /// Residual blocks a level.
    pub num_blocks: i64,
    /// Resolutions with self-attention.
    pub attn_resolutions: Vec<i64>,
    /// Dropout probability inside the blocks.
    pub dropout: f64,
    /// Probability of hiding the class label in training.
    pub label_dropout: f64,
    /// Noise-level embedding.
    pub embedding_type: Embedding,
    /// Size of the noise embedding relative to `model_channels`.
    pub channel_mult_noise: i64,
    /// Encoder architecture.
    pub encoder_type: PathKind,
    /// Decoder architecture (standard or skip).
    pub decoder_type: PathKind,
    /// Separable resampling filter: `[1, 1]` or `[1, 3, 3, 1]`.
    pub resample_filter: Vec<i64>,
}

impl Default for SongConfig {
    fn default() -> Self {
        Self {
            augment_dim: 0,
            model_channels: 128,
            channel_mult: vec![1, 2, 2, 2],
            channel_mult_emb: 4,
            num_blocks: 4,
            attn_resolutions: vec![16],
            dropout: 0.10,
            label_dropout: 0.0,
            embedding_type: Embedding::Positional,
            channel_mult_noise: 1,
            encoder_type: PathKind::Standard,
            decoder_type: PathKind::Standard,
            resample_filter: vec![1, 1],
        }
    }
}

/// Constructor arguments of `DhariwalUNet`; defaults as in the EDM code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DhariwalConfig {
    /// Size of the augmentation label, 0 for none.
    pub augment_dim: i64,
    /// Channels at the first level.
    pub model_channels: i64,
    /// Channel factor of each level.
    pub channel_mult: Vec<i64>,
    /// Size of the embedding relative to `model_channels`.
    pub channel_mult_emb: i64,
    /// Residual blocks a level.
    pub num_blocks: i64,
    /// Resolutions with self-attention.
    pub attn_resolutions: Vec<i64>,
    /// Dropout probability inside the blocks.
    pub dropout: f64,
    /// Probability of hiding the class label in training.
    pub label_dropout: f64,
}

impl Default for DhariwalConfig {
    fn default() -> Self {
        Self {
            augment_dim: 0,
            model_channels: 192,
            channel_mult: vec![1, 2, 3, 4],
            channel_mult_emb: 4,
            num_blocks: 3,
            attn_resolutions: vec![32, 16, 8],
            dropout: 0.10,
            label_dropout: 0.0,
        }
    }
}

/// Constructor arguments of EDM2's `Precond`, its `UNet` and `Block`; defaults as in the EDM2 code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Edm2Config {
    /// Channels at the first level.
    pub model_channels: i64,
    /// Channel factor of each level.
    pub channel_mult: Vec<i64>,
    /// Size of the noise embedding relative to `model_channels`; the first level's factor unless given.
    pub channel_mult_noise: Option<i64>,
    /// Size of the embedding relative to `model_channels`; the largest factor unless given.
    pub channel_mult_emb: Option<i64>,
    /// Residual blocks a level.
    pub num_blocks: i64,
    /// Resolutions with self-attention.
    pub attn_resolutions: Vec<i64>,
    /// Weight of the class embedding beside the noise embedding, 0 to 1.
    pub label_balance: f64,
    /// Weight of the skip connections beside the main path, 0 to 1.
    pub concat_balance: f64,
    /// Separable resampling filter: `[1, 1]` or `[1, 3, 3, 1]`.
    pub resample_filter: Vec<i64>,
    /// Channels of an attention head.
    pub channels_per_head: i64,
    /// Dropout probability inside the blocks.
    pub dropout: f64,
    /// Weight of a block's residual branch beside its main path, 0 to 1.
    pub res_balance: f64,
    /// Weight of a block's attention beside its main path, 0 to 1.
    pub attn_balance: f64,
    /// Activations are clipped to this size; not at all without.
    pub clip_act: Option<f64>,
    /// Features of the noise level that the expected loss is predicted from.
    pub logvar_channels: i64,
}

impl Default for Edm2Config {
    fn default() -> Self {
        Self {
            model_channels: 192,
            channel_mult: vec![1, 2, 3, 4],
            channel_mult_noise: None,
            channel_mult_emb: None,
            num_blocks: 3,
            attn_resolutions: vec![16, 8],
            label_balance: 0.5,
            concat_balance: 0.5,
            resample_filter: vec![1, 1],
            channels_per_head: 64,
            dropout: 0.0,
            res_balance: 0.3,
            attn_balance: 0.3,
            clip_act: Some(256.0),
            logvar_channels: 128,
        }
    }
}

/// A mixture of isotropic Gaussians, under EDM's parameterisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixtureConfig {
    /// Number of Gaussians; of a class-conditional mixture each is a class.
    pub components: i64,
}

impl NetworkConfig {
    /// Size of the augmentation label, 0 for none.
    pub fn augment_dim(&self) -> i64 {
        match self {
            Self::SongUNet(song) => song.augment_dim,
            Self::DhariwalUNet(adm) => adm.augment_dim,
            Self::Edm2UNet(_) | Self::GaussianMixture(_) => 0,
        }
    }
}

/// No published network comes near these; a file that asks for more is damaged or hostile.
const MAX_CHANNELS: i64 = 8192;
const MAX_BLOCKS: i64 = 64;
const MAX_RESOLUTION: i64 = 4096;
const MAX_NUMBERS: i64 = 10_000_000_000;

impl ModelConfig {
    /// Checks that a network can be built from this and run, before anything is allocated.
    ///
    /// # Errors
    /// [`Error::Architecture`] with the first rule that is broken: sizes here, and by an outline of the network whatever its
    /// layers need.
    pub fn validate(&self) -> Result<()> {
        self.validate_numbers()?;
        let mut outline = Builder::new(Origin::Outline, Device::Cpu);
        RawNetwork::new(&mut outline, self)?;
        if outline.numbers() > MAX_NUMBERS {
            let billions = outline.numbers() as f64 / 1e9;
            return Err(Error::Architecture(format!(
                "it would have {billions:.0} billion weights, and more than {} are taken for a mistake",
                MAX_NUMBERS / 1_000_000_000
            )));
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Architecture(what));
        if !(1..=MAX_RESOLUTION).contains(&self.img_resolution) {
            return fail(format!("img_resolution is {}, expected 1 to {MAX_RESOLUTION}", self.img_resolution));
        }
        if !(1..=64).contains(&self.img_channels) || !(0..=1_000_000).contains(&self.label_dim) {
            return fail(format!("img_channels is {} and label_dim is {}", self.img_channels, self.label_dim));
        }
        self.parameterisation.validate().map_err(|error| Error::Architecture(error.to_string()))?;
        match &self.network {
            NetworkConfig::SongUNet(song) => {
                validate_dropout([song.dropout, song.label_dropout])?;
                self.validate_sizes(&song.channel_mult, [song.model_channels, song.channel_mult_emb, song.num_blocks])?;
                song.validate()?;
            }
            NetworkConfig::DhariwalUNet(adm) => {
                validate_dropout([adm.dropout, adm.label_dropout])?;
                self.validate_sizes(&adm.channel_mult, [adm.model_channels, adm.channel_mult_emb, adm.num_blocks])?;
            }
            NetworkConfig::Edm2UNet(edm2) => {
                validate_dropout([edm2.dropout, 0.0])?;
                let mult_emb = edm2.channel_mult_emb.unwrap_or(1);
                self.validate_sizes(&edm2.channel_mult, [edm2.model_channels, mult_emb, edm2.num_blocks])?;
                edm2.validate()?;
                if !matches!(self.parameterisation, Parameterisation::Edm { .. }) {
                    return fail("a network of EDM2 has EDM's parameterisation and no other".to_owned());
                }
            }
            NetworkConfig::GaussianMixture(MixtureConfig { components }) => {
                if !(1..=100_000).contains(components) || (self.label_dim != 0 && self.label_dim != *components) {
                    return fail(format!("a mixture of {components} components with label_dim {}", self.label_dim));
                }
                if !matches!(self.parameterisation, Parameterisation::Edm { .. }) {
                    return fail("a mixture has EDM's parameterisation and no other".to_owned());
                }
            }
        }
        if !(0..=4096).contains(&self.network.augment_dim()) {
            return fail(format!("augment_dim is {}", self.network.augment_dim()));
        }
        Ok(())
    }

    /// Checks the sizes that all U-Nets have: channel factors; channels, factor of the embedding, blocks.
    fn validate_sizes(&self, levels: &[i64], [channels, mult_emb, blocks]: [i64; 3]) -> Result<()> {
        let fail = |what: String| Err(Error::Architecture(what));
        if levels.is_empty() || levels.len() > 16 || levels.iter().any(|mult| !(1..=64).contains(mult)) {
            return fail(format!("channel_mult is {levels:?}, expected 1 to 16 positive factors"));
        }
        if self.img_resolution % (1 << (levels.len() - 1)) != 0 {
            return fail(format!("img_resolution {} cannot be halved {} times", self.img_resolution, levels.len() - 1));
        }
        if !(1..=MAX_CHANNELS).contains(&channels)
            || !(1..=64).contains(&mult_emb)
            || !(1..=MAX_BLOCKS).contains(&blocks)
        {
            return fail(format!(
                "model_channels is {channels} (1 to {MAX_CHANNELS}), channel_mult_emb {mult_emb} (1 to 64), num_blocks {blocks} \
                 (1 to {MAX_BLOCKS})"
            ));
        }
        Ok(())
    }

    /// Channels that leave the network: iDDPM's also predict a variance, which the denoiser drops.
    pub fn out_channels(&self) -> i64 {
        match self.parameterisation {
            Parameterisation::Iddpm { .. } => 2 * self.img_channels,
            _ => self.img_channels,
        }
    }
}

/// Checks the probabilities of dropping units and labels.
fn validate_dropout(probabilities: [f64; 2]) -> Result<()> {
    if probabilities.iter().all(|p| (0.0..=1.0).contains(p)) {
        return Ok(());
    }
    let [dropout, label_dropout] = probabilities;
    Err(Error::Architecture(format!("dropout is {dropout} and label_dropout {label_dropout}, expected 0 to 1")))
}

fn validate_filter(filter: &[i64]) -> Result<()> {
    match filter {
        [1, 1] | [1, 3, 3, 1] => Ok(()),
        _ => Err(Error::Architecture(format!("resample_filter is {filter:?}, expected [1, 1] or [1, 3, 3, 1]"))),
    }
}

impl Edm2Config {
    fn validate(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Architecture(what));
        validate_filter(&self.resample_filter)?;
        for (name, balance) in [
            ("label_balance", self.label_balance),
            ("concat_balance", self.concat_balance),
            ("res_balance", self.res_balance),
            ("attn_balance", self.attn_balance),
        ] {
            if !(0.0..=1.0).contains(&balance) {
                return fail(format!("{name} is {balance}, expected 0 to 1"));
            }
        }
        if self.clip_act.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return fail(format!("clip_act is {:?}, expected a positive number or none", self.clip_act));
        }
        for (name, value, most) in [
            ("channel_mult_noise", self.channel_mult_noise.unwrap_or(1), 64),
            ("channels_per_head", self.channels_per_head, MAX_CHANNELS),
            ("logvar_channels", self.logvar_channels, MAX_CHANNELS),
        ] {
            if !(1..=most).contains(&value) {
                return fail(format!("{name} is {value}, expected 1 to {most}"));
            }
        }
        Ok(())
    }
}

impl SongConfig {
    fn validate(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Architecture(what));
        if self.decoder_type == PathKind::Residual {
            return fail("decoder_type 'residual' does not exist".to_owned());
        }
        validate_filter(&self.resample_filter)?;
        if !(1..=8).contains(&self.channel_mult_noise) {
            return fail(format!("channel_mult_noise is {}", self.channel_mult_noise));
        }
        Ok(())
    }
}
