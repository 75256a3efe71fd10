//! The denoiser: D(x; sigma), and what a search must know of it.
//!
//! [`Denoiser`] is what every search, sampler and score takes: our networks, programs from files, a caller's own function, the
//! exact [`mixture`](crate::mixture). [`Differentiable`] adds the derivative at a point. [`Guided`] and [`Counting`] wrap any of
//! them.

/// What a denoiser around another has from it: its types, its latents and conditions, how its samples look.
macro_rules! as_inside {
    ($self:ident, $inner:expr) => {
        type Batch = D::Batch;
        type Conditions = D::Conditions;
        type Error = D::Error;

        fn latents(&$self, seeds: &[u64]) -> Result<Self::Batch, Self::Error> {
            $inner.latents(seeds)
        }

        fn conditions(&$self, seeds: &[u64]) -> Result<Self::Conditions, Self::Error> {
            $inner.conditions(seeds)
        }

        fn same_condition(&$self, class: Option<usize>, samples: usize) -> Result<Self::Conditions, Self::Error> {
            $inner.same_condition(class, samples)
        }

        fn constant(
            &$self,
            constant: &$crate::plan::Constant,
            conditions: &Self::Conditions,
            samples: usize,
        ) -> Result<Self::Batch, Self::Error> {
            $inner.constant(constant, conditions, samples)
        }

        fn check(&$self) -> Result<(), Self::Error> {
            $inner.check()
        }

        fn appearance(&$self) -> Option<&dyn $crate::denoiser::Appearance<Self::Batch, Self::Error>> {
            $inner.appearance()
        }
    };
}

mod counting;
mod guided;
mod levels;
mod oracle;
mod spread;

use serde::{Deserialize, Serialize};

pub use self::counting::{Cost, Counting};
pub use self::guided::{GuidanceError, Guided, Reference};
pub use self::levels::Levels;
pub(crate) use self::levels::nearest;
pub use self::oracle::{Classes, Oracle};
pub use self::spread::{OwnConditions, Shared, SharedConditions, Spread, SpreadError};
use crate::plan::Constant;
use crate::space::Batch;

/// What a search must know of a denoiser before it asks for anything. [`Spec::new`] makes one of an unconditional denoiser in `f64`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Shape of one sample, of any rank: `[channels, height, width]` for pixels and for most latents. Its product is the number of
    /// values of a sample of a batch.
    pub shape: Vec<usize>,
    /// Noise levels that it knows.
    pub levels: Levels,
    /// Name of its network's [`Parameterisation`](crate::parameterisation::Parameterisation::name), if that is known: kept in the plans
    /// that are found for it.
    pub parameterisation: Option<&'static str>,
    /// Number of classes that it is conditioned on; 0 without.
    pub classes: usize,
    /// Network calls that one evaluation takes: 1, or 2 under guidance.
    pub calls: usize,
    /// Guidance, if there is any.
    pub guidance: Option<Guidance>,
    /// Relative rounding of an answer: 1e-16 for f64, 6e-8 for f32, 4e-3 for bf16. Refinement measures derivatives by differences of
    /// answers, and chooses their size so that they stand out of it.
    pub rounding: f64,
    /// Name of the network, such as the hash of its weights and the type it computes in: part of every key of a cache, so that what was
    /// found for one denoiser is not taken for another's. Nothing else reads it.
    pub identity: String,
}

impl Spec {
    /// An unconditional denoiser of samples of this shape, which answers at these levels in `f64` and is called `identity`.
    pub fn new(shape: impl Into<Vec<usize>>, levels: Levels, identity: impl Into<String>) -> Self {
        Self {
            shape: shape.into(),
            levels,
            parameterisation: None,
            classes: 0,
            calls: 1,
            guidance: None,
            rounding: f64::EPSILON,
            identity: identity.into(),
        }
    }

    /// Numbers in one sample.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Guidance as plans and cache keys keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guidance {
    /// w in D_ref + w (D - D_ref).
    pub weight: f64,
    /// What D_ref is: the network without its condition, or the identity of a second network.
    pub reference: String,
}

/// `D(x; sigma)`: the expected clean sample given `x = y + sigma n`.
///
/// A value of [`Denoiser::Batch`] holds a batch of samples, one of [`Denoiser::Conditions`] what each of them is denoised under.
/// Both go by seed: the same seed is the same latent and the same condition in any batch. Evaluations may fail; the first error
/// ends what asked for them.
///
/// What searches and samplers rely on, and check as far as a batch can tell:
///
/// - N samples in are N samples out, in order, each of as many values as [`Spec::shape`] says. N is any number of at least 1: searches
///   work on parts of their latents.
/// - Levels are positive and lie in [`Levels::supported`]; where [`Levels::discrete`] is a list, searches ask at its levels alone.
///   States are `y + sigma n`, whatever scaling the network has inside.
/// - The same input has the same answer. A random answer, as of dropout, makes fits and differences worthless.
///
/// [`Oracle`] is a small one to read; one of your own takes about 30 lines (`docs/library.md`).
pub trait Denoiser {
    /// A batch of samples: `Vec<Vec<f64>>`, a vector a sample, or a type of your own.
    type Batch: Batch;
    /// The condition of every sample of a batch; `()` for a denoiser without.
    type Conditions: Clone;
    /// Why an evaluation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What it is.
    fn spec(&self) -> &Spec;

    /// Unit normal noise `[N, shape]`, one sample a seed: not scaled by any level. [`noise::latents`](crate::noise::latents) makes the
    /// numbers.
    ///
    /// # Errors
    /// If memory does not suffice, say.
    fn latents(&self, seeds: &[u64]) -> Result<Self::Batch, Self::Error>;

    /// The condition of each seed.
    ///
    /// # Errors
    /// If there are no conditions for these seeds.
    fn conditions(&self, seeds: &[u64]) -> Result<Self::Conditions, Self::Error>;

    /// One condition for so many samples: a class, or none, which is what guidance by a dropped condition refers to. Searches ask for
    /// classes where [`Spec::classes`] is not 0.
    ///
    /// # Errors
    /// If there is no such class, or the network cannot do without.
    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Self::Conditions, Self::Error>;

    /// The constant image of a plan as a batch `[samples, shape]`: the one that it has, repeated, or each sample's class's.
    ///
    /// Plans of least squares may hold the mean answer at the first level, where noise drowns the image, in place of an evaluation
    /// ([`Constant`]). It is stored as plain numbers, and only a denoiser knows how these become one of its batches.
    ///
    /// # Errors
    /// If the constant is of another shape or of other classes.
    fn constant(
        &self,
        constant: &Constant,
        conditions: &Self::Conditions,
        samples: usize,
    ) -> Result<Self::Batch, Self::Error>;

    /// `D(x; sigma)` of several batches `[N, shape]`, each at a level of its own and all under the same conditions: as many batches, in
    /// order. A network may take all of them in one call.
    ///
    /// # Errors
    /// If the network fails; the batches are then lost.
    fn denoise(
        &self,
        asked: &[(&Self::Batch, f64)],
        conditions: &Self::Conditions,
    ) -> Result<Vec<Self::Batch>, Self::Error>;

    /// Whether what was made of its batches since the last evaluation can be relied on. Sums of a batch that several processes share
    /// ([`Spread`]) are not numbers once one of them has gone, and cannot say so.
    ///
    /// # Errors
    /// If it cannot.
    fn check(&self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The same denoiser with its derivative, if it has one.
    fn differentiable(
        &self,
    ) -> Option<&dyn Differentiable<Batch = Self::Batch, Conditions = Self::Conditions, Error = Self::Error>> {
        None
    }

    /// How samples look as images, if they are images or can be decoded into some.
    fn appearance(&self) -> Option<&dyn Appearance<Self::Batch, Self::Error>> {
        None
    }
}

/// A denoiser whose derivative at a point can be had.
pub trait Differentiable: Denoiser {
    /// The vector-Jacobian products `(dD/dx)^T cotangent` and `<cotangent, dD/dsigma>`, the latter summed over the batch. The
    /// evaluation is repeated with a graph that need not outlive the call.
    ///
    /// # Errors
    /// If the network fails.
    fn pullback(
        &self,
        x: &Self::Batch,
        sigma: f64,
        conditions: &Self::Conditions,
        cotangent: &Self::Batch,
    ) -> Result<(Self::Batch, f64), Self::Error>;
}

/// How the samples of a batch look as images: what moments and clipping are matched on. Samples that are no images are decoded
/// first.
pub trait Appearance<B, E> {
    /// Features of every sample by a network that nobody trained, row by row, `[N, d]`: means of random filters' answers, which tell
    /// smooth images from detailed ones. Their second result is `d`.
    ///
    /// # Errors
    /// If the batch cannot be decoded.
    fn features(&self, batch: &B) -> Result<(Vec<f64>, usize), E>;

    /// How many values of the images lie near the ends of [-1, 1].
    ///
    /// # Errors
    /// If the batch cannot be decoded.
    fn clipping(&self, batch: &B, near: std::ops::Range<f64>) -> Result<Clipping, E>;

    /// Whether samples are these images themselves, so that a multiple of a sample is a multiple of its image.
    fn is_direct(&self) -> bool;
}

/// Values of images by how near they are to the ends of [-1, 1].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clipping {
    /// All values.
    pub values: u64,
    /// Values whose magnitude is beyond the range asked for.
    pub beyond: u64,
    /// The magnitudes in that range.
    pub near: Vec<f32>,
}

/// A denoiser under conditions that stay, with its derivative at a point: what low-level searches are given.
pub trait BoundDenoiser<V> {
    /// Why an evaluation failed.
    type Error;

    /// `D(x; sigma)`, without a graph.
    ///
    /// # Errors
    /// Whatever the network says.
    fn denoised(&mut self, x: &V, sigma: f64) -> Result<V, Self::Error>;

    /// As [`Differentiable::pullback`].
    ///
    /// # Errors
    /// Whatever the network says.
    fn pullback(&mut self, x: &V, sigma: f64, cotangent: &V) -> Result<(V, f64), Self::Error>;
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<D: Denoiser + ?Sized> Denoiser for $pointer {
            as_inside!(self, (**self));

            fn spec(&self) -> &Spec {
                (**self).spec()
            }

            fn denoise(&self, asked: &[(&Self::Batch, f64)], conditions: &Self::Conditions) -> Result<Vec<Self::Batch>, Self::Error> {
                (**self).denoise(asked, conditions)
            }

            fn differentiable(&self) -> Option<&dyn Differentiable<Batch = Self::Batch, Conditions = Self::Conditions, Error = Self::Error>> {
                (**self).differentiable()
            }
        }
    )*};
}

forward!(&D, Box<D>, std::rc::Rc<D>);
