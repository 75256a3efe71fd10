//! Finding plans: one teacher a model, and every method's plans for all numbers of steps from it.

mod arguments;
mod cost;
mod method;
mod moments;
mod refinement;
mod saturation;
mod settings;
mod sweep;
mod teacher;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use fewstep_core::objective::BoundTable;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::search::{
    Fit, FoundPlan, SearchError, StepCosts, StudentOptions, Teacher, least_squares_along, least_squares_seen,
    minimise_bound, reachable,
};
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_eval::features::FeatureNetwork;
use fewstep_nn::Model;
use fewstep_nn::data::Images;
use fewstep_nn::search::Network;
use fewstep_nn::tensor::Batch;
use serde::{Deserialize, Serialize};

pub use self::arguments::{DistanceName, SearchArgs};
pub use self::method::{Method, MomentsOf, Refinement, SCHEDULES, Search, parse_solver};
pub use self::moments::MomentsSettings;
pub use self::refinement::{GaussNewtonSettings, RolloutSettings};
pub use self::settings::{SearchSettings, TeacherSettings, View};
use self::sweep::sweep;
pub use self::teacher::{Cache, fine_levels, held_out_teacher};
use crate::ui::{self, Progress};

/// Latents of searches have seeds from here on: apart from those that are held out and those that anyone samples with.
const SEARCH_SEEDS: u64 = 2 << 40;

/// Coefficients that the local search chooses from where none is given: GITS's range.
const COEFFICIENTS: [f64; 7] = [1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3];

/// The plans of one method.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// One for each number of evaluations that could be served.
    pub plans: BTreeMap<usize, Plan>,
    /// Evaluations of single images that the search took beyond the teacher's.
    pub evaluations: u64,
    /// Seconds that it took beyond the teacher.
    pub seconds: f64,
}

impl Found {
    /// The plan of so many evaluations that `method` found.
    ///
    /// # Errors
    /// If it found none.
    pub fn plan(&self, method: &Method, nfe: usize) -> Result<&Plan> {
        self.plans.get(&nfe).with_context(|| {
            format!("{method} has no plan of {nfe} evaluations; leave that number out of --steps, or choose another --search")
        })
    }
}

/// A network with its teacher.
pub struct Searcher<'a> {
    network: Network<'a>,
    teacher: Teacher<Batch>,
    settings: &'a SearchSettings,
    features: Option<&'a dyn FeatureNetwork>,
    images: Option<&'a Images>,
    costs: OnceCell<StepCosts>,
    /// What was found before: methods that go on from the same search share it.
    known: RefCell<BTreeMap<String, Found>>,
    /// What images are to be like where they are moved to training images.
    target: OnceCell<Rc<moments::Target>>,
    /// That of the network as it came, where this one's was tuned from it.
    origin: Option<&'a Searcher<'a>>,
    /// Evaluations of single images, and seconds, that the teacher took; none where it was found in a file.
    pub teacher_cost: (u64, f64),
}

impl<'a> Searcher<'a> {
    /// Runs the teacher from the search's latents, or takes it from the cache.
    pub fn new(model: &'a Model, settings: &'a SearchSettings, cache: Option<Cache>) -> Result<Self> {
        ensure!(settings.teacher.samples > 0, "a search needs at least one latent");
        let started = Instant::now();
        let network = Network::new(model, &seeds(settings), settings.batch)?;
        let teacher = teacher::obtain(&network, settings, cache)?;
        let teacher_cost = (network.evaluations(), started.elapsed().as_secs_f64());
        Ok(Self {
            network,
            teacher,
            settings,
            features: None,
            images: None,
            costs: OnceCell::new(),
            known: RefCell::default(),
            target: OnceCell::new(),
            origin: None,
            teacher_cost,
        })
    }

    /// With the feature network that refinement by [`Distance::Features`] needs.
    ///
    /// [`Distance::Features`]: fewstep_nn::distance::Distance::Features
    pub fn seen_by(self, features: Option<&'a dyn FeatureNetwork>) -> Self {
        Self { features, ..self }
    }

    /// With the training images that [`MomentsOf::Data`] needs.
    pub fn looking_at(self, images: Option<&'a Images>) -> Self {
        Self { images, ..self }
    }

    /// The same teacher for another network: a tuned one, which steps in place of the one that it was tuned from.
    pub fn for_network<'b>(&'b self, model: &'b Model) -> Result<Searcher<'b>>
    where
        'a: 'b,
    {
        let network = Network::new(model, &seeds(self.settings), self.settings.batch)?;
        Ok(Searcher {
            network,
            teacher: self.teacher.clone(),
            settings: self.settings,
            features: self.features,
            images: self.images,
            costs: OnceCell::new(),
            known: RefCell::default(),
            target: OnceCell::new(),
            origin: Some(self.origin.unwrap_or(self)),
            teacher_cost: (0, 0.0),
        })
    }

    /// The plans of `method` for these numbers of evaluations. `table` is e(sigma), for the bound.
    pub fn find(&self, method: &Method, nfes: &[usize], table: Option<&BoundTable>) -> Result<Found> {
        let least = method.least_latents();
        ensure!(
            self.settings.teacher.samples >= least,
            "{method} needs at least {least} latents, to look at and to judge by: raise --search-samples"
        );
        let key = format!("{method} for {nfes:?}");
        if let Some(found) = self.known.borrow().get(&key) {
            return Ok(found.clone());
        }
        let mut found = match method.before_last() {
            None => self.search(method, nfes, table)?,
            Some(before) => {
                let mut found = self.find(&before, nfes, table)?;
                let started = Instant::now();
                found.evaluations += match (method.moments, method.refinement) {
                    (Some(of), _) => self.match_moments(of, &mut found.plans)?,
                    (None, Some(refinement)) => self.refine_all(method, refinement, &mut found.plans)?,
                    (None, None) => 0,
                };
                found.seconds += started.elapsed().as_secs_f64();
                found
            }
        };
        for plan in found.plans.values_mut() {
            plan.metadata.found_by.insert("method".into(), method.to_string().into());
        }
        self.known.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    fn search(&self, method: &Method, nfes: &[usize], table: Option<&BoundTable>) -> Result<Found> {
        let (started, before) = (Instant::now(), self.network.evaluations());
        let mut of_a_part = 0;
        let most = nfes.iter().copied().max().unwrap_or(0);
        let all: Vec<Plan> = match (&method.search, method.solver) {
            (Search::Fixed(_, family), Some(solver)) => self.fixed(family, solver, nfes)?,
            (Search::Local(coefficient), Some(solver)) => self.local(*coefficient, solver, most)?,
            (Search::Reachable, Some(solver)) => self.reachable(solver, most)?,
            (Search::Bound, Some(solver)) => {
                let table = table.context("the method 'bound' needs training images: name them with --data")?;
                let found = minimise_bound(table, most).into_iter().map(|found| on_schedule(solver, &found.schedule));
                found.collect::<Result<_>>()?
            }
            (Search::LeastSquares, _) => {
                let (plans, evaluations) = self.least_squares(nfes)?;
                of_a_part += evaluations;
                plans
            }
            (_, None) => anyhow::bail!("the method {method} needs a solver"),
        };
        let mut plans = BTreeMap::new();
        for mut plan in all {
            if nfes.contains(&plan.nfe()) {
                plan.metadata.image_shape = Some(self.model().image_shape().map(|size| size as usize));
                plans.entry(plan.nfe()).or_insert(plan);
            }
        }
        let evaluations = self.network.evaluations() - before + of_a_part;
        Ok(Found { plans, evaluations, seconds: started.elapsed().as_secs_f64() })
    }

    fn model(&self) -> &Model {
        self.network.model()
    }

    /// One plan for each number of evaluations that the solver can make.
    fn fixed(&self, family: &fewstep_core::schedule::Family, solver: Solver, nfes: &[usize]) -> Result<Vec<Plan>> {
        let precond = &self.model().config().precond;
        let (low, high) = precond.sampling_range();
        let family = family.on(precond);
        let mut plans = Vec::new();
        for nfe in nfes {
            // a solver of two evaluations a step makes 2 n - 1 of them
            let steps = nfe.div_ceil(solver.evaluations_per_step());
            plans.push(on_schedule(solver, &family.build(steps, low, high)?.round(precond)?)?);
        }
        Ok(plans)
    }

    fn costs(&self) -> Result<&StepCosts> {
        if self.costs.get().is_none() {
            let denoise = |x: &Batch, sigma: f64| self.network.denoised(x, sigma);
            let costs = StepCosts::measure(&self.teacher, self.settings.metric, LastStep::ToZero, denoise)
                .map_err(|error| failed(&error))?;
            let _ = self.costs.set(costs);
        }
        self.costs.get().context("the costs of steps were just measured")
    }

    fn local(&self, coefficient: Option<f64>, solver: Solver, most: usize) -> Result<Vec<Plan>> {
        let costs = self.costs()?;
        let search = |coefficient: f64| {
            let outcome = costs.search(most, coefficient, solver).map_err(|error| anyhow!(error.to_string()))?;
            Ok::<_, anyhow::Error>(outcome.plans.into_iter().map(|found| found.plan).collect::<Vec<_>>())
        };
        if let Some(coefficient) = coefficient {
            return search(coefficient);
        }
        let mut best: Vec<(f64, Plan)> = Vec::new();
        for coefficient in COEFFICIENTS {
            for (n, plan) in search(coefficient)?.into_iter().enumerate() {
                let known = best.get(n).is_some_and(|(_, known)| known.stages == plan.stages);
                if known {
                    continue;
                }
                let error = self.training_error(&plan)?;
                match best.get_mut(n) {
                    None => best.push((error, plan)),
                    Some(kept) if error < kept.0 => *kept = (error, plan),
                    Some(_) => {}
                }
            }
        }
        Ok(best.into_iter().map(|(_, plan)| plan).collect())
    }

    fn student_options(&self, most: usize) -> StudentOptions {
        StudentOptions { most, beam: self.settings.beam, ..StudentOptions::default() }
    }

    /// For solvers that the search cannot step with, Euler's schedules serve, as they do in OSS. Every state is gone on from,
    /// as there: to drop the idle ones can cost a fixed solver its best plan.
    fn reachable(&self, solver: Solver, most: usize) -> Result<Vec<Plan>> {
        let total = self.settings.student_bound(false, most) * self.settings.teacher.samples;
        let mut progress = Progress::new("reachable search", "evaluations (at most)", total as u64, 0);
        let options = StudentOptions { gain: f64::NEG_INFINITY, ..self.student_options(most) };
        match reachable(&self.teacher, solver, &options, counted(&self.network, &mut progress)) {
            Ok(outcome) => Ok(plans(outcome.plans)),
            Err(SearchError::Solver { .. }) => {
                let outcome = reachable(&self.teacher, Solver::Euler, &options, counted(&self.network, &mut progress));
                let found = outcome.map_err(|error| failed(&error))?.plans.into_iter();
                let on = |found: FoundPlan| {
                    let mut plan = on_schedule(solver, found.plan.schedule.as_ref().context("a plan without levels")?)?;
                    plan.metadata = found.plan.metadata;
                    plan.metadata.found_by.insert("searched_with".into(), "euler".into());
                    Ok(plan)
                };
                found.map(on).collect()
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// On the first of the latents. Second, evaluations of single images.
    fn least_squares(&self, nfes: &[usize]) -> Result<(Vec<Plan>, u64)> {
        let SearchSettings { history, ridge, calibrated, free, robust, .. } = *self.settings;
        let fit = Fit { history, ridge, calibrated, free, robust };
        let options = self.student_options(nfes.iter().copied().max().unwrap_or(0));
        let total = self.settings.fitting_evaluations(nfes) as u64;
        let mut progress = Progress::new("least-squares search", "evaluations (at most)", total, 0);
        let (network, teacher) = self.first(self.settings.seen_by_fits())?;
        let outcome = least_squares_seen(&teacher, &fit, &options, self.view(), counted(&network, &mut progress));
        let mut found = outcome.map_err(|error| failed(&error))?.plans;
        let mut evaluations = network.evaluations();
        let start = self.settings.swept(nfes).start.saturating_sub(1);
        if let Some(swept) = found.get_mut(start..).filter(|swept| self.settings.sweeps > 0 && !swept.is_empty()) {
            let along = |paths: &[Vec<usize>], sweeps: usize, samples: usize| {
                let (network, teacher) = self.first(samples)?;
                let denoise = |x: &Batch, sigma: f64| {
                    let outputs = network.denoised(x, sigma)?;
                    progress.set(evaluations + network.evaluations(), "");
                    Ok(outputs)
                };
                let outcome = least_squares_along(&teacher, &fit, &options, paths, sweeps, self.view(), denoise);
                evaluations += network.evaluations();
                match outcome {
                    Ok(outcome) => Ok(outcome.plans),
                    Err(SearchError::NotFinite { .. }) => Ok(Vec::new()),
                    Err(error) => Err(failed(&error)),
                }
            };
            let latents = [self.settings.seen_by_sweeps(), self.settings.seen_by_fits()];
            sweep(swept, self.settings.sweeps, latents, along)?;
            for found in swept {
                // of as many latents as are fitted, like those of the program
                let of_all = evaluations.div_ceil(self.settings.seen_by_fits() as u64);
                found.plan.metadata.found_by.insert("evaluations".into(), of_all.into());
            }
        }
        let plans = plans(found);
        let raised = |plan: &&Plan| plan.metadata.found_by.get("regularised").is_some_and(|raised| raised == true);
        let raised: Vec<String> = plans.iter().filter(raised).map(|plan| plan.nfe().to_string()).collect();
        if !raised.is_empty() {
            ui::note(format!(
                "the fits at {} evaluations were singular and took a stronger ridge than --ridge asks for",
                raised.join(", ")
            ));
        }
        Ok((plans, evaluations))
    }

    /// The teacher of the first of the latents alone, with a network that knows their classes.
    fn first(&self, samples: usize) -> Result<(Network<'_>, Teacher<Batch>)> {
        let (network, ends) = self.part(0, samples)?;
        let first = |state: &Batch| Batch(state.0.narrow(0, 0, ends.samples as i64));
        let states = self.teacher.states().iter().map(first).collect();
        let teacher = Teacher::from_parts(self.teacher.grid().clone(), states, ends, self.teacher.evaluations());
        Ok((network, teacher.map_err(|error| failed(&error))?))
    }

    /// Images as fits see them.
    fn view(&self) -> impl Fn(&Batch) -> Batch + use<> {
        let view = self.settings.view;
        move |x: &Batch| match view {
            View::Pixels => x.clone(),
            View::Gradients => x.with_gradients(0.1),
            View::Both => x.with_gradients(1.0),
        }
    }

    /// The rollout error on the search's own latents, per pixel.
    pub fn training_error(&self, plan: &Plan) -> Result<f64> {
        let denoise = |x: &Batch, sigma: f64| self.network.denoised(x, sigma);
        let pixels = self.model().image_shape().iter().product::<i64>() as f64;
        Ok(self.teacher.ends().rollout_error(plan, denoise)? / pixels)
    }
}

fn counted(network: &Network, progress: &mut Progress) -> impl FnMut(&Batch, f64) -> fewstep_nn::Result<Batch> {
    let before = network.evaluations();
    move |x, sigma| {
        let outputs = network.denoised(x, sigma)?;
        progress.set(network.evaluations() - before, "");
        Ok(outputs)
    }
}

fn seeds(settings: &SearchSettings) -> Vec<u64> {
    (SEARCH_SEEDS..SEARCH_SEEDS + settings.teacher.samples as u64).collect()
}

fn plans(found: Vec<FoundPlan>) -> Vec<Plan> {
    found.into_iter().map(|found| found.plan).collect()
}

fn on_schedule(solver: Solver, schedule: &Schedule) -> Result<Plan> {
    Ok(solver.plan(schedule, &SolverOptions::default())?)
}

fn failed(error: &SearchError<fewstep_nn::Error>) -> anyhow::Error {
    anyhow!(error.to_string())
}
