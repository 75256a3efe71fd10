//! The only sampling loop.

use std::convert::Infallible;

use crate::plan::{Combination, Plan, PlanError, Source};
use crate::space::VectorSpace;

/// What a run starts from. A latent alone will do (`&latent`) for plans without a constant image
/// ([`Plan::constant`] is none).
#[derive(Debug)]
pub struct Start<'a, V> {
    /// Unit normal noise.
    pub latent: &'a V,
    /// The plan's constant image, repeated for every sample (each with its own class's); see [`crate::plan::Constant`].
    pub constant: Option<&'a V>,
}

impl<V> Clone for Start<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Start<'_, V> {}

impl<'a, V> From<&'a V> for Start<'a, V> {
    fn from(latent: &'a V) -> Self {
        Self { latent, constant: None }
    }
}

/// Why a plan was not run to its end.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExecuteError<E> {
    /// The denoiser failed.
    #[error("{0}")]
    Denoiser(E),
    /// The plan is not valid; plans from files and solvers are.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan refers to its constant image, and the run was not given it.
    #[error(
        "the plan holds a constant image, and the run was given none: `Start` takes it, repeated for every sample, and \
         `fewstep_search::sample` and `Seeded::run` see to that"
    )]
    NoConstant,
    /// The denoiser gave another number of answers than it was given inputs.
    #[error("the denoiser gave {answered} answers to {asked} inputs")]
    Answers {
        /// Inputs.
        asked: usize,
        /// Answers.
        answered: usize,
    },
}

impl<E> ExecuteError<E> {
    /// The denoiser's own error.
    ///
    /// # Errors
    /// If it is none: what else it is.
    pub fn into_denoiser(self) -> Result<E, ExecuteError<Infallible>> {
        match self {
            Self::Denoiser(error) => Ok(error),
            Self::Plan(error) => Err(ExecuteError::Plan(error)),
            Self::NoConstant => Err(ExecuteError::NoConstant),
            Self::Answers { asked, answered } => Err(ExecuteError::Answers { asked, answered }),
        }
    }
}

/// Runs a plan on a batch of unit normal noise and returns the images.
///
/// `denoise(x, sigma)` is `D(x; sigma)` of the whole batch; it is called [`Plan::nfe`] times, with levels in the order of
/// [`Plan::sigmas`]. A vector is dropped after its last use, so an Euler plan never holds more than one input and one output
/// beside the latent.
///
/// Plans that a search found may hold a constant image ([`Plan::constant`]), which `start` then has to bring as a batch: see
/// [`Start`]. For a [`Denoiser`](crate::denoiser::Denoiser) `fewstep_search::sample` does that, and makes the latents of seeds.
///
/// # Errors
/// The first error of `denoise`, which ends the run; if the plan is not valid ([`Plan::validate`]); if it refers to a constant
/// image and `start` has none.
pub fn execute<'a, V: VectorSpace + 'a, E>(
    plan: &Plan,
    start: impl Into<Start<'a, V>>,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<V, ExecuteError<E>> {
    execute_observed(plan, start, denoise, |_, _, _| {})
}

/// [`execute`], telling `observe(stage, &x, &d)` of every evaluation: the network's input and output at that stage.
///
/// # Errors
/// As [`execute`].
pub fn execute_observed<'a, V: VectorSpace + 'a, E>(
    plan: &Plan,
    start: impl Into<Start<'a, V>>,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
    observe: impl FnMut(usize, &V, &V),
) -> Result<V, ExecuteError<E>> {
    let run = Run { plan, start: start.into(), known: &[] };
    let images = run_all(&[run], one_by_one(denoise), observe)?;
    Ok(images.into_iter().next().expect("one run makes one image"))
}

/// A run of [`execute_together`].
#[derive(Debug)]
pub struct Run<'a, V> {
    /// The plan.
    pub plan: &'a Plan,
    /// What it starts from.
    pub start: Start<'a, V>,
    /// The network's outputs at the first stages, where they are known: those are not evaluated.
    pub known: &'a [V],
}

/// The images of several runs, stage by stage: what all of them ask the network at a stage it is asked at once. Networks
/// answer one large batch sooner than several small ones.
///
/// `denoise(&[(x, sigma), ..])` returns one `D(x; sigma)` for each, in order; [`one_by_one`] makes it of a function that
/// takes a single one.
///
/// # Errors
/// As [`execute`], of the first run that has one, and if `denoise` returns fewer vectors than it was asked for.
pub fn execute_together<V: VectorSpace, E>(
    runs: &[Run<V>],
    denoise: impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E>,
) -> Result<Vec<V>, ExecuteError<E>> {
    run_all(runs, denoise, |_, _, _| {})
}

/// A denoiser of several inputs, each at a level of its own, that evaluates one after the other.
pub fn one_by_one<V, E>(
    mut denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E> {
    move |asked| asked.iter().map(|(x, sigma)| denoise(x, *sigma)).collect()
}

fn run_all<V: VectorSpace, E>(
    runs: &[Run<V>],
    mut denoise: impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E>,
    mut observe: impl FnMut(usize, &V, &V),
) -> Result<Vec<V>, ExecuteError<E>> {
    for run in runs {
        run.plan.validate()?;
        if run.start.constant.is_none() && run.plan.uses(Source::Constant) {
            return Err(ExecuteError::NoConstant);
        }
    }
    let mut memories: Vec<Memory<V>> = runs.iter().map(|run| Memory::new(run.plan, run.start)).collect();
    for k in 0..runs.iter().map(|run| run.plan.nfe()).max().unwrap_or(0) {
        let under_way =
            runs.iter().zip(&mut memories).filter_map(|(run, memory)| Some((run, run.plan.stages.get(k)?, memory)));
        let stages: Vec<_> = under_way
            .map(|(run, stage, memory)| (memory.gather(&stage.input, k), stage.sigma, run.known.get(k), memory))
            .collect();
        let unknown = stages.iter().filter(|(.., known, _)| known.is_none());
        let asked: Vec<(&V, f64)> = unknown.map(|(x, sigma, ..)| (x, *sigma)).collect();
        let answers = if asked.is_empty() { Vec::new() } else { denoise(&asked).map_err(ExecuteError::Denoiser)? };
        if answers.len() < asked.len() {
            return Err(ExecuteError::Answers { asked: asked.len(), answered: answers.len() });
        }
        let mut answers = answers.into_iter();
        for (x, _, known, memory) in stages {
            let d = known.cloned().or_else(|| answers.next()).expect("as many answers as inputs");
            observe(k, &x, &d);
            memory.keep(k, x, d);
        }
    }
    Ok(runs.iter().zip(&mut memories).map(|(run, memory)| memory.gather(&run.plan.output, run.plan.nfe())).collect())
}

/// The vectors alive during a run.
struct Memory<'a, V> {
    start: Start<'a, V>,
    inputs: Vec<Slot<V>>,
    outputs: Vec<Slot<V>>,
}

struct Slot<V> {
    value: Option<V>,
    /// The last stage (or the number of stages, for the image) whose combination needs this vector.
    last_use: Option<usize>,
}

impl<'a, V: VectorSpace> Memory<'a, V> {
    fn new(plan: &Plan, start: Start<'a, V>) -> Self {
        let slots = || (0..plan.nfe()).map(|_| Slot { value: None, last_use: None }).collect();
        let mut memory = Self { start, inputs: slots(), outputs: slots() };
        let combinations = plan.stages.iter().map(|stage| &stage.input).chain([&plan.output]);
        for (moment, combination) in combinations.enumerate() {
            for (source, _) in combination.terms() {
                match source {
                    Source::Latent | Source::Constant => {}
                    Source::Input(k) => memory.inputs[k].last_use = Some(moment),
                    Source::Output(k) => memory.outputs[k].last_use = Some(moment),
                }
            }
        }
        memory
    }

    /// The combination's value at `moment`; vectors not needed after it are dropped.
    fn gather(&mut self, combination: &Combination, moment: usize) -> V {
        let terms: Vec<(f64, &V)> = combination.terms().map(|(source, c)| (c, self.get(source))).collect();
        let sum = V::combine(&terms);
        // a last use is one by this combination
        for (source, _) in combination.terms() {
            let slot = match source {
                Source::Latent | Source::Constant => continue,
                Source::Input(k) => &mut self.inputs[k],
                Source::Output(k) => &mut self.outputs[k],
            };
            if slot.last_use == Some(moment) {
                slot.value = None;
            }
        }
        sum
    }

    fn get(&self, source: Source) -> &V {
        let slot = match source {
            Source::Latent => return self.start.latent,
            Source::Constant => return self.start.constant.expect("the run was checked to have it"),
            Source::Input(k) => &self.inputs[k],
            Source::Output(k) => &self.outputs[k],
        };
        slot.value.as_ref().expect("a valid plan uses what earlier stages made")
    }

    fn keep(&mut self, k: usize, x: V, d: V) {
        for (slot, value) in [(&mut self.inputs[k], x), (&mut self.outputs[k], d)] {
            slot.value = slot.last_use.is_some().then_some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::plan::Constant;
    use crate::schedule::karras;
    use crate::solver::{Solver, SolverOptions};
    use crate::space::Counted;

    fn most_alive(solver: Solver, n: usize) -> usize {
        let plan = solver.plan(&karras(n, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let token = Rc::new(());
        let latent = Counted(1.0, token.clone());
        let mut most = 0;
        let run = execute(&plan, &latent, |x, _| {
            most = most.max(Rc::strong_count(&token));
            Ok::<_, ()>(Counted(0.5 * x.0, token.clone()))
        });
        run.unwrap();
        most
    }

    #[test]
    fn memory_does_not_grow_with_the_number_of_steps() {
        for solver in Solver::all() {
            assert_eq!(most_alive(solver, 12), most_alive(solver, 40), "{solver}");
        }
        // the token, the latent, the current input: an Euler state has replaced the one before it
        assert_eq!(most_alive(Solver::Euler, 12), 3);
    }

    #[test]
    fn runs_together_are_the_runs_apart_and_ask_at_once() {
        let schedule = |n| karras(n, 0.002, 80.0, 7.0).unwrap();
        let plans = [(Solver::Heun, 3), (Solver::Euler, 5), (Solver::Euler, 2)]
            .map(|(solver, n)| solver.plan(&schedule(n), &SolverOptions::default()).unwrap());
        let latents = [vec![1.0, -2.0], vec![0.3, 0.1], vec![-1.0, 0.7]];
        let denoise = |x: &Vec<f64>, sigma: f64| Ok::<_, ()>(x.iter().map(|x| x.sin() / (1.0 + sigma)).collect());
        let apart: Vec<_> = plans.iter().zip(&latents).map(|(p, l)| execute(p, l, denoise).unwrap()).collect();
        let mut known = Vec::new();
        execute_observed(&plans[1], &latents[1], denoise, |_, _, d: &Vec<f64>| known.push(d.clone())).unwrap();
        for known in [&[][..], &known[..2]] {
            let mut asked_at_once = Vec::new();
            let runs: Vec<_> = plans
                .iter()
                .zip(&latents)
                .enumerate()
                .map(|(i, (plan, latent))| Run { plan, start: latent.into(), known: if i == 1 { known } else { &[] } })
                .collect();
            let mut each = one_by_one(denoise);
            let together = execute_together(&runs, |asked: &[(&Vec<f64>, f64)]| {
                asked_at_once.push(asked.len());
                each(asked)
            });
            assert_eq!(together.unwrap(), apart);
            assert_eq!(asked_at_once, if known.is_empty() { [3, 3, 2, 2, 2] } else { [2, 2, 2, 2, 2] });
        }
        assert_eq!(execute_together::<Vec<f64>, ()>(&[], |_| Err(())), Ok(vec![]));
    }

    #[test]
    fn an_error_of_the_network_ends_the_run() {
        let plan = Solver::Euler.plan(&karras(5, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let mut calls = 0;
        let result = execute(&plan, &vec![1.0], |x, _| {
            calls += 1;
            if calls == 3 { Err("out of memory") } else { Ok(x.clone()) }
        });
        assert_eq!((result, calls), (Err(ExecuteError::Denoiser("out of memory")), 3));
    }

    #[test]
    fn what_cannot_be_run_is_an_error() {
        let plan = Solver::Euler.plan(&karras(3, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let run = |plan: &Plan| execute(plan, &vec![1.0], |x, _| Ok::<_, ()>(x.clone())).unwrap_err();
        let mut empty = plan.clone();
        empty.stages.clear();
        assert_eq!(run(&empty), ExecuteError::Plan(PlanError::NoStages));
        let mut holding = plan.clone();
        holding.constant = Some(Constant { sigma: 80.0, shape: vec![1], samples: vec![vec![0.5]] });
        let terms = [(Source::Constant, 1.0)].into_iter().chain(plan.output.terms());
        holding.output = terms.collect();
        assert_eq!(run(&holding), ExecuteError::NoConstant);
        let (latent, constant) = (vec![1.0], vec![0.5]);
        let start = Start { latent: &latent, constant: Some(&constant) };
        assert!(execute(&holding, start, |x, _| Ok::<_, ()>(x.clone())).is_ok());
        let runs = [Run { plan: &plan, start: (&latent).into(), known: &[] }];
        let silent = execute_together(&runs, |_| Ok::<_, ()>(Vec::new()));
        assert_eq!(silent, Err(ExecuteError::Answers { asked: 1, answered: 0 }));
        assert_eq!(ExecuteError::Denoiser(7).into_denoiser(), Ok(7));
    }

    #[test]
    fn the_observer_sees_every_evaluation() {
        let plan = Solver::Heun.plan(&karras(3, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let mut seen = Vec::new();
        let denoise = |x: &Vec<f64>, sigma: f64| Ok::<_, ()>(vec![x[0] / (1.0 + sigma * sigma)]);
        execute_observed(&plan, &vec![1.0], denoise, |k, x, d| seen.push((k, x[0], d[0]))).unwrap();
        assert_eq!(seen.len(), plan.nfe());
        assert_eq!((seen[0].0, seen[0].1), (0, 80.0));
        assert!(seen.iter().zip(plan.sigmas()).all(|((_, x, d), s)| (d - x / (1.0 + s * s)).abs() < 1e-15));
    }
}
