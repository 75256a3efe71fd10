//! Moving the levels and coefficients of any plan towards less rollout error: down its gradient, or by Gauss-Newton steps
//! from evaluations alone; and of its last combination alone, towards any distance of images.

mod coordinates;
mod gauss_newton;
mod jacobian;
mod levels;
mod output;

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use self::coordinates::Coordinates;
pub use self::coordinates::Moving;
pub use self::gauss_newton::{GaussNewtonOptions, Solved, gauss_newton, gauss_newton_in};
use self::levels::SolverLevels;
pub use self::output::{RefitOptions, Refitted, refit_output};
use super::rollout::{PlanGradient, rollout_gradient};
use super::teacher::Endpoints;
use fewstep_core::denoiser::BoundDenoiser;
use fewstep_core::execute::ExecuteError;
use fewstep_core::optimise::{Adam, AdamError, cosine};
use fewstep_core::plan::{Plan, PlanError};
use fewstep_core::schedule::{Schedule, ScheduleError};
use fewstep_core::solver::{Solver, SolverError};
use fewstep_core::space::VectorSpace;

/// Options of a refinement. The defaults suit a plan that is good already, such as a fitted one; an unfitted one has
/// further to go and bears five times the learning rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefineOptions {
    /// Gradient steps.
    pub steps: usize,
    /// Adam's step for coefficients at the start; it falls to zero along a cosine.
    pub learning_rate: f64,
    /// The same for the logarithms of the levels.
    pub level_learning_rate: f64,
    /// What may move.
    pub moving: Moving,
    /// A solver whose formula gives the coefficients of whatever levels the plan moves to, in place of what `moving` says: LD3. The
    /// plan is then this solver's, and holds its schedule.
    pub solver: Option<Solver>,
    /// Noise levels that the network knows; levels stay between them.
    pub sigma_range: (f64, f64),
    /// Steps between two evaluations of the held-out error.
    pub check_every: usize,
}

impl Default for RefineOptions {
    fn default() -> Self {
        Self {
            steps: 200,
            learning_rate: 1e-3,
            level_learning_rate: 4e-3,
            moving: Moving { levels: true, coefficients: true },
            solver: None,
            sigma_range: (f64::MIN_POSITIVE, f64::MAX),
            check_every: 20,
        }
    }
}

/// Why a plan cannot be refined further.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RefineError<E> {
    /// The network or the loss failed.
    #[error("the network failed during the refinement: {0}")]
    Denoiser(E),
    /// A gradient that cannot be followed.
    #[error(transparent)]
    Adam(#[from] AdamError),
    /// The plan to start from, or one that was reached, cannot be executed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Levels that the solver leaves no plan on.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// Levels that meet, or a range that holds none.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A plan whose levels are to move and are not known.
    #[error("the plan holds no schedule, and {0}'s levels are to move: take a plan that the solver made on a schedule")]
    NoSchedule(Solver),
    /// A run that lacks something.
    #[error(transparent)]
    Execute(ExecuteError<Infallible>),
    /// Nothing to train on.
    #[error("a refinement needs at least one batch of latents with their images")]
    NoBatches,
}

impl<E> From<ExecuteError<E>> for RefineError<E> {
    fn from(error: ExecuteError<E>) -> Self {
        error.into_denoiser().map_or_else(Self::of_run, Self::Denoiser)
    }
}

impl<E> RefineError<E> {
    /// What is wrong with a run, its denoiser apart.
    fn of_run(error: ExecuteError<Infallible>) -> Self {
        match error {
            ExecuteError::Plan(error) => Self::Plan(error),
            other => Self::Execute(other),
        }
    }
}

/// Refuses a range that no level can be moved into.
fn check_range<E>((sigma_min, sigma_max): (f64, f64)) -> Result<(), RefineError<E>> {
    // no comparison with NaN holds
    if sigma_min <= sigma_max { Ok(()) } else { Err(ScheduleError::Range { sigma_min, sigma_max }.into()) }
}

/// A refinement under way: a plan, and the optimiser's state. It serialises exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refiner {
    options: RefineOptions,
    plan: Plan,
    adam: Adam,
}

impl Refiner {
    /// A refinement of `plan` that has taken no step.
    pub fn new(plan: Plan, options: RefineOptions) -> Self {
        Self { options, plan, adam: Adam::new(options.learning_rate) }
    }

    /// Where it stands. The plan's schedule is that of its levels where they fall, else none; with a solver, what it ran on.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Gradient steps taken.
    pub fn steps(&self) -> u64 {
        self.adam.steps()
    }

    /// One step on one batch; returns the loss before it. `loss(image, target)` gives the loss and its gradient with
    /// respect to the image: [`super::squared_error`], [`super::pseudo_huber`], or a distance of features.
    ///
    /// Costs and memory are those of [`rollout_gradient`].
    ///
    /// # Errors
    /// Of the network or the loss, or if the gradient is not finite or the range of levels holds none. The plan is then as before.
    pub fn step<V: VectorSpace, N: BoundDenoiser<V>>(
        &mut self,
        batch: &Endpoints<V>,
        network: &mut N,
        loss: impl FnOnce(&V, &V) -> Result<(f64, V), N::Error>,
    ) -> Result<f64, RefineError<N::Error>> {
        self.plan.validate()?;
        check_range(self.options.sigma_range)?;
        let (value, gradient) =
            rollout_gradient(&self.plan, batch.start(), network, |image| loss(image, &batch.image))?;
        let (plan, adam) = match self.options.solver {
            None => self.freely(&gradient)?,
            Some(solver) => self.by_formula(solver, &gradient)?,
        };
        plan.validate()?;
        (self.plan, self.adam) = (plan, adam);
        Ok(value)
    }

    /// A step of levels and coefficients, each by itself.
    fn freely<E>(&self, gradient: &PlanGradient) -> Result<(Plan, Adam), RefineError<E>> {
        let coordinates = Coordinates { plan: &self.plan, moving: self.options.moving };
        let slope = coordinates.pullback(gradient);
        let place = coordinates.encode();
        // Adam moves every coordinate by its learning rate; levels get a rate of their own by a change of unit
        let levels = if self.options.moving.levels { self.plan.nfe() } else { 0 };
        let unit = |i: usize| if i < levels { self.level_unit() } else { 1.0 };
        let mut scaled: Vec<f64> = place.iter().enumerate().map(|(i, v)| v / unit(i)).collect();
        let slope: Vec<f64> = slope.iter().enumerate().map(|(i, g)| g * unit(i)).collect();
        let mut adam = self.adam(self.options.learning_rate);
        adam.step(&mut scaled, &slope)?;
        let moved: Vec<f64> = scaled.iter().enumerate().map(|(i, v)| v * unit(i)).collect();
        let mut plan = coordinates.decode(&moved, self.options.sigma_range);
        plan.schedule = Schedule::new(plan.sigmas()).ok();
        Ok((plan, adam))
    }

    /// A step of the levels, which the solver's coefficients follow.
    fn by_formula<E>(&self, solver: Solver, gradient: &PlanGradient) -> Result<(Plan, Adam), RefineError<E>> {
        let schedule = self.plan.schedule.as_ref().ok_or(RefineError::NoSchedule(solver))?;
        let levels = SolverLevels { plan: &self.plan, schedule, solver, lowest: self.options.sigma_range.0 };
        let mut place = levels.encode();
        let mut adam = self.adam(self.options.level_learning_rate);
        adam.step(&mut place, &levels.pullback(gradient)?)?;
        Ok((levels.decode(&place)?, adam))
    }

    /// The optimiser as the next step finds it.
    fn adam(&self, learning_rate: f64) -> Adam {
        let done = self.adam.steps() as f64 / self.options.steps.max(1) as f64;
        let mut adam = self.adam.clone();
        adam.learning_rate = learning_rate * cosine(done);
        adam
    }

    fn level_unit(&self) -> f64 {
        let unit = self.options.level_learning_rate / self.options.learning_rate;
        if unit.is_finite() && unit > 0.0 { unit } else { 1.0 }
    }
}

/// A refined plan and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Refined {
    /// The plan with the least held-out error of all that were evaluated, the one it started from included.
    pub plan: Plan,
    /// Step and held-out error, at the start and every `check_every` steps.
    pub held_out: Vec<(u64, f64)>,
    /// The loss of every step, before it.
    pub losses: Vec<f64>,
    /// Evaluations of the denoiser, per batch, beside those of `held_out`: forward ones, and those repeated with a graph.
    pub evaluations: usize,
}

/// Refines a plan on `training` batches in turn and keeps the plan that is best by `held_out`, such as the rollout error on
/// held-out latents ([`super::Endpoints::rollout_error`]): the early stopping without which a few hundred latents are
/// soon learnt by heart.
///
/// # Errors
/// If there are no batches, if the plan is not valid or the range of levels holds none, and those of [`Refiner::step`].
pub fn refine<V: VectorSpace, N: BoundDenoiser<V>>(
    plan: &Plan,
    training: &[Endpoints<V>],
    mut held_out: impl FnMut(&Plan) -> Result<f64, ExecuteError<N::Error>>,
    options: &RefineOptions,
    network: &mut N,
    mut loss: impl FnMut(&V, &V) -> Result<(f64, V), N::Error>,
) -> Result<Refined, RefineError<N::Error>> {
    plan.validate()?;
    check_range(options.sigma_range)?;
    if training.is_empty() {
        return Err(RefineError::NoBatches);
    }
    let mut refiner = Refiner::new(plan.clone(), *options);
    let mut refined = Refined { plan: plan.clone(), held_out: Vec::new(), losses: Vec::new(), evaluations: 0 };
    let mut least = f64::INFINITY;
    for step in 0..=options.steps {
        if step % options.check_every.max(1) == 0 || step == options.steps {
            let error = held_out(refiner.plan())?;
            refined.held_out.push((refiner.steps(), error));
            if error < least {
                least = error;
                refined.plan = refiner.plan().clone();
            }
        }
        if step < options.steps {
            let batch = &training[step % training.len()];
            refined.losses.push(refiner.step(batch, network, &mut loss)?);
            refined.evaluations += 2 * plan.nfe();
        }
    }
    let samples: usize = training.iter().map(|batch| batch.samples).sum();
    let mut found_by = serde_json::json!({
        "steps": options.steps, "learning_rate": options.learning_rate,
        "level_learning_rate": options.level_learning_rate, "moving": options.moving,
        "samples": samples, "evaluations": refined.evaluations,
        // none where no error was finite, which JSON has no number for
        "deciding_error_before": refined.held_out[0].1, "deciding_error": least,
    });
    if let Some(solver) = options.solver {
        found_by["moving"] = serde_json::json!({ "levels": true, "solver": solver });
    }
    refined.plan.metadata.found_by.insert("refined".into(), found_by);
    Ok(refined)
}
