//! What training minimises: weighted denoising errors that differ in which noise levels they visit and how they count.

use fewstep_core::parameterisation::Coefficients;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::RolloutLoss;
use crate::augment::AugmentConfig;
use crate::data::Minibatch;
use crate::error::{Error, Result};
use crate::random::Stream;
use crate::tensor::coefficients;
use crate::tunable::Tunable;
use crate::unet::Conditions;

/// Distribution of the noise level and weight of its error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// ln sigma ~ N(p_mean, p_std^2), within what the network knows, weight 1 / c_out(sigma)^2 (Karras et al. 2022, Table 1, "Training").
    LogNormal {
        /// Mean of ln sigma.
        p_mean: f64,
        /// Standard deviation of ln sigma.
        p_std: f64,
    },
    /// sigma uniform over the levels of a plan, weight by level: Eq. 12's a_i for the paper's phase 2.
    Levels {
        /// Noise levels.
        sigmas: Vec<f64>,
        /// Weight of each level.
        weights: Vec<f64>,
    },
    /// The student's own states under a plan, against a teacher's trajectory from the same latent.
    Rollout(RolloutLoss),
}

/// The loss of a batch.
#[derive(Debug)]
pub struct Evaluated {
    /// The mean over samples and pixels, with a graph.
    pub mean: Tensor,
    /// What it is the mean of, `[N, C, H, W]`.
    squares: Tensor,
    /// The noise level of each sample, `[N]`.
    sigma: Tensor,
}

impl Evaluated {
    /// The noise level of the first sample whose loss is not finite.
    pub fn bad_level(&self) -> Option<f64> {
        let good = self.squares.isfinite().flatten(1, -1).all_dim(1, false);
        let bad = good.logical_not().nonzero().flatten(0, -1);
        (bad.numel() > 0).then(|| self.sigma.double_value(&[bad.int64_value(&[0])]))
    }
}

impl Loss {
    /// The EDM recipe.
    pub const EDM: Self = Self::LogNormal { p_mean: -1.2, p_std: 1.2 };

    /// weight(sigma) |D(y + sigma n; sigma) - y|^2, averaged over samples and pixels. Draws sigma, the augmentation, the
    /// noise and the dropout from `stream`.
    ///
    /// # Errors
    /// If the network fails, and for the rollout, which is no loss of clean images.
    pub fn evaluate(
        &self,
        model: &impl Tunable,
        batch: &Minibatch,
        augment: Option<&AugmentConfig>,
        stream: &mut Stream,
    ) -> Result<Evaluated> {
        let (sigma, weight) = self.draw(batch.images.size()[0], model, stream)?;
        let (images, augment_labels) = match augment {
            Some(augment) => {
                let (images, labels) = augment.apply(&batch.images, stream);
                (images, Some(labels))
            }
            None => (batch.images.shallow_clone(), None),
        };
        let noise = stream.normal(&images.size(), images.device());
        let noisy = &images + noise * sigma.reshape([-1, 1, 1, 1]);
        let conditions = Conditions {
            class_labels: batch.class_labels.as_ref(),
            augment_labels: augment_labels.as_ref(),
            train: Some(stream.mask_seed()),
        };
        let denoised = model.forward(&noisy, &sigma, &conditions)?;
        let squares = weight.reshape([-1, 1, 1, 1]) * (denoised - images).square();
        Ok(Evaluated { mean: squares.mean(Kind::Float), squares: squares.detach(), sigma })
    }

    /// `n` noise levels and their weights, both `[n]` on the model's device.
    fn draw(&self, n: i64, model: &impl Tunable, stream: &mut Stream) -> Result<(Tensor, Tensor)> {
        let device = model.device();
        match self {
            Self::LogNormal { p_mean, p_std } => {
                // the distribution is EDM's; what a network does not know it is not asked
                let (low, high) = model.spec().levels.supported;
                let sigma = (stream.normal(&[n], device) * *p_std + *p_mean).exp().f_clamp(low, high)?;
                let Coefficients { c_out, .. } = coefficients(model.parameterisation(), &sigma)?;
                Ok((sigma, c_out.square().reciprocal()))
            }
            Self::Levels { sigmas, weights } => {
                let level = stream.integers(sigmas.len() as i64, n);
                let pick = |values: &[f64]| {
                    Tensor::from_slice(values).index_select(0, &level).to_kind(Kind::Float).to_device(device)
                };
                Ok((pick(sigmas), pick(weights)))
            }
            Self::Rollout(_) => Err(Error::Input("the rollout loss needs trajectories, not images".to_owned())),
        }
    }
}
