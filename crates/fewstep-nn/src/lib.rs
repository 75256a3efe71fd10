//! Networks, training and tuning on libtorch: the only crate that names it.
//!
//! A [`model::Model`] is a U-Net with its parameterisation, D(x; sigma). [`checkpoint`] reads and writes it,
//! [`train`] makes one, [`fit`] has the two phases of the paper. It is a [`Denoiser`](fewstep_core::Denoiser): whatever samples,
//! searches or scores takes it as such ([`denoiser`]).
//!
//! ```
//! use fewstep_core::{Parameterisation, Solver, SolverOptions, schedule::karras};
//! use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
//! use fewstep_core::{Denoiser, observe::Silent};
//! use fewstep_nn::{Model, tch::Device};
//! use fewstep_search::Seeded;
//!
//! // a network of random weights; `checkpoint::load` reads one from a file
//! let network = SongConfig { model_channels: 8, channel_mult: vec![1], num_blocks: 1, ..SongConfig::default() };
//! let config = ModelConfig {
//!     img_resolution: 8,
//!     img_channels: 1,
//!     label_dim: 0,
//!     use_fp16: false,
//!     parameterisation: Parameterisation::EDM,
//!     network: NetworkConfig::SongUNet(network),
//! };
//! let model = Model::fresh(config, 0, Device::Cpu)?;
//!
//! let (low, high) = model.spec().levels.sampling;
//! let plan = Solver::Heun.plan(&karras(3, low, high, 7.0)?, &SolverOptions::default())?;
//! let images = Seeded::new(&model, &[0, 1, 2, 3], &Silent)?.run(&plan)?;
//! assert_eq!(images.0.size(), [4, 1, 8, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adam;
pub mod augment;
pub mod checkpoint;
pub mod codec;
pub mod config;
pub mod constant;
pub mod critic;
pub mod data;
pub mod denoiser;
pub mod device;
pub mod distance;
pub mod ema;
pub mod error;
mod ffi;
pub mod fit;
pub mod flat;
pub mod kernels;
pub mod mixture;
pub mod model;
pub mod network;
pub mod params;
mod parts;
pub mod pixels;
pub mod program;
pub mod random;
pub mod ranks;
mod snapshot;
pub mod teachers;
pub mod tensor;
pub mod texture;
pub mod train;
pub mod tunable;
pub mod unet;

pub use codec::Codec;
pub use denoiser::{Labels, TorchDenoiser, spread};
pub use error::{Error, Result};
pub use model::Model;
pub use network::Network;
pub use program::{Program, ProgramConfig, ProgramDenoiser};
pub use ranks::Ranks;
pub use tch;
pub use tunable::{Encoder, Tunable};
