//! What training and tuning need of a denoiser: its weights.

use std::fmt::Debug;

use fewstep_core::Parameterisation;
use fewstep_core::denoiser::Counting;
use tch::Tensor;

use crate::denoiser::TorchDenoiser;
use crate::error::{Error, Result};
use crate::params::Params;
use crate::unet::Conditions;

/// A denoiser with weights: what [`Trainer`](crate::train::Trainer) and [`Tuner`](crate::fit::Tuner) take.
///
/// [`Model`](crate::Model) is one; so is a network of your own on libtorch whose layers hold shallow clones of [`Tunable::params`]. A
/// [`ProgramDenoiser`](crate::ProgramDenoiser) is none: a traced program has lost what only training does (dropout, augmentation
/// labels), one that was frozen has its weights folded into its code, and a tuned one could not be told from its file's hash.
pub trait Tunable: TorchDenoiser + Sized {
    /// The weights. Whoever writes into them changes the denoiser.
    fn params(&self) -> &Params;

    /// D(x; sigma) with a graph to `x`, `sigma` and the weights. `x`: f32 `[N, ...]`, `sigma`: f32 `[N]` or `[1]`; returns f32 in the
    /// shape of `x`.
    ///
    /// # Errors
    /// If the network fails.
    fn forward(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Tensor>;

    /// How the network becomes a denoiser: the weights of the EDM recipe and the standard deviation of the data follow from it.
    fn parameterisation(&self) -> &Parameterisation;

    /// The architecture, as a training state keeps it: a state is taken up by a network of the same description alone.
    fn description(&self) -> String;

    /// An independent denoiser with the same weights.
    ///
    /// # Errors
    /// If memory does not suffice, say.
    fn duplicate(&self) -> Result<Self>;

    /// A frozen copy of its encoder, on which a critic of tuned images stands.
    ///
    /// # Errors
    /// If it has none: such a denoiser is tuned without a critic.
    fn encoder(&self) -> Result<Box<dyn Encoder>>;

    /// The denoiser whose weights are interpolated between this one's and those of `other`, of the same architecture: `w + alpha (w' - w)`
    /// of every weight (Wortsman et al. 2022).
    ///
    /// # Errors
    /// If the other denoiser lacks a weight of this one, or has it in another shape.
    fn interpolated(&self, other: &Self, alpha: f64) -> Result<Self> {
        let interpolated = self.duplicate()?;
        for (name, weight) in interpolated.params().trainable() {
            let end = other.params().get(name).filter(|end| end.size() == weight.size());
            let end = end.ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?.to_device(weight.device());
            let _ = tch::no_grad(|| weight.shallow_clone().f_lerp_(&end, alpha))?;
        }
        Ok(interpolated)
    }
}

/// Counts what tuning takes, too: an evaluation with a graph as three, as that of a derivative.
impl<M: Tunable> Tunable for Counting<M> {
    fn params(&self) -> &Params {
        self.inner().params()
    }

    fn forward(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let answer = self.inner().forward(x, sigma, conditions)?;
        self.count(x.size()[0] as usize * if answer.requires_grad() { 3 } else { 1 });
        Ok(answer)
    }

    fn parameterisation(&self) -> &Parameterisation {
        self.inner().parameterisation()
    }

    fn description(&self) -> String {
        self.inner().description()
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(self.together_with(self.inner().duplicate()?))
    }

    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        self.inner().encoder()
    }
}

/// Features of noised images at several resolutions.
pub trait Encoder: Debug {
    /// What it makes of `x` under the noise `sigma`, as in [`Tunable::forward`]: a map `[N, c, h, w]` f32 for each of its resolutions,
    /// finest first, differentiable in `x`.
    ///
    /// # Errors
    /// If the network fails.
    fn encoded(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Vec<Tensor>>;
}
