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
pub mod error;
pub mod features;
pub mod figures;
// pub mod fitting;
pub mod forecast;
pub mod measure;
pub mod models;
pub mod pixels;
pub mod plans;
pub mod provenance;
pub mod reference;
pub mod runs;
pub mod scorer;
pub mod teachers;

pub use error::{Context, Error, Result};
pub use models::{ModelOptions, OpenModel, open_model};
pub use {fewstep_core as core, fewstep_search as search};
