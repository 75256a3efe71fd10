//! What images are compared with: statistics, a data set, or what comes with the library.

use std::path::PathBuf;

use fewstep_core::observe::Observer;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Keep, Reference};
use fewstep_io::hash;
use fewstep_nn::Ranks;

use crate::assets;
use crate::error::{Result, ensure};
use crate::features::{FeatureOptions, check_features};
use crate::reference::{ReferenceOptions, read_or_collect};

/// What images are compared with, and by which features.
#[derive(Clone, Debug)]
pub struct Against {
    /// Statistics (.npz with mu and sigma) or a data set; the training images of Fashion-MNIST where there is none.
    pub reference: Option<PathBuf>,
    /// Squares of this size that a data set's images are padded to.
    pub pad_to: Option<usize>,
    /// The feature network.
    pub features: FeatureOptions,
}

impl Against {
    /// The reference for images of a shape (channels, height, width), and what it is called.
    pub(super) fn open(
        &self,
        network: &dyn FeatureNetwork,
        shape: [usize; 3],
        (need, batch): (Keep, usize),
        (observer, ranks): (&dyn Observer, &Ranks),
    ) -> Result<(Reference, String)> {
        let (reference, place) = self.find(network, shape, (need, batch), (observer, ranks))?;
        check_features(network, shape, &reference.statistics, &place)?;
        reference.check_holds(need)?;
        Ok((reference, place))
    }

    fn find(
        &self,
        network: &dyn FeatureNetwork,
        shape: [usize; 3],
        (need, batch): (Keep, usize),
        watched: (&dyn Observer, &Ranks),
    ) -> Result<(Reference, String)> {
        let Some(path) = &self.reference else {
            ensure!(self.features.file.is_none(), "with --features there is no default reference: give one with --ref");
            let name = format!("sha256:{}", hash::sha256_bytes(assets::REFERENCE));
            let place = format!("{} training images", assets::DATA_NAME);
            return Ok((Reference::new(&name, assets::reference()?), place));
        };
        let place = path.display().to_string();
        let options = ReferenceOptions { pad_to: self.pad_to, batch };
        Ok((read_or_collect(path, network, shape, need, options, watched)?, place))
    }
}
