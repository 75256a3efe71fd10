//! Arguments that several commands share, and what they mean.

mod arrays;
mod compute;
mod data;
mod features;
mod float_range;
mod judge;
mod latents;
mod model;
mod numbers;
mod output;
mod plan;

pub use arrays::Arrays;
pub use compute::{Compute, DeviceArgs};
pub use data::{DataArgs, few, open_data};
pub use features::{FeatureArgs, check_features, dimension};
pub use float_range::{FloatRange, RANGE};
pub use judge::{Judge, JudgeId};
pub use latents::{LatentArgs, Latents};
pub use model::{BUILT_IN, OpenModel, is_built_in, open_model};
pub use numbers::{Numbers, not_negative, positive};
pub use output::{check_extension, check_new_file, has_extension};
pub use plan::{PlanArgs, read_plan, read_plan_for};
