//! Exponential moving average of the weights, as the EDM recipe keeps it.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How long the average remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmaConfig {
    /// Training images after which a weight's share has halved.
    pub halflife_images: f64,
    /// While training is young, the half-life is at most this share of the images seen; `None` for no ramp.
    pub rampup_ratio: Option<f64>,
}

impl EmaConfig {
    /// The factor on the old average after a step that made the count of images `seen`, with `batch` images in the step.
    pub fn beta(&self, seen: u64, batch: u64) -> f64 {
        let halflife = match self.rampup_ratio {
            Some(ratio) => self.halflife_images.min(seen as f64 * ratio),
            None => self.halflife_images,
        };
        0.5f64.powf(batch as f64 / halflife.max(1e-8))
    }
}

/// average <- beta average + (1 - beta) weights, in place; both flat.
pub fn update(average: &mut Tensor, weights: &Tensor, beta: f64) {
    tch::no_grad(|| {
        let _ = average.lerp_(weights, 1.0 - beta);
    });
}
