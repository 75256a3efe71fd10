//! What can be typed after `fewstep train`, and the configuration that it means.

use anyhow::{Result, ensure};
use fewstep_core::precondition::Preconditioning;
use fewstep_io::dataset::Dataset;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::augment::{AUGMENT_DIM, AugmentConfig};
use fewstep_nn::config::{DhariwalConfig, Embedding, ModelConfig, NetworkConfig, PathKind, SongConfig};
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::train::{Loss, TrainConfig};

use crate::inputs::{Compute, DataArgs};
use crate::runs::RunArgs;

/// Arguments of `fewstep train`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fewstep train --data fashion-mnist/ --pad-to 32 --out runs/fashion --channels 32 --channel-mult 1,2,2 --blocks 2 --attention 8 --images 500000"
)]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub run: RunArgs,

    /// Network: ddpmpp, ncsnpp or adm
    #[arg(long, value_name = "NAME", default_value = "ddpmpp", help_heading = "Network")]
    pub arch: Arch,
    /// Preconditioning: edm, vp, ve or iddpm
    #[arg(long, value_name = "NAME", default_value = "edm", help_heading = "Network")]
    pub precond: Precond,
    /// Class-conditional: the network is told each image's label
    #[arg(long, help_heading = "Network")]
    pub cond: bool,
    /// Channels at the first level
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Network")]
    pub channels: i64,
    /// Channel factor of each level
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "2,2,2", help_heading = "Network")]
    pub channel_mult: Vec<i64>,
    /// Residual blocks a level
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Network")]
    pub blocks: i64,
    /// Resolutions with self-attention
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "16", help_heading = "Network")]
    pub attention: Vec<i64>,
    /// Dropout probability
    #[arg(long, value_name = "P", default_value_t = 0.13, help_heading = "Network")]
    pub dropout: f64,
    /// Probability of hiding the label, for guidance
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Network")]
    pub label_dropout: f64,

    /// Training images to see in all
    #[arg(long, value_name = "N", default_value_t = 200_000_000, help_heading = "Training", value_parser = clap::value_parser!(u64).range(1..))]
    pub images: u64,
    /// Images an update
    #[arg(long, value_name = "N", default_value_t = 512, help_heading = "Training")]
    pub batch: usize,
    /// Images held by the graph at once [default: the batch]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub microbatch: Option<usize>,
    /// Learning rate after the ramp
    #[arg(long, value_name = "RATE", default_value_t = 1e-3, help_heading = "Training")]
    pub lr: f64,
    /// Images over which the learning rate rises
    #[arg(long, value_name = "N", default_value_t = 10_000_000, help_heading = "Training")]
    pub lr_rampup: u64,
    /// Half-life of the weights' moving average, in images
    #[arg(long, value_name = "N", default_value_t = 500_000.0, help_heading = "Training")]
    pub ema: f64,
    /// The half-life is at most this share of the images seen; 0 for no ramp
    #[arg(long, value_name = "RATIO", default_value_t = 0.05, help_heading = "Training")]
    pub ema_rampup: f64,
    /// Probability of the non-leaky augmentations; 0 for none
    #[arg(long, value_name = "P", default_value_t = 0.12, help_heading = "Training")]
    pub augment: f64,
    /// Mirror images at random (only where a mirror image is as likely)
    #[arg(long, help_heading = "Training")]
    pub xflip: bool,
    /// Seed of weights, data order and noise
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Training")]
    pub seed: u64,

    /// Images between two saved states; 0 for none but the last
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Output")]
    pub save_every: u64,
    /// Images between two sample grids; 0 for none [default: a tenth of --images]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub grid_every: Option<u64>,
    /// Store the model's weights as f16
    #[arg(long, help_heading = "Output")]
    pub half: bool,

    #[command(flatten)]
    pub compute: Compute,
}

/// Networks of the EDM paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// DDPM++
    Ddpmpp,
    /// NCSN++
    Ncsnpp,
    /// ADM
    Adm,
}

/// Preconditionings of the EDM paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precond {
    /// Karras et al. 2022
    Edm,
    /// Variance preserving
    Vp,
    /// Variance exploding
    Ve,
    /// Improved DDPM
    Iddpm,
}

impl Args {
    /// Images between two sample grids; 0 for none.
    pub fn grid_every(&self) -> u64 {
        self.grid_every.unwrap_or_else(|| self.images.div_ceil(10))
    }

    /// The network for `dataset`.
    pub fn model_config(&self, dataset: &Dataset) -> Result<ModelConfig> {
        let (height, width) = dataset.resolution();
        ensure!(
            height == width,
            "the images are {width}x{height}, and square ones are needed: `fewstep data` cuts and resizes pictures, --pad-to adds a border"
        );
        let label_dim = if self.cond { dataset.num_classes() as i64 } else { 0 };
        ensure!(!self.cond || label_dim > 0, "--cond needs labels, and the data set {} has none", dataset.name());
        ensure!(self.batch >= 1, "--batch must be at least 1");
        ensure!((0.0..1.0).contains(&self.dropout), "--dropout must be at least 0 and below 1");
        ensure!((0.0..=1.0).contains(&self.augment), "--augment must be from 0 to 1");
        let precond = match self.precond {
            Precond::Edm => Preconditioning::EDM,
            Precond::Vp => Preconditioning::VP,
            Precond::Ve => Preconditioning::VE,
            Precond::Iddpm => Preconditioning::IDDPM,
        };
        let config = ModelConfig {
            img_resolution: height as i64,
            img_channels: dataset.channels() as i64,
            label_dim,
            use_fp16: false,
            precond,
            network: self.network(),
        };
        config.validate()?;
        Ok(config)
    }

    fn network(&self) -> NetworkConfig {
        let augment_dim = if self.augment > 0.0 { AUGMENT_DIM } else { 0 };
        if self.arch == Arch::Adm {
            return NetworkConfig::DhariwalUNet(DhariwalConfig {
                augment_dim,
                model_channels: self.channels,
                channel_mult: self.channel_mult.clone(),
                num_blocks: self.blocks,
                attn_resolutions: self.attention.clone(),
                dropout: self.dropout,
                label_dropout: self.label_dropout,
                ..DhariwalConfig::default()
            });
        }
        let ncsnpp = self.arch == Arch::Ncsnpp;
        NetworkConfig::SongUNet(SongConfig {
            augment_dim,
            model_channels: self.channels,
            channel_mult: self.channel_mult.clone(),
            num_blocks: self.blocks,
            attn_resolutions: self.attention.clone(),
            dropout: self.dropout,
            label_dropout: self.label_dropout,
            embedding_type: if ncsnpp { Embedding::Fourier } else { Embedding::Positional },
            channel_mult_noise: if ncsnpp { 2 } else { 1 },
            encoder_type: if ncsnpp { PathKind::Residual } else { PathKind::Standard },
            resample_filter: if ncsnpp { vec![1, 3, 3, 1] } else { vec![1, 1] },
            ..SongConfig::default()
        })
    }

    /// The recipe.
    pub fn train_config(&self) -> TrainConfig {
        TrainConfig {
            batch: self.batch,
            microbatch: self.microbatch.unwrap_or(self.batch),
            learning_rate: self.lr,
            rampup_images: self.lr_rampup,
            decay_images: None,
            adam: AdamConfig::default(),
            ema: EmaConfig {
                halflife_images: self.ema,
                rampup_ratio: (self.ema_rampup > 0.0).then_some(self.ema_rampup),
            },
            loss: Loss::EDM,
            augment: (self.augment > 0.0).then(|| AugmentConfig::edm(self.augment)),
            xflip: self.xflip,
            seed: self.seed,
        }
    }
}
