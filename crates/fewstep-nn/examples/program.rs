//! A TorchScript program beside the network that it is a copy of: the largest difference of their outputs.
//!
//!     python bench/torchscript.py crates/fewstep/assets/model.safetensors model.pt
//!     cargo run --release -p fewstep-nn --example program -- model.pt crates/fewstep/assets/model.safetensors
//!
//! The program is code, and this runs it: give it files that you trust.

use std::path::Path;

use fewstep_core::Denoiser;
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::{Program, ProgramConfig, checkpoint, data};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [_, program, network] = &std::env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: program PROGRAM.pt NETWORK.safetensors".into());
    };
    let path = Path::new(program);
    let program = Program::load(path, ProgramConfig::beside(path)?, Device::Cpu)?;
    let model = checkpoint::load(Path::new(network), Device::Cpu)?.model;
    let noise = data::latents(&[0, 1, 2, 3], &model.spec().shape, Device::Cpu)?;
    for sigma in [0.002, 0.02, 0.2, 2.0, 20.0, 80.0] {
        let x = &noise * sigma; // [4, C, H, W]
        let found = program.denoise(&x, &Tensor::from_slice(&[sigma]), None)?;
        let difference = (found - model.denoise_at(&x, sigma, None)?).abs().max().double_value(&[]);
        println!("sigma {sigma:>6}: largest difference {difference:.1e}");
    }
    Ok(())
}
