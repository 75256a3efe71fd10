//! Settings of samples: what few people turn.

use fewstep_search::documented;
use serde::{Deserialize, Serialize};

use crate::plans::SamplerSettings;

documented! {
    /// How samples are made and written.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SampleSettings {
        /// The sampler where there is no plan.
        pub sampler: SamplerSettings,
        /// What is written.
        pub output: SampleOutput,
    }

    /// What is written.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SampleOutput {
        /// Folder: whether PNGs lie in subfolders of 1000.
        pub subdirs: bool,
        /// Grid: images in a row; 0 for as many as there are rows.
        pub columns: usize,
        /// npz: floats as the sampler leaves them, about -1 to 1 for images, instead of pixels.
        pub raw: bool,
    }
}
