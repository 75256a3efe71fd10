//! A denoiser with the latents and conditions of some seeds, or of a file: what searches, samplers and scores run on.

use std::cell::Cell;

use fewstep_core::denoiser::{BoundDenoiser, Denoiser};
use fewstep_core::execute::{Start, execute};
use fewstep_core::observe::Observer;
use fewstep_core::plan::{Constant, Plan};
use fewstep_core::space::Samples;

use crate::error::{Error, Result};

/// A denoiser with the latents and conditions of some samples, one a seed.
pub struct Seeded<'a, D: Denoiser> {
    denoiser: &'a D,
    latents: D::Batch,
    conditions: D::Conditions,
    samples: usize,
    evaluations: Cell<u64>,
    observer: &'a dyn Observer,
}

impl<'a, D: Denoiser> Seeded<'a, D> {
    /// The latents and conditions of `seeds`.
    ///
    /// # Errors
    /// If the denoiser has none for them.
    pub fn new(denoiser: &'a D, seeds: &[u64], observer: &'a dyn Observer) -> Result<Self> {
        let conditions = denoiser.conditions(seeds).map_err(Error::denoiser)?;
        let latents = denoiser.latents(seeds).map_err(Error::denoiser)?;
        Ok(Self::from_latents(denoiser, latents, conditions, observer))
    }

    /// The latents of `seeds`, all of one class in place of their own.
    ///
    /// # Errors
    /// If the denoiser has no such class.
    pub fn with_class(denoiser: &'a D, seeds: &[u64], class: usize, observer: &'a dyn Observer) -> Result<Self> {
        let conditions = denoiser.same_condition(Some(class), seeds.len()).map_err(Error::denoiser)?;
        let latents = denoiser.latents(seeds).map_err(Error::denoiser)?;
        Ok(Self::from_latents(denoiser, latents, conditions, observer))
    }

    /// Latents of any origin, unit normal as those of seeds, and the condition of each.
    pub fn from_latents(
        denoiser: &'a D,
        latents: D::Batch,
        conditions: D::Conditions,
        observer: &'a dyn Observer,
    ) -> Self {
        let samples = latents.samples();
        Self { denoiser, latents, conditions, samples, evaluations: Cell::new(0), observer }
    }

    /// The denoiser.
    pub fn denoiser(&self) -> &'a D {
        self.denoiser
    }

    /// Unit normal noise.
    pub fn latents(&self) -> &D::Batch {
        &self.latents
    }

    /// The condition of each sample.
    pub fn conditions(&self) -> &D::Conditions {
        &self.conditions
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Evaluations of single samples so far; one with a gradient counts as three.
    pub fn evaluations(&self) -> u64 {
        self.evaluations.get()
    }

    /// What was made of the denoiser's answers, if sums of them can be relied on ([`Denoiser::check`]).
    pub(crate) fn relied_on<T>(&self, outcome: Result<T>) -> Result<T> {
        self.denoiser.check().map_err(Error::denoiser)?;
        outcome
    }

    fn count(&self, evaluations: usize) -> Result<()> {
        if self.observer.cancelled() {
            return Err(Error::Cancelled);
        }
        self.evaluations.set(self.evaluations.get() + evaluations as u64);
        Ok(())
    }

    /// `D(x; sigma)`.
    ///
    /// # Errors
    /// If the denoiser fails, or the observer asked for the end.
    pub fn denoised(&self, x: &D::Batch, sigma: f64) -> Result<D::Batch> {
        let mut outputs = self.denoised_together(&[(x, sigma)])?;
        outputs.pop().ok_or_else(|| Error::denoiser(NoAnswer))
    }

    /// `D(x; sigma)` of several batches, each at a level of its own.
    ///
    /// # Errors
    /// As [`Seeded::denoised`], and if the denoiser leaves one out.
    pub fn denoised_together(&self, asked: &[(&D::Batch, f64)]) -> Result<Vec<D::Batch>> {
        self.count(asked.iter().map(|(x, _)| x.samples()).sum())?;
        let outputs = self.denoiser.denoise(asked, &self.conditions).map_err(Error::denoiser)?;
        if outputs.len() == asked.len() { Ok(outputs) } else { Err(Error::denoiser(NoAnswer)) }
    }

    /// `D(x; sigma)` of so many samples, all of one class.
    ///
    /// # Errors
    /// As [`Seeded::denoised`].
    pub(crate) fn of_class(&self, class: usize, x: &D::Batch, samples: usize, sigma: f64) -> Result<D::Batch> {
        self.count(samples)?;
        let conditions = self.denoiser.same_condition(Some(class), samples).map_err(Error::denoiser)?;
        let mut outputs = self.denoiser.denoise(&[(x, sigma)], &conditions).map_err(Error::denoiser)?;
        outputs.pop().ok_or_else(|| Error::denoiser(NoAnswer))
    }

    /// A constant of plans, repeated for every sample.
    ///
    /// # Errors
    /// If it does not fit the denoiser.
    pub fn constant(&self, constant: &Constant) -> Result<D::Batch> {
        self.denoiser.constant(constant, &self.conditions, self.samples).map_err(Error::denoiser)
    }

    /// What `plan` makes of the latents.
    ///
    /// # Errors
    /// If the plan does not fit the denoiser, or the denoiser fails.
    pub fn run(&self, plan: &Plan) -> Result<D::Batch> {
        plan.check(self.denoiser.spec())?;
        let constant = plan.constant.as_ref().map(|constant| self.constant(constant)).transpose()?;
        let start = Start { latent: &self.latents, constant: constant.as_ref() };
        execute(plan, start, |x: &D::Batch, sigma| self.denoised(x, sigma))
    }
}

/// A denoiser that answered fewer batches than it was asked for.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the denoiser answered fewer batches than it was asked for")]
struct NoAnswer;

/// With its derivative, where the denoiser has one.
impl<D: Denoiser> BoundDenoiser<D::Batch> for &Seeded<'_, D> {
    type Error = Error;

    fn denoised(&mut self, x: &D::Batch, sigma: f64) -> Result<D::Batch> {
        Seeded::denoised(self, x, sigma)
    }

    fn pullback(&mut self, x: &D::Batch, sigma: f64, cotangent: &D::Batch) -> Result<(D::Batch, f64)> {
        self.count(3 * x.samples())?;
        let denoiser = self.denoiser.differentiable().ok_or(Error::NotDifferentiable)?;
        denoiser.pullback(x, sigma, &self.conditions, cotangent).map_err(Error::denoiser)
    }
}

/// What `plan` makes of `seeds`, `batch` of them at once: `done(first index, samples)` is called for each part, in order.
///
/// # Errors
/// If the plan does not fit the denoiser, the denoiser fails, or `done` does.
pub fn sample<D: Denoiser>(
    denoiser: &D,
    plan: &Plan,
    seeds: &[u64],
    batch: usize,
    observer: &dyn Observer,
    mut done: impl FnMut(usize, &D::Batch) -> Result<()>,
) -> Result<()> {
    let batch = batch.max(1);
    for (index, part) in seeds.chunks(batch).enumerate() {
        done(index * batch, &Seeded::new(denoiser, part, observer)?.run(plan)?)?;
    }
    Ok(())
}
