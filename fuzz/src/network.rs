//! The small network that fuzz targets run.

use fewstep_nn::tch::Device;
use fewstep_nn::{Model, checkpoint};

/// A class-conditional or unconditional U-Net of 8 channels: that of the seeds.
pub fn small() -> Model {
    fewstep_nn::device::set_threads(1);
    let bytes = include_bytes!("../seeds/checkpoint/network.safetensors");
    checkpoint::from_bytes(bytes, "network.safetensors", Device::Cpu).expect("it is one of ours").model
}
