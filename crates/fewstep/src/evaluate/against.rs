//! What images are compared with: statistics, a data set, or what comes with the library.

use std::path::PathBuf;

use fewstep_core::observe::Observer;
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::{Keep, Reference};
use fewstep_io::{hash, npz};

use crate::data::{has_extension, open_data};
use crate::error::{Result, ensure};
use crate::features::{FeatureOptions, check_features};
use crate::{assets, measure, pixels};

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
        observer: &dyn Observer,
    ) -> Result<(Reference, String)> {
        let (reference, place) = self.find(network, shape, (need, batch), observer)?;
        check_features(network, shape, &reference.statistics, &place)?;
        reference.check_holds(need)?;
        Ok((reference, place))
    }

    fn find(
        &self,
        network: &dyn FeatureNetwork,
        shape: [usize; 3],
        (need, batch): (Keep, usize),
        observer: &dyn Observer,
    ) -> Result<(Reference, String)> {
        let Some(path) = &self.reference else {
            ensure!(self.features.file.is_none(), "with --features there is no default reference: give one with --ref");
            let name = format!("sha256:{}", hash::sha256_bytes(assets::REFERENCE));
            let place = format!("{} training images", assets::DATA_NAME);
            return Ok((Reference::new(&name, assets::reference()?), place));
        };
        ensure!(path.exists(), "the reference {} does not exist: check the path", path.display());
        let place = path.display().to_string();
        let is_images = has_extension(path, "npz") && {
            let names = npz::names(path)?;
            names.iter().any(|name| name == "images" || name == "arr_0")
        };
        if has_extension(path, "npz") && !is_images {
            let name = format!("sha256:{}", hash::sha256_file(path)?);
            return Ok((Reference::read(path, &name)?, place));
        }
        let pad_to = self.pad_to.filter(|_| !is_images);
        let dataset = open_data(path, pad_to, None)?;
        let found = measure::shape_of(&dataset);
        ensure!(
            found == shape,
            "the images are {} but those of the reference {place} are {}: both sides must have one size and one number of channels \
             (the setting data.pad_to pads those of data sets)",
            pixels::words(shape),
            pixels::words(found)
        );
        let padded = pad_to.map_or(String::new(), |size| format!(" padded to {size}"));
        let name = format!("{}{padded}", dataset.fingerprint()?);
        let watched = ("reference", observer);
        let collected = measure::collect(&dataset, 0..dataset.len(), network, need, batch, watched)?;
        Ok((Reference::from_collected(&name, collected), place))
    }
}
