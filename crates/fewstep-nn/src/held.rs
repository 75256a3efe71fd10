//! The constant images of plans: made by a network, and repeated for a batch.

use fewstep_core::plan::Constant;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::model::Model;
use crate::tensor::Batch;

/// Most classes that each get an image of their own; with more, all share one.
const MOST_CLASSES: i64 = 100;

/// The mean of the network's outputs `D(sigma n; sigma)` over unit normal `latents` `[N, C, H, W]`: one image a class
/// if the model knows up to 100, each from about `N / classes` latents, at least 8. Second, evaluations of single images.
pub fn mean_output(
    model: &Model,
    sigma: f64,
    latents: &Tensor,
    class_labels: Option<&Tensor>,
    batch: usize,
) -> Result<(Constant, usize)> {
    let shape = model.image_shape().map(|size| size as usize);
    let count = latents.size()[0] as usize;
    let classes = model.config().label_dim;
    if class_labels.is_none() || classes > MOST_CLASSES {
        let images = vec![mean(model, sigma, latents, class_labels, batch)?];
        return Ok((Constant { sigma, shape, images }, count));
    }
    let each = count.div_ceil(classes as usize).max(8).min(count);
    let few = latents.narrow(0, 0, each as i64);
    let of_class = |class| mean(model, sigma, &few, model.one_hot(&[class])?.as_ref(), batch);
    let images = (0..classes).map(of_class).collect::<Result<_>>()?;
    Ok((Constant { sigma, shape, images }, each * classes as usize))
}

fn mean(model: &Model, sigma: f64, latents: &Tensor, class_labels: Option<&Tensor>, batch: usize) -> Result<Vec<f32>> {
    let outputs = model.denoise_in_parts(&(latents * sigma), sigma, class_labels, batch);
    let mean = outputs.mean_dim(0, false, Kind::Double).to_kind(Kind::Float).to_device(tch::Device::Cpu);
    Ok(Vec::try_from(mean.flatten(0, -1))?)
}

/// A constant image for every sample of `like` `[N, C, H, W]`: the one there is, or each sample's class's, by its label
/// (`class_labels` `[N or 1, classes]`; a soft label mixes them). Without a condition, which is no labels or a row of zeros, it is
/// the mean over the classes.
pub fn repeated(constant: &Constant, like: &Tensor, class_labels: Option<&Tensor>) -> Batch {
    let [c, h, w] = constant.shape.map(|size| size as i64);
    let count = constant.images.len() as i64;
    let images = Tensor::from_slice(&constant.images.concat()).view([count, c * h * w]).to_device(like.device());
    let of_samples = match class_labels {
        Some(labels) if count > 1 => {
            let labels = labels.to_kind(Kind::Float);
            let none = labels.sum_dim_intlist(1, true, Kind::Float).eq(0.0).to_kind(Kind::Float); // [N or 1, 1]
            (labels + none / count as f64).matmul(&images)
        }
        _ => images.mean_dim(0, true, Kind::Float),
    };
    Batch(of_samples.view([-1, c, h, w]).expand_as(like).contiguous())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Rows of labels: a class, no class, a mixture of two; and labels that are not there at all.
    #[test]
    fn labels_choose_the_image_and_none_stand_for_the_mean() {
        let images = vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![-1.0, 6.0]];
        let constant = Constant { sigma: 80.0, shape: [1, 1, 2], images };
        let rows = |labels: &[f32], n: i64| {
            let labels = Tensor::from_slice(labels).view([-1, 3]);
            let like = Tensor::zeros([n, 1, 1, 2], (Kind::Float, Device::Cpu));
            let labels = (labels.size()[0] > 0).then_some(&labels);
            Vec::<f32>::try_from(repeated(&constant, &like, labels).0.flatten(0, -1)).unwrap()
        };
        assert_eq!(
            rows(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 1.0], 4),
            [3.0, 4.0, 1.0, 4.0, 0.0, 4.0, -1.0, 6.0]
        );
        assert_eq!(rows(&[0.0, 0.0, 0.0], 2), [1.0, 4.0, 1.0, 4.0]);
        assert_eq!(rows(&[], 1), [1.0, 4.0]);
    }
}
