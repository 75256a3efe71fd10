//! Arrays that users hand in as npz files, checked against the model they are for.

use std::path::Path;

use fewstep_core::denoiser::Spec;
use fewstep_io::npz;
use fewstep_io::tensors::TensorData;
use fewstep_nn::checkpoint::tensor_from;
use fewstep_nn::tch::{Kind, Tensor};

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
    /// If there is no such array, or it has another shape or values that are not finite.
    pub fn samples(&self, name: &str, spec: &Spec) -> Result<Tensor> {
        let array = self.floats(name)?;
        let fits = matches!(array.shape.as_slice(), [n, rest @ ..] if *n > 0 && *rest == *spec.shape);
        let wanted: Vec<String> = spec.shape.iter().map(usize::to_string).collect();
        ensure!(
            fits,
            "the array `{name}` of {} has the shape {:?}, but the model needs [N, {}]",
            self.place,
            array.shape,
            wanted.join(", ")
        );
        tensor(array)
    }

    /// A noise level for each of `count` images, `[count]` or a single one for all, as f32.
    ///
    /// # Errors
    /// If there is no such array, or a level is not positive.
    pub fn sigmas(&self, name: &str, count: usize) -> Result<Tensor> {
        let array = self.floats(name)?;
        let length = array.numel();
        ensure!(
            array.shape.len() <= 1 && (length == count || length == 1),
            "the array `{name}` of {} has the shape {:?}, but one noise level for each of the {count} images is needed",
            self.place,
            array.shape
        );
        if let Some(sigma) = array.to_f64().into_iter().find(|sigma| *sigma <= 0.0) {
            bail!("the array `{name}` of {} holds the noise level {sigma}: they must be positive", self.place);
        }
        Ok(tensor(array)?.reshape([-1]).expand([count as i64], false))
    }

    /// The array `class_labels` `[count, classes]` as f32, if there is one.
    ///
    /// # Errors
    /// If the denoiser knows no classes, or the array has another shape or values that are not finite.
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
        array.check_finite(NAME).with_context(|| self.place.clone())?;
        Ok(Some(Tensor::from_slice(&array.to_f32()).reshape([count as i64, dim as i64])))
    }

    fn floats(&self, name: &str) -> Result<&TensorData> {
        let array = self.get(name)?;
        let array = array.with_context(|| format!("{} has no array `{name}`, but {}", self.place, self.names()))?;
        ensure!(
            array.dtype.is_float(),
            "the array `{name}` of {} is {:?}, but floats are needed",
            self.place,
            array.dtype
        );
        if let Some(index) = array.to_f64().iter().position(|value| !value.is_finite()) {
            bail!("the array `{name}` of {} is not finite at flat index {index}", self.place);
        }
        Ok(array)
    }
}

fn tensor(array: &TensorData) -> Result<Tensor> {
    Ok(tensor_from(array)?.to_kind(Kind::Float))
}
