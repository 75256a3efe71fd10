//! Arguments that several commands share, and what they mean.

mod compute;
mod data;
mod features;
mod latents;
mod model;
mod numbers;
mod output;
mod plan;
mod settings;
mod typed;

pub use compute::{Compute, DeviceArgs};
pub use data::DataArgs;
pub use features::{FeatureArgs, ScoreArgs, feature_options};
pub use latents::LatentArgs;
pub use model::ModelArgs;
pub use numbers::Numbers;
pub use output::{check_extension, check_new_file, has_extension};
pub use plan::{PlanArgs, SAMPLER_SETTINGS};
pub use settings::SettingsArgs;
pub use typed::Typed;
