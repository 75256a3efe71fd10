//! Mean and covariance of a data set's features, in memory and as the npz files that other tools read and write.

use std::path::Path;

use fewstep_io::npz;
use fewstep_io::tensors::{TensorData, TensorMap};
use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::features::FeatureId;

/// Largest asymmetry and most negative eigenvalue that count as rounding, relative to the largest variance. Files that
/// were stored in f32 stay within it.
const TOLERANCE: f64 = 1e-5;

/// Names of the arrays of a file.
pub(crate) const ARRAYS: [&str; 6] = ["mu", "sigma", "num_images", "image_shape", "feature_name", "feature_sha256"];

/// Gaussian fitted to the features of a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Mean, `[d]`.
    pub mu: Vec<f64>,
    /// Covariance (divided by n - 1), `[d, d]` row by row.
    pub sigma: Vec<f64>,
    /// Images it was fitted to; other tools' files do not say.
    pub num_images: Option<u64>,
    /// Channels, height and width of these images; other tools' files do not say.
    pub image_shape: Option<[usize; 3]>,
    /// The network that made the features; other tools' files do not say.
    pub features: Option<FeatureId>,
}

impl Statistics {
    /// Dimension of the features.
    pub fn dim(&self) -> usize {
        self.mu.len()
    }

    /// Reads an npz file with `mu` and `sigma` as EDM, pytorch-fid and clean-fid write it, and with our `num_images`,
    /// `image_shape`, `feature_name` and `feature_sha256` if it has them.
    ///
    /// # Errors
    /// If the file cannot be read or fails [`Statistics::validate`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_arrays(&npz::read_named(path, &ARRAYS)?, &path.display().to_string())
    }

    /// As [`Statistics::read`], from memory; `place` names the file in messages.
    ///
    /// # Errors
    /// As the same.
    pub fn from_bytes(bytes: &[u8], place: &str) -> Result<Self> {
        Self::from_arrays(&npz::read_bytes(bytes, place)?, place)
    }

    /// As [`Statistics::read`], from the arrays of a file; `place` names it in messages.
    pub(crate) fn from_arrays(file: &npz::Contents, place: &str) -> Result<Self> {
        let array = |name: &str| {
            let missing = || Error::statistics(place, format!("there is no array `{name}` (found: {})", file.names()));
            file.get(name)?.ok_or_else(missing)
        };
        // What others may store under the names of our additions is no matter.
        let file = &file.arrays;
        let (mu, sigma) = (array("mu")?, array("sigma")?);
        let d = mu.numel();
        if mu.shape.len() != 1 || sigma.shape != [d, d] {
            let (mu, sigma) = (&mu.shape, &sigma.shape);
            return Err(Error::statistics(
                place,
                format!("mu has shape {mu:?} and sigma {sigma:?}, not [d] and [d, d]"),
            ));
        }
        let count = file.get("num_images").and_then(|n| n.to_i64().ok()?.first().copied());
        let text = |name: &str| file.get(name).and_then(|bytes| String::from_utf8(bytes.bytes.clone()).ok());
        let statistics = Self {
            mu: mu.to_f64(),
            sigma: sigma.to_f64(),
            num_images: count.and_then(|n| u64::try_from(n).ok()),
            image_shape: file.get("image_shape").and_then(image_shape),
            features: text("feature_name").zip(text("feature_sha256")).map(|(name, sha256)| FeatureId { name, sha256 }),
        };
        statistics.validate(place)?;
        Ok(statistics)
    }

    /// Writes the npz file that [`Statistics::read`] reads. Other tools find `mu` and `sigma` in it and ignore the rest
    /// (the name and hash of the features are stored as UTF-8 bytes).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(npz::write(path, &self.to_arrays()?)?)
    }

    /// The arrays of that file.
    pub(crate) fn to_arrays(&self) -> Result<TensorMap> {
        let d = self.dim();
        let mut file = TensorMap::new();
        file.insert("mu".to_owned(), TensorData::from_f64(&[d], &self.mu)?);
        file.insert("sigma".to_owned(), TensorData::from_f64(&[d, d], &self.sigma)?);
        if let Some(n) = self.num_images {
            let n = i64::try_from(n).unwrap_or(i64::MAX);
            file.insert("num_images".to_owned(), TensorData::from_i64(&[], &[n])?);
        }
        if let Some(shape) = self.image_shape {
            let shape = shape.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
            file.insert("image_shape".to_owned(), TensorData::from_i64(&[3], &shape)?);
        }
        if let Some(FeatureId { name, sha256 }) = &self.features {
            for (key, text) in [("feature_name", name), ("feature_sha256", sha256)] {
                file.insert(key.to_owned(), TensorData::from_u8(&[text.len()], text.as_bytes())?);
            }
        }
        Ok(file)
    }

    /// Checks that these can be the mean and covariance of features. `place` names them in the message.
    ///
    /// # Errors
    /// If shapes do not fit, a value is not finite, or sigma is not symmetric or has eigenvalues below zero, each beyond
    /// rounding.
    pub fn validate(&self, place: &str) -> Result<()> {
        let d = self.dim();
        if d == 0 || self.sigma.len() != d * d {
            return Err(Error::statistics(place, format!("sigma is not {d} x {d} although mu has {d} values")));
        }
        for (name, values) in [("mu", &self.mu), ("sigma", &self.sigma)] {
            let bad = values.iter().filter(|value| !value.is_finite()).count();
            if bad > 0 {
                return Err(Error::statistics(place, format!("{bad} value(s) of {name} are not finite")));
            }
        }
        let scale = self.sigma.iter().step_by(d + 1).fold(0.0, |max: f64, v| max.max(v.abs()));
        let sigma = self.sigma_tensor()?;
        let asymmetry = (&sigma - sigma.tr()).abs().max().double_value(&[]);
        if asymmetry > TOLERANCE * scale {
            return Err(Error::statistics(
                place,
                format!("sigma is not symmetric (it differs from its transpose by up to {asymmetry:.3e})"),
            ));
        }
        let smallest = smallest_eigenvalue_below(&sigma, -TOLERANCE * scale)?;
        match smallest {
            Some(value) => Err(Error::statistics(
                place,
                format!("sigma has the negative eigenvalue {value:.3e}, which no covariance matrix has"),
            )),
            None => Ok(()),
        }
    }

    /// Mean as an f64 tensor `[d]`.
    pub(crate) fn mu_tensor(&self) -> Tensor {
        Tensor::from_slice(&self.mu)
    }

    /// Covariance as an f64 tensor `[d, d]`.
    pub(crate) fn sigma_tensor(&self) -> Result<Tensor> {
        let d = self.dim() as i64;
        Ok(Tensor::from_slice(&self.sigma).f_reshape([d, d])?)
    }
}

/// Channels, height and width, where an array is of such.
fn image_shape(array: &TensorData) -> Option<[usize; 3]> {
    let sizes: Option<Vec<usize>> = array.to_i64().ok()?.iter().map(|&size| usize::try_from(size).ok()).collect();
    sizes?.try_into().ok()
}

/// The smallest eigenvalue of a symmetric matrix if it lies below `bound` < 0.
///
/// A Cholesky factorisation of `matrix - bound I` answers that ten times faster than the eigenvalues do.
fn smallest_eigenvalue_below(matrix: &Tensor, bound: f64) -> Result<Option<f64>> {
    if bound < 0.0 {
        let d = matrix.size()[0];
        let shifted = matrix - Tensor::f_eye(d, (Kind::Double, matrix.device()))? * bound;
        let (_, info) = shifted.f_linalg_cholesky_ex(false, false)?;
        if info.int64_value(&[]) == 0 {
            return Ok(None);
        }
    }
    let smallest = matrix.f_linalg_eigvalsh("L")?.min().double_value(&[]);
    Ok((smallest < bound).then_some(smallest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Statistics {
        Statistics {
            mu: vec![1.0, -2.0],
            sigma: vec![2.0, 0.5, 0.5, 1.0],
            num_images: Some(1234),
            image_shape: Some([3, 32, 48]),
            features: Some(FeatureId { name: "small-cnn".into(), sha256: "ab".repeat(32) }),
        }
    }

    fn reason(change: impl FnOnce(&mut Statistics)) -> String {
        let mut statistics = sample();
        change(&mut statistics);
        statistics.validate("ref.npz").unwrap_err().to_string()
    }

    #[test]
    fn a_written_file_reads_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ref.npz");
        sample().write(&path).unwrap();
        assert_eq!(Statistics::read(&path).unwrap(), sample());
        let bare = Statistics { num_images: None, image_shape: None, features: None, ..sample() };
        bare.write(&path).unwrap();
        assert_eq!(Statistics::read(&path).unwrap(), bare);
    }

    #[test]
    fn each_fault_has_its_sentence() {
        assert!(sample().validate("x").is_ok());
        assert!(reason(|s| s.sigma[1] = 0.6).contains("not symmetric"));
        assert!(reason(|s| s.sigma[3] = -1.0).contains("negative eigenvalue"));
        assert!(reason(|s| s.sigma[3] = f64::NAN).contains("1 value(s) of sigma are not finite"));
        assert!(reason(|s| s.mu[0] = f64::INFINITY).contains("of mu are not finite"));
        assert!(reason(|s| s.sigma.truncate(3)).contains("not 2 x 2"));
        assert!(reason(|s| s.mu.clear()).starts_with("ref.npz are not usable statistics"));
        // A constant feature has no variance: fine.
        assert!(Statistics { sigma: vec![0.0; 4], ..sample() }.validate("x").is_ok());
    }

    #[test]
    fn a_file_without_sigma_says_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let mut file = TensorMap::new();
        file.insert("mu".into(), TensorData::from_f64(&[2], &[0.0, 0.0]).unwrap());
        npz::write(&path, &file).unwrap();
        let error = Statistics::read(&path).unwrap_err().to_string();
        assert!(error.contains("no array `sigma` (found: mu)"), "{error}");
        file.insert("sigma".into(), TensorData::from_f64(&[4], &[0.0; 4]).unwrap());
        npz::write(&path, &file).unwrap();
        assert!(Statistics::read(&path).unwrap_err().to_string().contains("not [d] and [d, d]"));
    }
}
