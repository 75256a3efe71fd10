//! The teacher: a fine solve of the probability-flow ODE that searches measure students against.

use super::SearchError;
use fewstep_core::execute::{ExecuteError, Start, execute, execute_observed};
use fewstep_core::plan::{Constant, Metadata, Plan};
use fewstep_core::schedule::{Schedule, ScheduleError, karras};
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_core::space::{Samples, VectorSpace};

/// Latents and the images that a teacher makes of them: all that it takes to score a plan, or to refine one.
#[derive(Clone, Debug)]
pub struct Endpoints<V> {
    /// Unit normal noise, a batch in one vector.
    pub latent: V,
    /// The mean prediction, for plans that use it as a constant.
    pub mean: Option<MeanPrediction<V>>,
    /// `x_0*`, the teacher's images.
    pub image: V,
    /// Samples in the batch, so that errors can be given per sample.
    pub samples: usize,
}

/// The mean output of the network where noise drowns the image: a constant for plans, and the same repeated for every sample of a batch.
#[derive(Clone, Debug)]
pub struct MeanPrediction<V> {
    /// As plans keep it.
    pub constant: Constant,
    /// As a batch.
    pub batch: V,
}

impl<V: VectorSpace> Endpoints<V> {
    /// What a plan starts from.
    pub fn start(&self) -> Start<'_, V> {
        Start { latent: &self.latent, constant: self.mean.as_ref().map(|mean| &mean.batch) }
    }

    /// The images that `plan`, which needs no constant image, makes.
    ///
    /// # Errors
    /// As [`execute`].
    pub fn solve<E>(
        plan: &Plan,
        latent: V,
        samples: usize,
        denoise: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<Self, ExecuteError<E>> {
        let image = execute(plan, &latent, denoise)?;
        Ok(Self { latent, mean: None, image, samples })
    }

    /// The rollout error `E ||x_0 - x_0*||^2` of a plan, per sample: on latents that no search has used, the
    /// held-out error. Costs the plan's evaluations.
    ///
    /// # Errors
    /// As [`execute`].
    pub fn rollout_error<E>(
        &self,
        plan: &Plan,
        denoise: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<f64, ExecuteError<E>> {
        let image = execute(plan, self.start(), denoise)?;
        Ok(image.difference(&self.image).norm_squared() / self.samples as f64)
    }
}

impl<V: Samples> Endpoints<V> {
    /// The mean distance `E ||x_0 - x_0*||` of a plan, per sample: as [`Endpoints::rollout_error`], but not ruled by the few samples that
    /// end far from the teacher's.
    ///
    /// # Errors
    /// As [`execute`].
    pub fn mean_distance<E>(
        &self,
        plan: &Plan,
        denoise: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<f64, ExecuteError<E>> {
        let error = execute(plan, self.start(), denoise)?.difference(&self.image);
        Ok(error.sample_dots(&error).into_iter().map(f64::sqrt).sum::<f64>() / self.samples as f64)
    }
}

/// A teacher's trajectories at the levels of a grid, for one batch of latents.
///
/// Memory: one batch a grid level, and two. A larger set of latents is processed as a list of batches, which is a
/// vector too (see [`VectorSpace`]).
#[derive(Clone, Debug)]
pub struct Teacher<V> {
    grid: Schedule,
    states: Vec<V>,
    ends: Endpoints<V>,
    evaluations: usize,
}

impl<V: VectorSpace> Teacher<V> {
    /// Solves from `sigma_max * latent` to zero noise with `solver` on the levels of `fine`, and keeps the states at
    /// those of `grid`. [`refined`] makes a `fine` of a `grid`.
    ///
    /// # Errors
    /// If a level of `grid` is not one of `fine`, or the two do not share their ends; if `samples` is 0; and the
    /// first error of the denoiser.
    pub fn solve<E>(
        solver: Solver,
        fine: &Schedule,
        grid: &Schedule,
        latent: V,
        samples: usize,
        denoise: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<Self, SearchError<E>> {
        let place = |level: &f64| fine.levels().iter().position(|other| other == level);
        let Some(places) = grid.levels().iter().map(place).collect::<Option<Vec<usize>>>() else {
            return Err(SearchError::Grid("holds a noise level that the teacher does not visit"));
        };
        if grid.sigma_max() != fine.sigma_max() || grid.sigma_min() != fine.sigma_min() {
            return Err(SearchError::Grid("does not reach from end to end of the teacher's schedule"));
        }
        let plan = solver.plan(fine, &SolverOptions::default())?;
        let mut states = Vec::with_capacity(grid.len());
        let keep = |stage: usize, x: &V, _: &V| {
            // every solver evaluates first at the level itself
            let (step, within) = (stage / solver.evaluations_per_step(), stage % solver.evaluations_per_step());
            if within == 0 && places.get(states.len()) == Some(&step) {
                states.push(x.clone());
            }
        };
        let image = execute_observed(&plan, &latent, denoise, keep)?;
        Self::from_parts(grid.clone(), states, Endpoints { latent, mean: None, image, samples }, plan.nfe())
    }

    /// A teacher from a cache: `states[j]` is `x*(grid[j])`, and `evaluations` is what it cost to make.
    ///
    /// # Errors
    /// If the grid has fewer than two levels or not one state each, if there are no samples, or if the norm of a
    /// state is not finite.
    pub fn from_parts<E>(
        grid: Schedule,
        states: Vec<V>,
        ends: Endpoints<V>,
        evaluations: usize,
    ) -> Result<Self, SearchError<E>> {
        if grid.len() < 2 {
            return Err(SearchError::Grid("needs at least two noise levels"));
        }
        if states.len() != grid.len() {
            return Err(SearchError::Grid("does not have as many noise levels as the teacher has states"));
        }
        if ends.samples == 0 {
            return Err(SearchError::NoSamples);
        }
        let finite = |state: &V| state.norm_squared().is_finite();
        if !(finite(&ends.latent) && finite(&ends.image) && states.iter().all(finite)) {
            return Err(SearchError::NotFinite { what: "the teacher's trajectory" });
        }
        Ok(Self { grid, states, ends, evaluations })
    }

    /// The levels at which states are kept.
    pub fn grid(&self) -> &Schedule {
        &self.grid
    }

    /// `x*(sigma_j)` for every level of the grid.
    pub fn states(&self) -> &[V] {
        &self.states
    }

    /// The latents and the final images.
    pub fn ends(&self) -> &Endpoints<V> {
        &self.ends
    }

    /// The same teacher, for searches whose plans may use the mean prediction, which stands for the first level of the
    /// grid. `evaluations` is what it cost.
    pub fn with_mean(mut self, mean: MeanPrediction<V>, evaluations: usize) -> Self {
        self.ends.mean = Some(mean);
        self.evaluations += evaluations;
        self
    }

    /// Evaluations of the denoiser, each of the whole batch, that the trajectories cost.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// Where a student can go: the levels it may be evaluated at, and the end.
    pub(super) fn nodes(&self, last_step: LastStep) -> Nodes<'_, V> {
        let levels = self.grid.levels();
        let (count, end_sigma, end) = match last_step {
            LastStep::ToZero => (levels.len(), 0.0, &self.ends.image),
            LastStep::Stop => (levels.len() - 1, self.grid.sigma_min(), &self.states[levels.len() - 1]),
        };
        let mut nodes: Vec<(f64, &V)> = levels[..count].iter().copied().zip(&self.states).collect();
        nodes.push((end_sigma, end));
        Nodes(nodes)
    }

    /// Provenance that every search writes.
    pub(super) fn metadata(&self, search: &str, last_step: LastStep) -> Metadata {
        let mut metadata = Metadata::default();
        let last_step = match last_step {
            LastStep::ToZero => "to_zero",
            LastStep::Stop => "stop",
        };
        for (name, value) in [
            ("search", search.into()),
            ("last_step", last_step.into()),
            ("grid_levels", self.grid.len().into()),
            ("samples", self.ends.samples.into()),
            ("teacher_evaluations", self.evaluations.into()),
        ] {
            metadata.found_by.insert(name.into(), value);
        }
        metadata
    }
}

/// Noise levels and the teacher's states there, in sampling order. The last is the end, which is not evaluated: the
/// image, or the state at the last level of the grid for a sampler that stops there.
pub(super) struct Nodes<'a, V>(Vec<(f64, &'a V)>);

impl<V> Nodes<'_, V> {
    /// Index of the end.
    pub fn end(&self) -> usize {
        self.0.len() - 1
    }

    pub fn sigma(&self, j: usize) -> f64 {
        self.0[j].0
    }

    pub fn state(&self, j: usize) -> &V {
        self.0[j].1
    }
}

/// `grid` with `parts - 1` more levels inside every step, spaced as in the rho = 7 schedule: a teacher's own steps
/// where the grid is coarse. Levels so close that nothing fits between them stay neighbours.
///
/// # Errors
/// If `parts` are more than a schedule by a formula may have.
pub fn refined(grid: &Schedule, parts: usize) -> Result<Schedule, ScheduleError> {
    let parts = parts.max(1);
    let mut levels = Vec::new();
    for pair in grid.levels().windows(2) {
        match karras(parts.saturating_add(1), pair[1], pair[0], 7.0) {
            Ok(inner) => levels.extend_from_slice(&inner.levels()[..parts]),
            Err(ScheduleError::NotDecreasing { .. }) => levels.push(pair[0]),
            Err(error) => return Err(error),
        }
    }
    levels.push(grid.sigma_min());
    Schedule::new(levels)
}
