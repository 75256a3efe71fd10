//! Settings of the choice among plans.

use serde::{Deserialize, Serialize};

use crate::{Method, documented};

documented! {
    /// Choice among plans by training data.
    ///
    /// ```
    /// # use fewstep_search::settings::NearestSettings;
    /// let defaults = NearestSettings {
    ///     methods: vec![
    ///         "karras/unipc2_bh2".parse()?,
    ///         "karras/dpmpp2m".parse()?,
    ///         "flow_trailing/unipc2_bh2".parse()?,
    ///         "flow_trailing/dpmpp2m".parse()?,
    ///     ],
    ///     samples: 1024,       // at least 8
    ///     least_gain: 0.1,     // a share of the distance, below 1
    ///     dropped_beyond: 2.0, // at least 1
    /// };
    /// # assert_eq!(defaults, NearestSettings::default());
    /// # Ok::<(), fewstep_search::MethodError>(())
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct NearestSettings {
        /// Methods whose plans are compared beside those that were found, with training data's moments matched; flow_ ones on flows alone.
        pub methods: Vec<Method>,
        /// Samples of each plan that are compared with training data.
        pub samples: usize,
        /// Another method's plan is taken if its samples' distance is smaller by at least this part: it is less true to the model.
        pub least_gain: f64,
        /// A plan is dropped whose first quarter of samples is so many times as far as the nearest plan's.
        pub dropped_beyond: f64,
    }
}

impl Default for NearestSettings {
    fn default() -> Self {
        // what diffusers' users take, on the levels that few steps are most often taken on
        let methods = ["karras/unipc2_bh2", "karras/dpmpp2m", "flow_trailing/unipc2_bh2", "flow_trailing/dpmpp2m"]
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        Self { methods, samples: 1024, least_gain: 0.1, dropped_beyond: 2.0 }
    }
}
