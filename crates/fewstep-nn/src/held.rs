//! The constant samples of plans, repeated for a batch.

use fewstep_core::plan::Constant;
use tch::{Kind, Tensor};

use crate::tensor::Batch;

/// A constant image for every sample of `like` `[N, C, H, W]`: the one there is, or each sample's class's, by its label
/// (`class_labels` `[N or 1, classes]`; a soft label mixes them; none, as without a condition, their mean).
pub fn repeated(constant: &Constant, like: &Tensor, class_labels: Option<&Tensor>) -> Batch {
    let count = constant.samples.len() as i64;
    let images = Tensor::from_slice(&constant.samples.concat()).view([count, -1]).to_device(like.device());
    let of_samples = match class_labels {
        Some(labels) if count > 1 => labels.to_kind(Kind::Float).matmul(&images),
        _ => images.mean_dim(0, true, Kind::Float),
    };
    let shape: Vec<i64> = std::iter::once(-1).chain(constant.shape.iter().map(|size| *size as i64)).collect();
    Batch(of_samples.view(shape.as_slice()).expand_as(like).contiguous())
}
