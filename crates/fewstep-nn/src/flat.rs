//! A network's trainable weights as one flat vector: what the optimiser, the EMA and the training state work on.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::params::Params;

/// The trainable weights of a network, moved into one vector of which the layers' weights are views.
#[derive(Debug)]
pub struct FlatWeights {
    /// All weights, `[total]`, in name order. Changing it changes the network.
    pub values: Tensor,
    /// The network's weights, leaves of the autograd graph.
    leaves: Vec<Tensor>,
}

impl FlatWeights {
    /// Moves the weights of `params` into one vector and lets gradients flow to them.
    pub fn new(params: &Params) -> Self {
        tch::no_grad(|| {
            let mut leaves: Vec<Tensor> = params.trainable().map(|(_, tensor)| tensor.shallow_clone()).collect();
            let parts: Vec<Tensor> = leaves.iter().map(|leaf| leaf.detach().reshape([-1])).collect();
            let values = Tensor::cat(&parts, 0);
            let mut offset = 0;
            for leaf in &mut leaves {
                let (shape, count) = (leaf.size(), leaf.numel() as i64);
                leaf.set_data(&values.narrow(0, offset, count).view(shape.as_slice()));
                let _ = leaf.set_requires_grad(true);
                offset += count;
            }
            Self { values, leaves }
        })
    }

    /// The network's weights, in the order of the vector.
    pub(crate) fn leaves(&self) -> &[Tensor] {
        &self.leaves
    }

    /// d loss / d weights, flat; the graph of `loss` is freed.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor> {
        let grads = Tensor::f_run_backward(&[loss], &self.leaves, false, false)?;
        Ok(self.flat(&grads))
    }

    /// d loss / d weights, flat, and d loss / d x of a leaf `x`; the graph of `loss` is freed.
    pub fn gradient_and(&self, loss: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let inputs: Vec<&Tensor> = [x].into_iter().chain(&self.leaves).collect();
        let mut grads = Tensor::f_run_backward(&[loss], &inputs, false, false)?;
        let of_x = grads.remove(0);
        Ok((self.flat(&grads), of_x))
    }

    /// One gradient a leaf as one vector.
    fn flat(&self, grads: &[Tensor]) -> Tensor {
        let flat: Vec<Tensor> = grads
            .iter()
            .zip(&self.leaves)
            // A weight that this loss does not reach (the augmentation label's, without labels) has no gradient.
            .map(
                |(grad, leaf)| {
                    if grad.defined() { grad.reshape([-1]) } else { leaf.detach().zeros_like().reshape([-1]) }
                },
            )
            .collect();
        Tensor::cat(&flat, 0)
    }
}

/// Writes a flat vector of weights, in name order, into the network `params`.
pub fn unflatten(values: &Tensor, params: &Params) -> Result<()> {
    let total = params.trainable_count();
    if values.numel() != total {
        return Err(Error::Input(format!("{} weights for a network of {total}", values.numel())));
    }
    let mut offset = 0;
    tch::no_grad(|| {
        for (_, tensor) in params.trainable() {
            let count = tensor.numel() as i64;
            let source = values.narrow(0, offset, count).view(tensor.size().as_slice());
            tensor.shallow_clone().copy_(&source);
            offset += count;
        }
    });
    Ok(())
}
