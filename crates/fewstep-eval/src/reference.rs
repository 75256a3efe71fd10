//! What generated images are compared with, from a file or from images.

use std::cell::OnceCell;
use std::path::Path;

use fewstep_io::atomic::OutFile;
use fewstep_io::npz;
use fewstep_io::tensors::TensorData;
use fewstep_nn::checkpoint::tensor_from;
use fewstep_nn::tch::{Kind, Tensor};

use crate::collect::{Collected, Keep};
use crate::error::{Error, Result};
use crate::frechet::FrechetReference;
use crate::statistics::{ARRAYS, Statistics};

/// Array of the features in a reference file that holds them.
const FEATURES: &str = "features";

/// What generated images are compared with.
#[derive(Debug)]
pub struct Reference {
    /// Names it in the results: a data set's fingerprint or a file's hash.
    pub name: String,
    /// Mean and covariance of its features.
    pub statistics: Statistics,
    /// Its features `[M, d]`, where they are at hand.
    pub features: Option<Tensor>,
    /// Its images, u8 `[M, C, H, W]`, likewise.
    pub images: Option<Tensor>,
    /// The statistics prepared for Frechet distances, once one was asked for.
    prepared: OnceCell<FrechetReference>,
}

impl Reference {
    /// Statistics alone.
    pub fn new(name: &str, statistics: Statistics) -> Self {
        Self { name: name.to_owned(), statistics, features: None, images: None, prepared: OnceCell::new() }
    }

    /// A data set of which everything needed was collected.
    pub fn from_collected(name: &str, collected: Collected) -> Self {
        let Collected { statistics, features, images, .. } = collected;
        Self { features, images, ..Self::new(name, statistics) }
    }

    /// The statistics with their eigendecomposition done, the first time it is asked for.
    ///
    /// # Errors
    /// As [`FrechetReference::new`].
    pub fn frechet(&self) -> Result<&FrechetReference> {
        if let Some(prepared) = self.prepared.get() {
            return Ok(prepared);
        }
        let prepared = FrechetReference::new(&self.statistics)?;
        Ok(self.prepared.get_or_init(|| prepared))
    }

    /// Reads statistics of EDM, pytorch-fid, clean-fid or ours, with the features if the file holds them.
    ///
    /// # Errors
    /// As [`Statistics::read`], or if the features do not fit the statistics.
    pub fn read(path: &Path, name: &str) -> Result<Self> {
        let place = path.display().to_string();
        let file = npz::read_named(path, &[&ARRAYS[..], &[FEATURES]].concat())?;
        let statistics = Statistics::from_arrays(&file, &place)?;
        let features = match file.arrays.get(FEATURES) {
            Some(array) if array.shape.len() == 2 && array.shape[1] == statistics.dim() && array.dtype.is_float() => {
                array.check_finite(FEATURES)?;
                Some(tensor_from(array)?)
            }
            Some(array) => {
                let (shape, d) = (&array.shape, statistics.dim());
                return Err(Error::statistics(
                    &place,
                    format!("`{FEATURES}` has shape {shape:?}, not [N, {d}] of floats"),
                ));
            }
            None => None,
        };
        Ok(Self { features, ..Self::new(name, statistics) })
    }

    /// Writes the npz file that [`Reference::read`] reads, with the features (f32) where they were kept.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write<'a>(&self, out: impl Into<OutFile<'a>>) -> Result<()> {
        let mut file = self.statistics.to_arrays()?;
        if let Some(features) = &self.features {
            let shape: Vec<usize> = features.size().iter().map(|&size| size as usize).collect();
            let values = Vec::<f32>::try_from(features.to_kind(Kind::Float).reshape([-1]))?;
            file.insert(FEATURES.to_owned(), TensorData::from_f32(&shape, &values)?);
        }
        Ok(npz::write(out, &file)?)
    }

    /// How many images it is of, where that is known.
    pub fn num_images(&self) -> Option<u64> {
        self.statistics.num_images
    }

    /// Checks that it holds what the metrics `need`, before any work is done for them.
    ///
    /// # Errors
    /// If not; the message says what to give instead.
    pub fn check_holds(&self, need: Keep) -> Result<()> {
        let lacks = |what: &str| {
            let kept = if what == "features" { ", or a file of `fewstep ref --keep-features`" } else { "" };
            Err(Error::Input(format!(
                "a metric that was asked for needs the {what} of the reference, of which only statistics are at hand: give the \
                 images themselves as the reference{kept}"
            )))
        };
        match need {
            Keep { images: true, .. } if self.images.is_none() => lacks("pixels"),
            Keep { features: true, .. } if self.features.is_none() => lacks("features"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::Moments;
    use fewstep_nn::tch::Device;

    fn reference() -> Reference {
        let features = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([4, 3]).square();
        let mut moments = Moments::new(3).unwrap();
        moments.update(&features).unwrap();
        let statistics = moments.statistics(None).unwrap();
        Reference { features: Some(features), ..Reference::new("data", statistics) }
    }

    #[test]
    fn features_are_kept_in_the_file_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ref.npz");
        let with = reference();
        with.write(&path).unwrap();
        let read = Reference::read(&path, "hash").unwrap();
        assert_eq!((read.name.as_str(), &read.statistics, &read.features), ("hash", &with.statistics, &with.features));
        assert_eq!(Statistics::read(&path).unwrap(), with.statistics);
        let need = Keep { features: true, ..Keep::default() };
        assert!(read.check_holds(need).is_ok());
        let without = Reference { features: None, ..reference() };
        without.write(&path).unwrap();
        let read = Reference::read(&path, "hash").unwrap();
        assert!(read.features.is_none() && read.check_holds(Keep::default()).is_ok());
        for (need, what) in [(need, "features"), (Keep { images: true, ..need }, "pixels")] {
            let error = read.check_holds(need).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("images themselves"), "{error}");
        }
    }

    #[test]
    fn features_of_another_dimension_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ref.npz");
        let wrong = Reference { features: Some(Tensor::zeros([4, 2], (Kind::Float, Device::Cpu))), ..reference() };
        wrong.write(&path).unwrap();
        assert!(
            Reference::read(&path, "").unwrap_err().to_string().contains("`features` has shape [4, 2], not [N, 3]")
        );
    }
}
