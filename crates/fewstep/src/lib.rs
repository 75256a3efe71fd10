//! fewstep turns a pretrained diffusion or flow model into the best few-step sampler for it.
//!
//! Everything that the command line does is a function here: [`models`] are opened, [`fitting`] finds plans and tunes networks,
//! [`scorer`] measures images, [`runs`] keeps what a run leaves. Long work tells an
//! [`Observer`](fewstep_core::observe::Observer) how far it is and ends when that asks for it; nothing here prints, reads arguments or
//! catches signals.

pub mod arrays;
pub mod assets;
pub mod bound;
pub mod cells;
pub mod compare;
pub mod data;
pub mod demo;
pub mod denoise;
pub mod describe;
pub mod error;
pub mod evaluate;
pub mod feature_training;
pub mod features;
pub mod figures;
pub mod fitting;
pub mod float_range;
pub mod forecast;
pub mod import;
pub mod measure;
pub mod models;
pub mod pixels;
pub mod plan_scorer;
pub mod plans;
pub mod provenance;
pub mod reference;
pub mod report;
pub mod reproduce;
pub mod runs;
pub mod sampling;
pub mod scorer;
pub mod settings;
pub mod teachers;
pub mod training;

pub use error::{Context, Error, Result};
pub use models::{ModelOptions, OpenModel, open_model};
pub use {fewstep_core as core, fewstep_search as search};

/// The code of docs/library.md, which is this crate's README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Library;
