//! What a search may need beside the denoiser.

use fewstep_core::objective::BoundTable;
use fewstep_core::plan::Plan;

use super::DataMoments;
use crate::error::Result;

/// A loss of final samples with its gradient, for refinement by a distance of features: `(value, gradient)`.
pub trait SampleLoss<B> {
    /// The loss of `samples` that should be `targets`.
    ///
    /// # Errors
    /// If the features cannot be had.
    fn loss(&self, samples: &B, targets: &B)
    -> std::result::Result<(f64, B), Box<dyn std::error::Error + Send + Sync>>;
}

/// How far samples are from training data, by features that someone trusts: what methods that end in `+nearest` choose plans by.
pub trait PlanScorer {
    /// The distance of the samples that `plan` makes from `seeds`; by several kinds of features, the geometric mean of theirs.
    ///
    /// # Errors
    /// If the samples or their features cannot be had.
    fn distance(&self, plan: &Plan, seeds: &[u64]) -> Result<f64>;
}

/// What a search may need beside the denoiser.
pub struct Extras<'a, B> {
    /// Moments of training data, for methods with `+data-moments`.
    pub data: Option<&'a DataMoments>,
    /// e(sigma) of the denoiser, for the method `bound`.
    pub table: Option<&'a BoundTable>,
    /// What methods that end in `+nearest` choose by; without it by features of [a network that nobody trained](crate::random_features).
    pub plan_scorer: Option<&'a dyn PlanScorer>,
    /// A loss of features, for [`Distance::Features`](crate::settings::Distance::Features).
    pub loss: Option<&'a dyn SampleLoss<B>>,
}

impl<B> Default for Extras<'_, B> {
    fn default() -> Self {
        Self { data: None, table: None, plan_scorer: None, loss: None }
    }
}

impl<B> Clone for Extras<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Extras<'_, B> {}
