//! Arrays that users hand in as npz files, checked against the model they are for.

use std::path::Path;

use fewstep_core::denoiser::Spec;
use fewstep_io::npz;
use fewstep_io::tensors::TensorData;
use fewstep_nn::tch::Tensor;

use crate::error::{Context, Result, bail, ensure};

/// The arrays of a file; its methods' errors name the file.
#[derive(Debug)]
pub struct Arrays {
    place: String,
    contents: npz::Contents,
}

impl Arrays {
    /// Reads all arrays of an npz file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self { place: path.display().to_string(), contents: npz::read_all(path)? })
    }

    /// The array of this name as it is stored.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<&TensorData>> {
        Ok(self.contents.get(name)?)
    }

    /// What the file holds, in words.
    pub fn names(&self) -> String {
        self.contents.names()
    }

    /// A batch `[N, ...]` of samples that a denoiser takes, as f32.
    ///
    /// # Errors
    /// If there is no such array, or it has another shape or values that are not finite as f32.
    pub fn samples(&self, name: &str, spec: &Spec) -> Result<Tensor> {
        let (array, values) = self.floats(name)?;
        let fits = matches!(array.shape.as_slice(), [n, rest @ ..] if *n > 0 && *rest == *spec.shape);
        let wanted: Vec<String> = spec.shape.iter().map(usize::to_string).collect();
        ensure!(
            fits,
            "the array `{name}` of {} has the shape {:?}, but the model needs [N, {}]",
            self.place,
            array.shape,
            wanted.join(", ")
        );
        Ok(tensor(array, &values))
    }

    /// A noise level for each of `count` images, `[count]` or a single one for all, as f32.
    ///
    /// # Errors
    /// If there is no such array, or a level is not positive and finite as f32.
    pub fn sigmas(&self, name: &str, count: usize) -> Result<Tensor> {
        let (array, values) = self.floats(name)?;
        let length = values.len();
        ensure!(
            array.shape.len() <= 1 && (length == count || length == 1),
            "the array `{name}` of {} has the shape {:?}, but one noise level for each of the {count} images is needed",
            self.place,
            array.shape
        );
        if let Some(index) = values.iter().position(|sigma| *sigma <= 0.0) {
            bail!(
                "the array `{name}` of {} holds the noise level {:?} at flat index {index}: as f32, in which models \
                 compute, noise levels must be above 0",
                self.place,
                stored(array, index)
            );
        }
        Ok(tensor(array, &values).reshape([-1]).expand([count as i64], false))
    }

    /// The array `class_labels` `[count, classes]` as f32, if there is one.
    ///
    /// # Errors
    /// If the denoiser knows no classes, or the array has another shape or values that are not finite as f32.
    pub fn class_labels(&self, spec: &Spec, count: usize) -> Result<Option<Tensor>> {
        const NAME: &str = "class_labels";
        let dim = spec.classes;
        let Some(array) = self.get(NAME)? else { return Ok(None) };
        ensure!(
            dim > 0,
            "{} has an array `{NAME}`, but the model knows no classes: remove the array or use a class-conditional model",
            self.place
        );
        ensure!(
            array.shape == [count, dim],
            "the array `{NAME}` of {} has the shape {:?}, but [{count}, {dim}] is needed (one row an image, one column a class)",
            self.place,
            array.shape
        );
        Ok(Some(tensor(array, &self.as_f32(NAME, array)?)))
    }

    /// The array of this name, of floats, and its values as f32.
    fn floats(&self, name: &str) -> Result<(&TensorData, Vec<f32>)> {
        let array = self.get(name)?;
        let array = array.with_context(|| format!("{} has no array `{name}`, but {}", self.place, self.names()))?;
        ensure!(
            array.dtype.is_float(),
            "the array `{name}` of {} is {:?}, but floats are needed",
            self.place,
            array.dtype
        );
        Ok((array, self.as_f32(name, array)?))
    }

    /// The values of an array as f32, in which models compute; what is finite as f64 may not be so as f32.
    fn as_f32(&self, name: &str, array: &TensorData) -> Result<Vec<f32>> {
        let values = array.to_f32();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let stored = stored(array, index);
            ensure!(
                !stored.is_finite(),
                "the array `{name}` of {} holds {stored:?} at flat index {index}: models compute in f32, whose largest \
                 number is {:?}",
                self.place,
                f32::MAX
            );
            bail!("the array `{name}` of {} is not finite at flat index {index}", self.place);
        }
        Ok(values)
    }
}

/// A value as the file holds it.
fn stored(array: &TensorData, index: usize) -> f64 {
    array.to_f64().get(index).copied().unwrap_or(f64::NAN)
}

/// The values of an array in its shape.
fn tensor(array: &TensorData, values: &[f32]) -> Tensor {
    let shape: Vec<i64> = array.shape.iter().map(|&size| size as i64).collect();
    Tensor::from_slice(values).reshape(shape)
}
