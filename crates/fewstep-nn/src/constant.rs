//! The constant samples of plans, repeated for a batch.

use fewstep_core::plan::Constant;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::Batch;

/// A constant image for every sample of `like` `[N, C, H, W]`: the one there is, or each sample's class's, by its label
/// (`class_labels` `[N or 1, classes]`; a soft label mixes them). Without a condition, which is no labels or a row of zeros, it is
/// the mean over the classes.
///
/// # Errors
/// If shapes do not fit, or memory does not suffice.
pub fn repeated(constant: &Constant, like: &Tensor, class_labels: Option<&Tensor>) -> Result<Batch> {
    let count = constant.samples.len() as i64;
    let images = Tensor::f_from_slice(&constant.samples.concat())?.f_view([count, -1])?.f_to_device(like.device())?;
    let of_samples = match class_labels {
        Some(labels) if count > 1 => {
            let labels = labels.f_to_kind(Kind::Float)?;
            let none = labels.f_sum_dim_intlist(1, true, Kind::Float)?.f_eq(0.0)?.f_to_kind(Kind::Float)?; // [N or 1, 1]
            labels.f_add(&none.f_div_scalar(count as f64)?)?.f_matmul(&images)?
        }
        _ => images.f_mean_dim(0, true, Kind::Float)?,
    };
    let shape: Vec<i64> = std::iter::once(-1).chain(constant.shape.iter().map(|size| *size as i64)).collect();
    Ok(Batch(of_samples.f_view(shape.as_slice())?.f_expand_as(like)?.f_contiguous()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Rows of labels: a class, no class, a mixture of two; and labels that are not there at all.
    #[test]
    fn labels_choose_the_image_and_none_stand_for_the_mean() {
        let images = vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![-1.0, 6.0]];
        let constant = Constant { sigma: 80.0, shape: vec![1, 1, 2], samples: images };
        let rows = |labels: &[f32], n: i64| {
            let labels = Tensor::from_slice(labels).view([-1, 3]);
            let like = Tensor::zeros([n, 1, 1, 2], (Kind::Float, Device::Cpu));
            let labels = (labels.size()[0] > 0).then_some(&labels);
            Vec::<f32>::try_from(repeated(&constant, &like, labels).unwrap().0.flatten(0, -1)).unwrap()
        };
        assert_eq!(
            rows(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 1.0], 4),
            [3.0, 4.0, 1.0, 4.0, 0.0, 4.0, -1.0, 6.0]
        );
        assert_eq!(rows(&[0.0, 0.0, 0.0], 2), [1.0, 4.0, 1.0, 4.0]);
        assert_eq!(rows(&[], 1), [1.0, 4.0]);
    }
}
