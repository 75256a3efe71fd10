//! Networks, training and tuning on libtorch: the only crate that names it.
//!
//! A [`model::Model`] is a U-Net with its preconditioning, D(x; sigma). [`checkpoint`] reads and writes it, [`sample`]
//! runs it under a plan of fewstep-core, [`search`] lets that crate's searches see it, [`train`] makes one, [`fit`] turns
//! one into a few-step sampler.

pub mod adam;
pub mod augment;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod ema;
pub mod error;
pub mod fit;
pub mod flat;
pub mod held;
pub mod kernels;
pub mod model;
pub mod params;
pub mod random;
pub mod sample;
pub mod search;
mod snapshot;
pub mod tensor;
pub mod train;
pub mod unet;

pub use error::{Error, Result};
pub use model::Model;
pub use tch;
