//! Metrics of generated images that agree with other tools'.
//!
//! Three layers, each usable alone:
//!
//! - [`features`]: networks that turn u8 images `[N, C, H, W]` into f32 features `[N, d]`;
//! - [`moments`] and [`statistics`]: mean and covariance of features, accumulated in one pass, kept on disk;
//! - the distances between two sets of features: [`frechet`] on their statistics.
//!
//! A number is only comparable with numbers of the same features, so a [`features::FeatureId`] travels with every set of
//! statistics and distances between different ones are an error.

pub mod error;
pub mod features;
pub mod frechet;
pub mod moments;
pub mod statistics;

pub use error::{Error, Result};
pub use statistics::Statistics;
