//! The architecture that the tool comes with, for the examples that measure it.

use fewstep_core::parameterisation::Parameterisation;
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::tch::{Device, Kind};
use fewstep_nn::{Model, Result};

/// Height and width of its images.
pub const RESOLUTION: usize = 32;

/// DDPM++ with 32 channels for grey images, with fresh weights.
pub fn network(dropout: f64, kind: Kind) -> Result<Model> {
    let song = SongConfig {
        model_channels: 32,
        channel_mult: vec![1, 2, 2],
        num_blocks: 2,
        attn_resolutions: vec![8],
        dropout,
        ..SongConfig::default()
    };
    let config = ModelConfig {
        img_resolution: RESOLUTION as i64,
        img_channels: 1,
        label_dim: 0,
        use_fp16: false,
        parameterisation: Parameterisation::EDM,
        network: NetworkConfig::SongUNet(song),
    };
    Ok(Model::fresh(config, 0, Device::Cpu)?.with_kind(kind))
}
