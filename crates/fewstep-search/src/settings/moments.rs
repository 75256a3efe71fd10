//! Settings of the matching of moments.

use serde::{Deserialize, Serialize};

use crate::documented;

documented! {
    /// Matching of moments.
    ///
    /// ```
    /// # use fewstep_search::settings::MomentsSettings;
    /// let defaults = MomentsSettings {
    ///     error_weight: 1.0,      // at least 0; it grows with the evaluations beyond 5
    ///     data_error_weight: 0.8, // at least 0
    ///     control: 1024,          // latents, at least 2
    ///     negligible_error: 3.0,  // grey levels of 255, at least 0
    /// };
    /// # assert_eq!(defaults, MomentsSettings::default());
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct MomentsSettings {
        /// Weight of the rollout error beside the teacher's moments.
        pub error_weight: f64,
        /// Weight of the rollout error beside the moments of training data.
        pub data_error_weight: f64,
        /// Latents whose samples are compared with training data.
        pub control: usize,
        /// Root mean square, in grey levels, of an error that hardly counts beside training data.
        pub negligible_error: f64,
    }
}

impl Default for MomentsSettings {
    fn default() -> Self {
        Self { error_weight: 1.0, data_error_weight: 0.8, control: 1024, negligible_error: 3.0 }
    }
}
