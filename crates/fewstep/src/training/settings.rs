//! Settings of a training: what a settings file may say, with its defaults, and the network and the recipe that they mean.

use std::str::FromStr;

use fewstep_core::parameterisation::Parameterisation;
use fewstep_io::dataset::Dataset;
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::augment::{AUGMENT_DIM, AugmentConfig};
use fewstep_nn::config::{DhariwalConfig, Embedding, ModelConfig, NetworkConfig, PathKind, SongConfig};
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::train::{Loss, TrainConfig};
use fewstep_search::documented;
use serde::{Deserialize, Serialize};

use crate::data::DataSettings;
use crate::error::{Error, Result, ensure};
use crate::forecast::check_count;

documented! {
    /// How a network is trained from scratch; the defaults are the EDM recipe for CIFAR-10.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct TrainSettings {
        /// Training images.
        pub data: DataSettings,
        /// The network.
        pub network: NetworkSettings,
        /// How it learns.
        pub training: RecipeSettings,
        /// What is written on the way.
        pub output: OutputSettings,
    }

    /// The network, but for the images that it is for.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct NetworkSettings {
        /// Architecture: ddpmpp, ncsnpp or adm.
        pub architecture: Architecture,
        /// Preconditioning: edm, vp, ve or iddpm.
        #[serde(alias = "preconditioning")]
        pub parameterisation: ParameterisationName,
        /// Whether it is told each image's class.
        pub conditional: bool,
        /// Channels at the first level.
        pub channels: i64,
        /// Channel factor of each level.
        pub channel_mult: Vec<i64>,
        /// Residual blocks a level.
        pub blocks: i64,
        /// Resolutions with self-attention.
        pub attention: Vec<i64>,
        /// Dropout probability inside the blocks.
        pub dropout: f64,
        /// Probability of hiding the class, for guidance.
        pub label_dropout: f64,
    }

    /// How the network learns (Karras et al. 2022, Appendix F.1).
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct RecipeSettings {
        /// Training images to see in all.
        pub images: u64,
        /// Images an update.
        pub batch: usize,
        /// Images held by the graph at once; 0 for the batch.
        pub microbatch: usize,
        /// Learning rate after the ramp.
        pub learning_rate: f64,
        /// Images over which the learning rate rises.
        pub rampup_images: u64,
        /// Half-life of the weights' moving average, in images.
        pub ema_images: f64,
        /// The half-life is at most this share of the images seen; 0 for no ramp.
        pub ema_rampup: f64,
        /// Mean of ln sigma.
        pub p_mean: f64,
        /// Standard deviation of ln sigma.
        pub p_std: f64,
        /// Constants of the optimiser.
        pub adam: AdamConfig,
        /// Probability of the non-leaky augmentations; 0 for none.
        pub augment: f64,
        /// Whether images are mirrored at random.
        pub xflip: bool,
        /// Seed of weights, data order and noise.
        pub seed: u64,
    }

    /// What is written on the way.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct OutputSettings {
        /// Images between two saved states; 0 for none but the last.
        pub save_every: u64,
        /// Images between two sample grids; 0 for none, a tenth of all where nothing is said.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub grid_every: Option<u64>,
        /// Whether the model's weights are stored as f16.
        pub half: bool,
    }
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            architecture: Architecture::Ddpmpp,
            parameterisation: ParameterisationName::Edm,
            conditional: false,
            channels: 128,
            channel_mult: vec![2, 2, 2],
            blocks: 4,
            attention: vec![16],
            dropout: 0.13,
            label_dropout: 0.0,
        }
    }
}

impl Default for RecipeSettings {
    fn default() -> Self {
        Self {
            images: 200_000_000,
            batch: 512,
            microbatch: 0,
            learning_rate: 1e-3,
            rampup_images: 10_000_000,
            ema_images: 500_000.0,
            ema_rampup: 0.05,
            p_mean: -1.2,
            p_std: 1.2,
            adam: AdamConfig::default(),
            augment: 0.12,
            xflip: false,
            seed: 0,
        }
    }
}

impl Default for OutputSettings {
    fn default() -> Self {
        Self { save_every: 100_000, grid_every: None, half: false }
    }
}

/// Networks of Karras et al. 2022.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// DDPM++ (Song et al. 2021).
    Ddpmpp,
    /// NCSN++ (Song et al. 2021).
    Ncsnpp,
    /// ADM (Dhariwal and Nichol 2021).
    Adm,
}

/// The parameterisations of Karras et al. 2022, Table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterisationName {
    /// EDM's own.
    Edm,
    /// Variance preserving.
    Vp,
    /// Variance exploding.
    Ve,
    /// Improved DDPM.
    Iddpm,
}

/// Most images that a training may be asked to see: far beyond any, and small enough to count with.
pub(super) const MOST_IMAGES: u64 = 1_000_000_000_000_000;

macro_rules! named {
    ($($type:ty: $what:literal, $names:literal);* $(;)?) => {$(
        /// By its name in settings.
        impl FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                let named = serde_json::from_value(serde_json::Value::from(name));
                named.map_err(|_| Error::Input(format!("there is no {} '{name}': there are {}", $what, $names)))
            }
        }
    )*};
}

named! {
    Architecture: "architecture", "ddpmpp, ncsnpp and adm";
    ParameterisationName: "parameterisation", "edm, vp, ve and iddpm";
}

impl TrainSettings {
    /// The network for the images of `dataset`.
    ///
    /// # Errors
    /// If the images are not square, lack labels that are asked for, a setting is outside its domain, or there is no such network.
    pub fn model_config(&self, dataset: &Dataset) -> Result<ModelConfig> {
        let NetworkSettings { conditional, dropout, label_dropout, .. } = self.network;
        let (height, width) = dataset.resolution();
        ensure!(
            height == width,
            "the images are {width}x{height}, and square ones are needed: `fewstep data` cuts and resizes pictures, --pad-to adds a border"
        );
        let label_dim = if conditional { dataset.num_classes() as i64 } else { 0 };
        ensure!(
            !conditional || label_dim > 0,
            "a class-conditional network needs labels, and the data set {} has none",
            dataset.name()
        );
        let RecipeSettings { images, batch, learning_rate, ema_images, augment, .. } = self.training;
        ensure!(images <= MOST_IMAGES, "the setting training.images must be at most {MOST_IMAGES}, not {images}");
        check_count("training.batch", batch as u64, 1)?;
        ensure!(
            learning_rate > 0.0 && learning_rate.is_finite(),
            "the setting training.learning_rate must be a finite number above 0, not {learning_rate}"
        );
        ensure!(
            ema_images >= 0.0 && ema_images.is_finite(),
            "the setting training.ema_images must be a finite number of at least 0, not {ema_images}"
        );
        ensure!((0.0..1.0).contains(&dropout), "the dropout must be at least 0 and below 1, not {dropout}");
        ensure!((0.0..=1.0).contains(&label_dropout), "the label dropout must be from 0 to 1, not {label_dropout}");
        ensure!((0.0..=1.0).contains(&augment), "the probability of augmentations must be from 0 to 1, not {augment}");
        let config = ModelConfig {
            img_resolution: height as i64,
            img_channels: dataset.channels() as i64,
            label_dim,
            use_fp16: false,
            parameterisation: self.parameterisation(),
            network: self.network_config(),
        };
        config.validate()?;
        Ok(config)
    }

    /// The network's parameterisation.
    pub fn parameterisation(&self) -> Parameterisation {
        match self.network.parameterisation {
            ParameterisationName::Edm => Parameterisation::EDM,
            ParameterisationName::Vp => Parameterisation::VP,
            ParameterisationName::Ve => Parameterisation::VE,
            ParameterisationName::Iddpm => Parameterisation::IDDPM,
        }
    }

    fn network_config(&self) -> NetworkConfig {
        let augment_dim = if self.training.augment > 0.0 { AUGMENT_DIM } else { 0 };
        let network = &self.network;
        if network.architecture == Architecture::Adm {
            return NetworkConfig::DhariwalUNet(DhariwalConfig {
                augment_dim,
                model_channels: network.channels,
                channel_mult: network.channel_mult.clone(),
                num_blocks: network.blocks,
                attn_resolutions: network.attention.clone(),
                dropout: network.dropout,
                label_dropout: network.label_dropout,
                ..DhariwalConfig::default()
            });
        }
        let ncsnpp = network.architecture == Architecture::Ncsnpp;
        NetworkConfig::SongUNet(SongConfig {
            augment_dim,
            model_channels: network.channels,
            channel_mult: network.channel_mult.clone(),
            num_blocks: network.blocks,
            attn_resolutions: network.attention.clone(),
            dropout: network.dropout,
            label_dropout: network.label_dropout,
            embedding_type: if ncsnpp { Embedding::Fourier } else { Embedding::Positional },
            channel_mult_noise: if ncsnpp { 2 } else { 1 },
            encoder_type: if ncsnpp { PathKind::Residual } else { PathKind::Standard },
            resample_filter: if ncsnpp { vec![1, 3, 3, 1] } else { vec![1, 1] },
            ..SongConfig::default()
        })
    }

    /// The recipe.
    pub fn train_config(&self) -> TrainConfig {
        let recipe = &self.training;
        TrainConfig {
            batch: recipe.batch,
            microbatch: if recipe.microbatch == 0 { recipe.batch } else { recipe.microbatch },
            learning_rate: recipe.learning_rate,
            rampup_images: recipe.rampup_images,
            decay_images: None,
            adam: recipe.adam,
            ema: EmaConfig {
                halflife_images: recipe.ema_images,
                rampup_ratio: (recipe.ema_rampup > 0.0).then_some(recipe.ema_rampup),
            },
            loss: Loss::LogNormal { p_mean: recipe.p_mean, p_std: recipe.p_std },
            augment: (recipe.augment > 0.0).then(|| AugmentConfig::edm(recipe.augment)),
            xflip: recipe.xflip,
            seed: recipe.seed,
        }
    }

    /// Images between two sample grids; 0 for none.
    pub fn grid_every(&self) -> u64 {
        self.output.grid_every.unwrap_or_else(|| self.training.images.div_ceil(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_edm_recipe() {
        let config = TrainSettings::default().train_config();
        assert_eq!((config.loss, config.microbatch), (Loss::EDM, config.batch));
        assert_eq!(config.ema.rampup_ratio, Some(0.05));
    }

    #[test]
    fn networks_go_by_name() {
        assert_eq!("ncsnpp".parse::<Architecture>().unwrap(), Architecture::Ncsnpp);
        assert_eq!("iddpm".parse::<ParameterisationName>().unwrap(), ParameterisationName::Iddpm);
        let error = "ddpm".parse::<Architecture>().unwrap_err().to_string();
        assert!(error.contains("'ddpm'") && error.contains("ddpmpp, ncsnpp"), "{error}");
    }
}
