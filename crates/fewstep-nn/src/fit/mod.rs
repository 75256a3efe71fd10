//! The two phases of the paper: learn the noise levels for the network (`phase1`), tune the network for the levels (`phase2`).

mod averages;
mod noised;
mod phase1;
mod phase2;
mod tables;

pub use averages::{Average, KeptAverages};
pub use noised::{NoiseSharing, Noised, check_images_are_samples};
pub use phase1::{ScheduleConfig, ScheduleOptimiser, ScheduleStep};
pub use phase2::{TuneConfig, TuneStep, TuneWeights, Tuner, level_loss};
pub use tables::{TableConfig, tabulate};
