//! A denoiser with the latents and conditions of some seeds, or of a file: what searches, samplers and scores run on.

use std::cell::Cell;

use fewstep_core::denoiser::{BoundDenoiser, Denoiser};
use fewstep_core::execute::{ExecuteError, Start, execute};
use fewstep_core::observe::Observer;
use fewstep_core::plan::{Constant, Plan};
use fewstep_core::space::{Batch, Samples, VectorSpace};

use crate::SearchError;
use crate::error::{Error, Result};

/// A denoiser with the latents and conditions of some samples, one a seed: [`Seeded::run`] runs plans on them. What the denoiser gives is
/// checked against its [`Spec`](fewstep_core::denoiser::Spec): as many samples as were asked for, of as many numbers as its shape says.
///
/// ```
/// use fewstep_core::denoiser::{Levels, Oracle};
/// use fewstep_core::{mixture::Mixture, observe::Silent};
/// use fewstep_search::{Method, SearchSettings, Seeded, find_plans};
///
/// let denoiser = Oracle::new(Mixture::gaussian(vec![1.0, -1.0], 0.25)?, vec![2], Levels::between(0.002, 80.0));
/// let found = find_plans(&denoiser, &Method::LEAST_SQUARES, &[3], &SearchSettings::default(), &Silent)?;
/// let samples = Seeded::new(&denoiser, &[0, 1, 2, 3], &Silent)?.run(&found.plans[&3])?; // [4][2]
/// assert_eq!((samples.len(), samples[0].len()), (4, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// If the denoiser has none for them, or other latents than one a seed of its shape.
    pub fn new(denoiser: &'a D, seeds: &[u64], observer: &'a dyn Observer) -> Result<Self> {
        let conditions = denoiser.conditions(seeds).map_err(Error::denoiser)?;
        Self::of_seeds(denoiser, seeds, conditions, observer)
    }

    /// The latents of `seeds`, all of one class in place of their own.
    ///
    /// # Errors
    /// If the denoiser has no such class, and as [`Seeded::new`].
    pub fn with_class(denoiser: &'a D, seeds: &[u64], class: usize, observer: &'a dyn Observer) -> Result<Self> {
        let conditions = denoiser.same_condition(Some(class), seeds.len()).map_err(Error::denoiser)?;
        Self::of_seeds(denoiser, seeds, conditions, observer)
    }

    fn of_seeds(denoiser: &'a D, seeds: &[u64], conditions: D::Conditions, observer: &'a dyn Observer) -> Result<Self> {
        let latents = denoiser.latents(seeds).map_err(Error::denoiser)?;
        let seeded = Self::from_latents(denoiser, latents, conditions, observer);
        seeded.check("the latents of so many seeds", &seeded.latents, seeds.len())?;
        Ok(seeded)
    }

    /// Latents of any origin, unit normal as those of seeds, and the condition of each. [`Seeded::run`] checks their size.
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

    /// Checks the size of a batch of the denoiser's.
    fn check(&self, what: &'static str, batch: &D::Batch, samples: usize) -> Result<()> {
        let (spec, found) = (self.denoiser.spec(), batch.samples());
        if found != samples {
            return Err(Error::Samples { what, found, expected: samples });
        }
        match batch.other_size(spec.numel()) {
            Some(found) => Err(Error::SampleSize { what, found, shape: spec.shape.clone() }),
            None => Ok(()),
        }
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
        outputs.pop().ok_or_else(|| no_answer(1, 0))
    }

    /// `D(x; sigma)` where a teacher is on its way, which what is not finite ends: no plan can be measured against it.
    ///
    /// # Errors
    /// As [`Seeded::denoised`], and [`Error::AnswerNotFinite`].
    pub(crate) fn taught(&self, x: &D::Batch, sigma: f64) -> Result<D::Batch> {
        let output = self.denoised(x, sigma)?;
        if !output.norm_squared().is_finite() {
            return self.relied_on(Err(Error::AnswerNotFinite { sigma }));
        }
        Ok(output)
    }

    /// `D(x; sigma)` of several batches, each at a level of its own.
    ///
    /// # Errors
    /// As [`Seeded::denoised`], and if the denoiser leaves one out.
    pub fn denoised_together(&self, asked: &[(&D::Batch, f64)]) -> Result<Vec<D::Batch>> {
        self.denoised_under(asked, &self.conditions)
    }

    fn denoised_under(&self, asked: &[(&D::Batch, f64)], conditions: &D::Conditions) -> Result<Vec<D::Batch>> {
        self.count(asked.iter().map(|(x, _)| x.samples()).sum())?;
        let outputs = self.denoiser.denoise(asked, conditions).map_err(Error::denoiser)?;
        if outputs.len() != asked.len() {
            return Err(no_answer(asked.len(), outputs.len()));
        }
        for (output, (x, _)) in outputs.iter().zip(asked) {
            self.check("the answer to a batch", output, x.samples())?;
        }
        Ok(outputs)
    }

    /// `D(x; sigma)` of so many samples, all of one class.
    ///
    /// # Errors
    /// As [`Seeded::denoised`].
    pub(crate) fn of_class(&self, class: usize, x: &D::Batch, samples: usize, sigma: f64) -> Result<D::Batch> {
        let conditions = self.denoiser.same_condition(Some(class), samples).map_err(Error::denoiser)?;
        let mut outputs = self.denoised_under(&[(x, sigma)], &conditions)?;
        outputs.pop().ok_or_else(|| no_answer(1, 0))
    }

    /// A constant of plans, repeated for every sample.
    ///
    /// # Errors
    /// If it does not fit the denoiser.
    pub fn constant(&self, constant: &Constant) -> Result<D::Batch> {
        let batch = self.denoiser.constant(constant, &self.conditions, self.samples).map_err(Error::denoiser)?;
        self.check("a plan's constant, repeated for every sample,", &batch, self.samples)?;
        Ok(batch)
    }

    /// What `plan` makes of the latents; its constant image, where it holds one, is the denoiser's to repeat.
    ///
    /// # Errors
    /// If the plan or the latents do not fit the denoiser, the denoiser fails, or the observer asked for the end.
    pub fn run(&self, plan: &Plan) -> Result<D::Batch> {
        self.run_by(plan, |x, sigma| self.denoised(x, sigma))
    }

    /// What the plan of a teacher makes of the latents.
    ///
    /// # Errors
    /// As [`Seeded::run`], and if an answer or a sample is not finite.
    pub(crate) fn teach(&self, plan: &Plan) -> Result<D::Batch> {
        let samples = self.run_by(plan, |x, sigma| self.taught(x, sigma))?;
        if !samples.norm_squared().is_finite() {
            return self.relied_on(Err(Error::Search(SearchError::NotFinite { what: "the teacher's trajectory" })));
        }
        Ok(samples)
    }

    fn run_by(&self, plan: &Plan, denoise: impl FnMut(&D::Batch, f64) -> Result<D::Batch>) -> Result<D::Batch> {
        plan.check(self.denoiser.spec())?;
        self.check("the latents", &self.latents, self.samples)?;
        let constant = plan.constant.as_ref().map(|constant| self.constant(constant)).transpose()?;
        let start = Start { latent: &self.latents, constant: constant.as_ref() };
        Ok(execute(plan, start, denoise)?)
    }
}

/// A denoiser that answered another number of batches than it was asked for.
fn no_answer(asked: usize, answered: usize) -> Error {
    Error::Execute(ExecuteError::Answers { asked, answered })
}

/// With its derivative, where the denoiser has one.
impl<D: Denoiser> BoundDenoiser<D::Batch> for &Seeded<'_, D> {
    type Error = Error;

    fn denoised(&mut self, x: &D::Batch, sigma: f64) -> Result<D::Batch> {
        Seeded::denoised(self, x, sigma)
    }

    fn pullback(&mut self, x: &D::Batch, sigma: f64, cotangent: &D::Batch) -> Result<(D::Batch, f64)> {
        self.count(3 * x.samples())?;
        let denoiser = self.denoiser.differentiable().ok_or(Error::NotDifferentiable)?;
        let (slope, of_sigma) = denoiser.pullback(x, sigma, &self.conditions, cotangent).map_err(Error::denoiser)?;
        self.check("a derivative", &slope, x.samples())?;
        Ok((slope, of_sigma))
    }
}

/// What `plan` makes of the latents of `seeds`, `batch` of them at once: `done(index of the first, samples)` is called for each part, in
/// order. One seed is one sample, whatever the size of a batch. An error of the caller's own ends it by [`Error::caller`]:
///
/// ```
/// use std::io::Write;
///
/// use fewstep_core::denoiser::{Levels, Oracle};
/// use fewstep_core::{Solver, SolverOptions, mixture::Mixture, observe::Silent, schedule::karras};
/// use fewstep_search::{Error, sample};
///
/// let denoiser = Oracle::new(Mixture::gaussian(vec![1.0, -1.0], 0.25)?, vec![2], Levels::between(0.002, 80.0));
/// let plan = Solver::Heun.plan(&karras(5, 0.002, 80.0, 7.0)?, &SolverOptions::default())?;
/// let mut file = Vec::new();
/// sample(&denoiser, &plan, &[0, 1, 2, 3, 4], 2, &Silent, |first, samples| {
///     for (index, sample) in (first..).zip(samples) {
///         writeln!(file, "{index} {sample:?}").map_err(Error::caller)?;
///     }
///     Ok(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the plan does not fit the denoiser, the denoiser fails, the observer asks for the end, or `done` fails.
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
