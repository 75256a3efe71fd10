//! Adam (Kingma and Ba 2015) over one flat vector of weights, with a state that can be saved.

use fewstep_search::documented;
use serde::{Deserialize, Serialize};
use tch::Tensor;

documented! {
    /// Constants of the update.
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    pub struct AdamConfig {
        /// Decay of the gradient's mean.
        pub beta1: f64,
        /// Decay of the gradient's square.
        pub beta2: f64,
        /// Added to the root of the second moment.
        pub eps: f64,
    }
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// Moments and step count.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    /// Updates made.
    pub step: u64,
    /// First moment, flat.
    pub mean: Tensor,
    /// Second moment, flat.
    pub square: Tensor,
}

impl Adam {
    /// A fresh state for weights of this shape.
    pub fn new(config: AdamConfig, weights: &Tensor) -> Self {
        Self { config, step: 0, mean: weights.zeros_like(), square: weights.zeros_like() }
    }

    /// One update of `weights` in place; `grad` has the same shape.
    pub fn update(&mut self, weights: &mut Tensor, grad: &Tensor, learning_rate: f64) {
        let AdamConfig { beta1, beta2, eps } = self.config;
        self.step += 1;
        let power = i32::try_from(self.step).unwrap_or(i32::MAX);
        let (correct1, correct2) = (1.0 - beta1.powi(power), 1.0 - beta2.powi(power));
        tch::no_grad(|| {
            let _ = self.mean.lerp_(grad, 1.0 - beta1);
            let _ = self.square.g_mul_scalar_(beta2);
            let _ = self.square.addcmul_(&(grad * (1.0 - beta2)), grad);
            let denominator = self.square.sqrt() / correct2.sqrt() + eps;
            let _ = weights.addcdiv_(&(&self.mean * (-learning_rate / correct1)), &denominator);
        });
    }
}
