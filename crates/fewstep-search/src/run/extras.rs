//! What a search may need beside the denoiser.

use fewstep_core::objective::BoundTable;

use super::DataMoments;

/// A loss of final samples with its gradient, for refinement by a distance of features: `(value, gradient)`.
pub trait SampleLoss<B> {
    /// The loss of `samples` that should be `targets`.
    ///
    /// # Errors
    /// If the features cannot be had.
    fn loss(&self, samples: &B, targets: &B)
    -> std::result::Result<(f64, B), Box<dyn std::error::Error + Send + Sync>>;
}

/// What a search may need beside the denoiser.
pub struct Extras<'a, B> {
    /// Moments of training data, for methods that end in `+data-moments`.
    pub data: Option<&'a DataMoments>,
    /// e(sigma) of the denoiser, for the method `bound`.
    pub table: Option<&'a BoundTable>,
    /// A loss of features, for [`Distance::Features`](crate::settings::Distance::Features).
    pub loss: Option<&'a dyn SampleLoss<B>>,
}

impl<B> Default for Extras<'_, B> {
    fn default() -> Self {
        Self { data: None, table: None, loss: None }
    }
}

impl<B> Clone for Extras<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Extras<'_, B> {}
