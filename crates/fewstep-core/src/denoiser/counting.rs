//! A denoiser that counts what it is asked: the cost of an algorithm is that of running it on one.

use std::cell::Cell;
use std::rc::Rc;

use super::{Denoiser, Differentiable, Spec};
use crate::space::Samples;

/// What an algorithm asked of a denoiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Evaluations of single samples; one with a gradient counts as three.
    pub evaluations: u64,
    /// Network calls on single samples: evaluations times the calls of each.
    pub calls: u64,
}

/// A denoiser that counts evaluations.
#[derive(Debug)]
pub struct Counting<D> {
    denoiser: D,
    evaluations: Rc<Cell<u64>>,
}

impl<D: Denoiser> Counting<D> {
    /// Counts what `denoiser` is asked from now on.
    pub fn new(denoiser: D) -> Self {
        Self { denoiser, evaluations: Rc::default() }
    }

    /// Another denoiser, whose evaluations are counted together with this one's.
    pub fn together_with<E>(&self, denoiser: E) -> Counting<E> {
        Counting { denoiser, evaluations: Rc::clone(&self.evaluations) }
    }

    /// What it was asked so far.
    pub fn cost(&self) -> Cost {
        let evaluations = self.evaluations.get();
        Cost { evaluations, calls: evaluations * self.denoiser.spec().calls as u64 }
    }

    /// The denoiser inside.
    pub fn inner(&self) -> &D {
        &self.denoiser
    }

    /// Counts so many evaluations more: those that were asked of the denoiser in another way than by its traits here.
    pub fn count(&self, evaluations: usize) {
        self.evaluations.set(self.evaluations.get() + evaluations as u64);
    }
}

impl<D: Denoiser> Denoiser for Counting<D> {
    as_inside!(self, self.denoiser);

    fn spec(&self) -> &Spec {
        self.denoiser.spec()
    }

    fn denoise(
        &self,
        asked: &[(&Self::Batch, f64)],
        conditions: &Self::Conditions,
    ) -> Result<Vec<Self::Batch>, Self::Error> {
        self.count(asked.iter().map(|(x, _)| x.samples()).sum());
        self.denoiser.denoise(asked, conditions)
    }

    fn differentiable(
        &self,
    ) -> Option<&dyn Differentiable<Batch = Self::Batch, Conditions = Self::Conditions, Error = Self::Error>> {
        self.denoiser.differentiable().is_some().then_some(self)
    }
}

impl<D: Denoiser> Differentiable for Counting<D> {
    fn pullback(
        &self,
        x: &Self::Batch,
        sigma: f64,
        conditions: &Self::Conditions,
        cotangent: &Self::Batch,
    ) -> Result<(Self::Batch, f64), Self::Error> {
        self.count(3 * x.samples());
        match self.denoiser.differentiable() {
            Some(denoiser) => denoiser.pullback(x, sigma, conditions, cotangent),
            None => Ok((x.clone(), 0.0)),
        }
    }
}
