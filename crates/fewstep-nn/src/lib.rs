//! Networks, training and tuning on libtorch: the only crate that names it.
//!
//! A [`model::Model`] is a U-Net with its preconditioning, D(x; sigma). [`checkpoint`] reads and writes it, [`sample`]
//! runs it under a plan of fewstep-core, [`search`] lets that crate's searches see it, [`train`] makes one, [`fit`] turns
//! one into a few-step sampler.
//!
//! ```
//! use fewstep_core::{Preconditioning, Solver, SolverOptions, schedule::karras};
//! use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
//! use fewstep_nn::{Model, sample::Seeded, tch::Device};
//!
//! // a network of random weights; `checkpoint::load` reads one from a file
//! let network = SongConfig { model_channels: 8, channel_mult: vec![1], num_blocks: 1, ..SongConfig::default() };
//! let config = ModelConfig {
//!     img_resolution: 8,
//!     img_channels: 1,
//!     label_dim: 0,
//!     use_fp16: false,
//!     precond: Preconditioning::EDM,
//!     network: NetworkConfig::SongUNet(network),
//! };
//! let model = Model::fresh(config, 0, Device::Cpu)?;
//!
//! let (low, high) = model.config().precond.sampling_range();
//! let plan = Solver::Heun.plan(&karras(3, low, high, 7.0)?, &SolverOptions::default())?;
//! let images = Seeded { seeds: &[0, 1, 2, 3], class: None, batch: 4 }.collect(&model, &plan)?;
//! assert_eq!(images.size(), [4, 1, 8, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adam;
pub mod augment;
pub mod checkpoint;
pub mod config;
pub mod critic;
pub mod data;
pub mod device;
pub mod distance;
pub mod ema;
pub mod error;
pub mod fit;
pub mod flat;
pub mod held;
pub mod kernels;
pub mod mixture;
pub mod model;
pub mod params;
mod parts;
pub mod program;
pub mod random;
pub mod sample;
pub mod search;
mod snapshot;
pub mod tensor;
pub mod train;
pub mod unet;

pub use error::{Error, Result};
pub use model::Model;
pub use program::{Program, ProgramConfig};
pub use tch;
