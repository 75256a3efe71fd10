//! What the tests share.

use std::sync::{Mutex, MutexGuard};

use fewstep_core::precondition::Preconditioning;
use fewstep_nn::Model;
use fewstep_nn::augment::AUGMENT_DIM;
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::tch::Device;

/// libtorch's generator is one for the whole process: tests that draw from it take turns. One thread: the networks are tiny.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    fewstep_nn::device::set_threads(1);
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A network small enough for a test.
pub fn small(label_dim: i64) -> Model {
    let song = SongConfig {
        augment_dim: AUGMENT_DIM,
        model_channels: 8,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        ..SongConfig::default()
    };
    let config = ModelConfig {
        img_resolution: 8,
        img_channels: 1,
        label_dim,
        use_fp16: false,
        precond: Preconditioning::EDM,
        network: NetworkConfig::SongUNet(song),
    };
    Model::fresh(config, 1, Device::Cpu).unwrap()
}
