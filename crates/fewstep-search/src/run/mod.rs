//! Searches as users run them: one teacher, and every method's plans for all budgets from it.

mod check;
mod doubts;
mod extras;
mod fit;
mod found;
mod gits;
mod moments;
mod nearest;
mod plain;
mod refine;
mod teach;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::{Event, Observer};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_core::space::Batch;

pub use self::check::{check_method, check_steps};
pub use self::extras::{Extras, PlanScorer, SampleLoss};
pub use self::found::Found;
use self::moments::HasTarget;
pub use self::moments::{DataMoments, MOST_TRAINING_SAMPLES};
pub use self::teach::{
    TEACHER_STEPS, baseline, fine_levels, held_out_teacher, solve_teacher, teacher_key, usual_teacher,
};
use crate::error::{Error, Result};
use crate::method::{Method, Stage};
use crate::seeded::Seeded;
use crate::settings::{ErrorSpace, GitsSettings, LeastSquaresSettings, SearchSettings};
use crate::{Endpoints, FoundPlan, MeanPrediction, StepCosts, Teacher};

/// Latents that rollout errors are measured on have seeds from here on: no search sees them.
pub const HELD_OUT_SEEDS: u64 = 1 << 40;

/// Latents of searches have seeds from here on: apart from those that are held out and those that anyone samples with.
pub const SEARCH_SEEDS: u64 = 2 << 40;

/// Rises whenever equal settings find other plans than before: what is kept of an earlier search is then not of this one.
pub const SEARCH_REVISION: u32 = 1;

/// Plans on their way through the stages of a method.
#[derive(Clone, Default)]
struct Candidates {
    /// In rising order of evaluations.
    found: Vec<FoundPlan>,
    /// The fit that made them, if one did.
    fit: Option<LeastSquaresSettings>,
    evaluations: u64,
    seconds: f64,
}

impl Candidates {
    /// Leaves the plans of these numbers of evaluations, one each.
    fn retain(&mut self, steps: &[usize]) {
        let mut seen = Vec::new();
        self.found.retain(|found| {
            let nfe = found.plan.nfe();
            let wanted = steps.contains(&nfe) && !seen.contains(&nfe);
            seen.push(nfe);
            wanted
        });
    }
}

/// A denoiser with its teacher: the plans of any method, for all budgets.
pub struct Search<'a, D: Denoiser> {
    student: Seeded<'a, D>,
    teacher: Teacher<D::Batch>,
    settings: &'a SearchSettings,
    extras: Extras<'a, D::Batch>,
    observer: &'a dyn Observer,
    /// What GITS's single steps cost, by its settings without coefficients.
    costs: RefCell<Vec<(GitsSettings, Rc<StepCosts>)>>,
    grids: check::Grids,
    /// What was found before: methods that go on from the same stages share it.
    known: RefCell<BTreeMap<String, Candidates>>,
    /// What samples are matched with where that is training data.
    target: OnceCell<Rc<moments::Target>>,
    /// The search of the network that this one was tuned from, if it was.
    untuned: Option<&'a dyn HasTarget>,
    /// Evaluations of single samples that the teacher took: none where its trajectories were given.
    teacher_evaluations: u64,
    teacher_seconds: f64,
    /// Whether all is tried that a search may try: its evaluations are then the most that one takes.
    tries_all: bool,
}

impl<'a, D: Denoiser> Search<'a, D> {
    /// A search on `denoiser`, which is its own teacher: solves the teacher's trajectories first.
    ///
    /// # Errors
    /// If a setting is outside its domain, the denoiser fails, or the observer asks for the end.
    pub fn new(denoiser: &'a D, settings: &'a SearchSettings, observer: &'a dyn Observer) -> Result<Self> {
        settings.validate()?;
        let started = Instant::now();
        let (teacher, evaluations) = solve_teacher(denoiser, settings, observer)?;
        let mut search = Self::with_teacher(denoiser, teacher, settings, observer)?;
        search.teacher_evaluations += evaluations;
        search.teacher_seconds = started.elapsed().as_secs_f64();
        Ok(search)
    }

    /// A search on `denoiser` against the trajectories of a teacher, from a file or of another denoiser ([`solve_teacher`]).
    ///
    /// # Errors
    /// As [`Search::new`], and if the teacher has other samples than `settings.teacher` and the denoiser say.
    pub fn with_teacher(
        denoiser: &'a D,
        teacher: Teacher<D::Batch>,
        settings: &'a SearchSettings,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
        settings.validate()?;
        teach::check_fits(&teacher, denoiser.spec(), &settings.teacher)?;
        let started = Instant::now();
        let student = Seeded::new(denoiser, &search_seeds(settings), observer)?;
        let teacher = match settings.least_squares.constant {
            true => student.relied_on(teach::holding(&student, teacher))?,
            false => teacher,
        };
        for doubt in doubts::doubts(&teacher, denoiser.spec().numel()) {
            observer.event(Event::Note(&format!("warning: {doubt}")));
        }
        let teacher_evaluations = student.evaluations();
        let gits = gits::levels(&denoiser.spec().levels, &settings.gits);
        Ok(Self {
            grids: check::Grids { search: teacher.grid().len(), gits },
            student,
            teacher,
            settings,
            extras: Extras::default(),
            observer,
            costs: RefCell::default(),
            known: RefCell::default(),
            target: OnceCell::new(),
            untuned: None,
            teacher_evaluations,
            teacher_seconds: started.elapsed().as_secs_f64(),
            tries_all: false,
        })
    }

    /// One that tries all that a search may try, to know what that costs.
    pub(crate) fn trying_all(self) -> Self {
        Self { tries_all: true, ..self }
    }

    /// With what some methods need beside the denoiser.
    pub fn with(self, extras: Extras<'a, D::Batch>) -> Self {
        Self { extras, ..self }
    }

    /// What it has beside the denoiser.
    pub fn extras(&self) -> Extras<'a, D::Batch> {
        self.extras
    }

    /// The same search for a network that was tuned from this one's, against the same teacher; GITS solves the tuned network.
    ///
    /// # Errors
    /// If the denoiser fails.
    pub fn for_tuned<'b, T>(&'b self, denoiser: &'b T) -> Result<Search<'b, T>>
    where
        T: Denoiser<Batch = D::Batch, Conditions = D::Conditions, Error = D::Error>,
    {
        Ok(Search {
            student: Seeded::new(denoiser, &search_seeds(self.settings), self.observer)?,
            teacher: self.teacher.clone(),
            settings: self.settings,
            extras: self.extras,
            observer: self.observer,
            costs: RefCell::default(),
            grids: self.grids,
            known: RefCell::default(),
            target: OnceCell::new(),
            untuned: Some(self.untuned.unwrap_or(self)),
            teacher_evaluations: 0,
            teacher_seconds: 0.0,
            tries_all: self.tries_all,
        })
    }

    /// Evaluations of single samples that the teacher took.
    pub fn teacher_evaluations(&self) -> u64 {
        self.teacher_evaluations
    }

    /// Seconds that it took.
    pub fn teacher_seconds(&self) -> f64 {
        self.teacher_seconds
    }

    /// Those of these numbers of evaluations that `method` has plans for here: its solver can make them, and there are enough levels to
    /// choose from, or for its formula. A comparison of several methods finds these alone.
    pub fn possible(&self, method: &Method, steps: &[usize]) -> Vec<usize> {
        let known = &self.student.denoiser().spec().levels;
        check::possible(method, steps, known, self.grids, self.extras.table)
    }

    /// The plans of `method` for these numbers of evaluations, as [`find_plans`]. Methods that begin with the same stages share them.
    ///
    /// # Errors
    /// As [`find_plans`].
    pub fn find(&self, method: &Method, steps: &[usize]) -> Result<Found> {
        let known = &self.student.denoiser().spec().levels;
        check::servable(method, steps, known, self.grids, self.extras.table)?;
        // what data say of the samples of a tuned network the search of the untuned one knows
        if self.untuned.is_none() {
            check::needs(self.student.denoiser(), method, self.settings, &self.extras)?;
        }
        if steps.is_empty() {
            return Ok(Found::default());
        }
        let mut found = self.run(&method.stages(self.settings), steps)?;
        for plan in found.plans.values_mut() {
            plan.metadata.found_by.insert("method".into(), method.to_string().into());
        }
        Ok(found)
    }

    /// The plans that a list of stages leaves.
    ///
    /// # Errors
    /// As [`Search::find`], and if a sweep does not follow a fit or a number of evaluations is not among what the stages leave.
    pub fn run(&self, stages: &[Stage], steps: &[usize]) -> Result<Found> {
        let mut candidates = self.student.relied_on(self.candidates(stages, steps, most(stages, steps)))?;
        candidates.retain(steps);
        let spec = self.student.denoiser().spec();
        let finished = |FoundPlan { mut plan, .. }: FoundPlan| {
            plan.found_for(spec);
            (plan.nfe(), plan)
        };
        let found = Found {
            plans: candidates.found.into_iter().map(finished).collect(),
            evaluations: candidates.evaluations,
            seconds: candidates.seconds,
        };
        if stages.iter().any(Stage::fits)
            && let Some(doubt) = doubts::few_values(found.plans.values(), self.settings.teacher.samples, spec.numel())
        {
            self.observer.event(Event::Note(&doubt));
        }
        found.complete(steps)
    }

    /// What the stages leave, of up to `most` evaluations where they find more than is asked for.
    fn candidates(&self, stages: &[Stage], steps: &[usize], most: usize) -> Result<Candidates> {
        let Some((stage, before)) = stages.split_last() else { return Ok(Candidates::default()) };
        let key = serde_json::to_string(&(stages, steps, most))?;
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.clone());
        }
        let mut candidates = self.candidates(before, steps, most)?;
        let started = Instant::now();
        self.stage(stage, &mut candidates, steps, most)?;
        candidates.seconds += started.elapsed().as_secs_f64();
        self.known.borrow_mut().insert(key, candidates.clone());
        Ok(candidates)
    }

    fn stage(&self, stage: &Stage, candidates: &mut Candidates, steps: &[usize], most: usize) -> Result<()> {
        match stage {
            Stage::Schedule { family, solver } => self.schedule(family, *solver, candidates, steps),
            Stage::Gits { solver, settings } => self.gits(*solver, settings, candidates, steps),
            Stage::Oss { solver, settings } => self.oss(*solver, settings, candidates, steps),
            Stage::Bound { solver } => self.bound(*solver, candidates, steps),
            Stage::LeastSquares(settings) => self.least_squares(settings, candidates, steps, most),
            Stage::Sweep(settings) => self.sweep(settings, candidates, steps),
            Stage::GaussNewton(settings) => {
                candidates.retain(steps);
                self.gauss_newton(settings, candidates)
            }
            Stage::Rollout { solver, settings } => {
                candidates.retain(steps);
                self.rollout(settings, *solver, candidates)
            }
            Stage::MatchMoments { of, settings } => {
                candidates.retain(steps);
                self.match_moments(*of, settings, candidates)
            }
            Stage::Nearest { settings, others } => self.nearest(settings, others, candidates, steps),
        }
    }

    /// The rollout error on the search's own latents, a value of a sample.
    ///
    /// # Errors
    /// If the denoiser fails.
    pub fn training_error(&self, plan: &Plan) -> Result<f64> {
        let error = self.teacher.ends().rollout_error(plan, |x, sigma| self.student.denoised(x, sigma));
        let error = self.student.relied_on(error.map_err(Error::from))?;
        Ok(error / self.student.denoiser().spec().numel().max(1) as f64)
    }

    /// The first of the latents, with the teacher of these alone.
    fn first(&self, samples: usize) -> Result<(Seeded<'_, D>, Teacher<D::Batch>)> {
        let (student, ends) = self.part(0, samples)?;
        let states = self.teacher.states().iter().map(|state| state.part(0, samples)).collect();
        let teacher =
            Teacher::from_parts::<Error>(self.teacher.grid().clone(), states, ends, self.teacher.evaluations())?;
        Ok((student, teacher))
    }

    /// Some of the latents, and what the teacher makes of them.
    fn part(&self, from: usize, count: usize) -> Result<(Seeded<'_, D>, Endpoints<D::Batch>)> {
        let seeds = search_seeds(self.settings);
        let student = Seeded::new(self.student.denoiser(), &seeds[from..from + count], self.observer)?;
        let whole = self.teacher.ends();
        let mean = match &whole.mean {
            Some(mean) => {
                Some(MeanPrediction { constant: mean.constant.clone(), batch: student.constant(&mean.constant)? })
            }
            None => None,
        };
        let image = whole.image.part(from, count);
        let latent = student.latents().clone();
        Ok((student, Endpoints { latent, mean, image, samples: count }))
    }
}

/// The plans of `method` for these numbers of network evaluations, found on `denoiser` alone: no data, no training.
///
/// `steps` counts evaluations of `D(x; sigma)` a sample ([`Plan::nfe`]; under guidance one evaluation takes
/// [`Spec::calls`](fewstep_core::denoiser::Spec::calls) network calls), each at least 1. Methods that choose from a grid have
/// plans of up to `settings.teacher.grid` of them, 21 by default (`settings.gits.grid`, 61, for GITS); a schedule by its formula has any. All are found in one pass.
///
/// The teacher is solved first, from `settings.teacher.samples` latents: with the default settings 64 x 42 evaluations of a sample.
/// [`Method::BEST`] takes at most 11,264 more for one plan of 4, and 77,280 for all from 2 to 10;
/// [`search_cost`](crate::search_cost) forecasts it. Memory: at most about 300 samples for each latent. [`Search`] serves several methods
/// from one teacher.
///
/// # Errors
/// Before any evaluation: if a setting is outside its domain ([`Error::Setting`]), the method has no plan of one of `steps`
/// ([`Error::NoPlan`], [`MethodError`](crate::MethodError)), or it needs what is not there: training data (`bound`, `+data-moments`:
/// [`Error::NeedsData`], see [`Search::with`]), images ([`Error::NoImages`]) or a derivative ([`Error::NotDifferentiable`]). Then: if
/// the denoiser fails ([`Error::Denoiser`]), its batches are not of the size that its spec says ([`Error::Samples`],
/// [`Error::SampleSize`]), its answers are not finite, or the observer asks for the end ([`Error::Cancelled`]).
pub fn find_plans<D: Denoiser>(
    denoiser: &D,
    method: &Method,
    steps: &[usize],
    settings: &SearchSettings,
    observer: &dyn Observer,
) -> Result<Found> {
    check_method(denoiser, method, steps, settings, &Extras::default())?;
    Search::new(denoiser, settings, observer)?.find(method, steps)
}

/// The seeds of the latents that a search with these settings is made on.
pub fn search_seeds(settings: &SearchSettings) -> Vec<u64> {
    (SEARCH_SEEDS..SEARCH_SEEDS + settings.teacher.samples as u64).collect()
}

/// Evaluations of the longest plan that these stages look for.
fn most(stages: &[Stage], steps: &[usize]) -> usize {
    let longest = steps.iter().copied().max().unwrap_or_default();
    let beyond = stages.iter().filter_map(|stage| match stage {
        Stage::Sweep(settings) if settings.sweeps > 0 && longest >= settings.from => Some(settings.beyond),
        _ => None,
    });
    longest.saturating_add(beyond.max().unwrap_or_default())
}

fn on_schedule(solver: Solver, schedule: &Schedule) -> Result<Plan> {
    Ok(solver.plan(schedule, &SolverOptions::default())?)
}

/// Samples as errors compare them; batches that are no grids are compared as they are.
fn error_space<B: Batch>(space: ErrorSpace) -> impl Fn(&B) -> B {
    move |x: &B| {
        let weight = match space {
            ErrorSpace::Samples => return x.clone(),
            ErrorSpace::Gradients => 0.1,
            ErrorSpace::Both => 1.0,
        };
        x.with_gradients(weight).unwrap_or_else(|| x.clone())
    }
}
