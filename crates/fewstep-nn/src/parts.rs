//! Batches larger than what a network is given at once.

use tch::Tensor;

use crate::error::Result;
use crate::model::Model;

impl Model {
    /// As [`Model::denoise_at`], `batch` samples at once. `class_labels`: `[N or 1, label_dim]`.
    ///
    /// # Errors
    /// As [`Model::denoise`].
    pub fn denoise_in_parts(
        &self,
        x: &Tensor,
        sigma: f64,
        class_labels: Option<&Tensor>,
        batch: usize,
    ) -> Result<Tensor> {
        let parts = in_parts(x, class_labels, batch)?;
        let outputs = parts.iter().map(|(x, labels)| self.denoise_at(x, sigma, labels.as_ref()));
        Ok(Tensor::f_cat(&outputs.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

/// A batch in parts of at most `batch` samples, each with its labels.
pub fn in_parts(x: &Tensor, class_labels: Option<&Tensor>, batch: usize) -> Result<Vec<(Tensor, Option<Tensor>)>> {
    let parts = x.f_split(batch.max(1) as i64, 0)?;
    let mut start = 0;
    let of_part = |part: Tensor| {
        let (count, from) = (part.size()[0], start);
        start += count;
        let labels = class_labels.map(|labels| match labels.size()[0] {
            1 => Ok(labels.shallow_clone()),
            _ => labels.f_narrow(0, from, count),
        });
        Ok((part, labels.transpose()?))
    };
    parts.into_iter().map(of_part).collect()
}
