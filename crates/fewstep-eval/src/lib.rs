//! Metrics of generated images that agree with other tools'.
//!
//! Three layers, each usable alone:
//!
//! - [`features`]: networks that turn u8 images `[N, C, H, W]` into f32 features `[N, d]`;
//! - [`collect`], [`moments`] and [`statistics`]: one pass over images, and what is kept of them;
//! - the distances between two sets, see the table.
//!
//! | module | number | needs |
//! |---|---|---|
//! | [`frechet`] | Frechet distance (FID) and its bias | statistics of both sides |
//! | [`infinity`] | FID extrapolated to infinitely many images, FID's standard error | features, statistics of the reference |
//! | [`kid`] | kernel inception distance | features of both sides |
//! | [`neighbours`] | precision and recall, density and coverage | features of both sides |
//! | [`inception_score`] | inception score | class scores |
//! | [`sliced_wasserstein`] | sliced Wasserstein distance | pixels of both sides |
//!
//! [`measure::measure`] computes any of them by name; [`summary`] brings those of several seed ranges together.
//!
//! ```
//! use fewstep_eval::{Moments, frechet_distance};
//! use fewstep_nn::tch::{Device, Kind, Tensor};
//!
//! let statistics = |shift: f64| {
//!     let mut moments = Moments::new(8)?;
//!     for _ in 0..4 {
//!         moments.update(&(Tensor::randn([500, 8], (Kind::Float, Device::Cpu)) + shift))?; // features, batch by batch
//!     }
//!     moments.statistics(None)
//! };
//! let distance = frechet_distance(&statistics(0.5)?, &statistics(0.0)?)?;
//! assert!((distance - 8.0 * 0.5 * 0.5).abs() < 0.5);
//! # Ok::<(), fewstep_eval::Error>(())
//! ```
//!
//! A number is only comparable with numbers of the same features, so a [`features::FeatureId`] travels with every set of
//! statistics and every [`Measurement`], and comparing different ones is an error.

pub mod collect;
pub mod error;
pub mod features;
pub mod frechet;
pub mod images;
pub mod inception_score;
pub mod infinity;
pub mod kid;
pub mod measure;
pub mod measurement;
pub mod metrics;
pub mod moments;
pub mod neighbours;
mod points;
pub mod protocol;
pub mod reference;
pub mod sliced_wasserstein;
pub mod statistics;
pub mod summary;
pub mod watch;

pub use collect::{Collected, Collector, Keep};
pub use error::{Error, Result};
pub use frechet::{FrechetReference, frechet_distance};
pub use kid::KidSide;
pub use measure::measure;
pub use measurement::Measurement;
pub use metrics::{MeasureOptions, Metric};
pub use moments::Moments;
pub use protocol::Protocol;
pub use reference::Reference;
pub use statistics::Statistics;
pub use summary::{Summary, summarise};
