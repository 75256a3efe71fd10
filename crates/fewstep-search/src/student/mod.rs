//! The dynamic program over the student's own states that `oss` and `least_squares` share.

mod along;

use std::ops::RangeInclusive;
use std::rc::Rc;

pub use self::along::sweep_evaluations;
pub(super) use self::along::{Swept, along};
use super::gain::any_loss_is_borne;
use super::teacher::{MeanPrediction, Nodes, Teacher};
use super::{FoundPlan, Outcome, SearchError};
use fewstep_core::plan::{Combination, Plan, Source, Stage};
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::LastStep;
use fewstep_core::space::VectorSpace;

/// What both searches are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StudentOptions {
    /// The largest number of steps, which is evaluations, to find plans for.
    pub most: usize,
    /// States kept at every level and number of steps. 1 is the plain dynamic program; more is a beam, which costs as
    /// many times the evaluations. The state nearest to the teacher is often not the best to go on from, so 2 is worth
    /// its price: on mixtures it cuts the error of a 5-step least-squares plan to a third.
    pub beam: usize,
    /// The fraction of a state's error that one more evaluation must take away for the state to be gone on from: of two
    /// states at one level that are nearly as near to the teacher, the one with fewer evaluations has more to spend
    /// below. 0 keeps every state that is an improvement; [`f64::MIN`] or infinitely negative, every state.
    pub gain: f64,
    /// How sampling ends.
    pub last_step: LastStep,
}

impl Default for StudentOptions {
    fn default() -> Self {
        Self { most: 10, beam: 2, gain: 0.1, last_step: LastStep::ToZero }
    }
}

impl StudentOptions {
    /// Evaluations of the whole batch that a search takes at most on a grid of so many levels: first the latent at the first level, and
    /// below it what a constant leads to; then a beam at every level that can be reached with so many evaluations.
    pub fn most_evaluations(&self, grid: usize, constant: bool) -> usize {
        let first = if constant { grid } else { 1 };
        // no level repeats, so that none is left for more evaluations than there are levels
        let reached = (2..=self.most.min(grid)).map(|nfe| self.beam.saturating_mul(grid - nfe + 1));
        reached.fold(first, usize::saturating_add)
    }
}

/// What later steps may refer to, newest first.
#[derive(Clone)]
pub(super) struct Past<V> {
    /// Inputs of the last evaluations.
    pub inputs: Vec<Known<V>>,
    /// Their outputs.
    pub outputs: Vec<Known<V>>,
}

/// A vector that a plan can name.
#[derive(Clone)]
pub(super) struct Known<V> {
    pub source: Source,
    pub value: Rc<V>,
}

/// A sampler under way: it stands at a node, and is evaluated there next or was evaluated there last.
#[derive(Clone)]
pub(super) struct Student<V> {
    /// The nodes it is evaluated at, last the one where it stands.
    path: Vec<usize>,
    /// The input of every evaluation, the coming one included.
    inputs: Vec<Combination>,
    x: Rc<V>,
    past: Past<V>,
    regularised: bool,
}

/// A step that a rule offers.
#[derive(Clone)]
pub(super) struct Step {
    /// The state it leads to, in inputs and outputs of the student's evaluations.
    pub terms: Combination,
    /// `||x - x*||^2` there, the whole batch.
    pub error: f64,
    /// `sum ||x - x*||` over the samples at the end, if it is one: what paths are compared by.
    pub distance: f64,
    /// True where a singular fit had to be regularised beyond what was asked for.
    pub regularised: bool,
}

/// How a student steps: the rule of a solver, or a fit.
pub(super) trait Rule<V> {
    /// How many inputs and how many outputs a step may refer to, the newest included.
    fn depth(&self) -> (usize, usize);

    /// Whether it can step from a constant image in place of an output.
    fn takes_constant(&self) -> bool;

    /// The steps to the nodes `to` in order, all of them later, of a student that was evaluated at the nodes of `path`. Its
    /// newest input is the state at the last of them.
    fn steps(&self, path: &[usize], past: &Past<V>, nodes: &Nodes<V>, to: RangeInclusive<usize>) -> Vec<Step>;

    /// Sampler's name in its plan, and what the plan's metadata says beside what every search writes.
    fn describe(&self, metadata: &mut serde_json::Map<String, serde_json::Value>) -> String;
}

/// A step somewhere, by a student of the current layer.
struct Candidate {
    student: usize,
    step: Step,
}

/// For every number of steps `k` and node `j`, keeps the students with the least `||x_j - x_j*||^2` after `k` steps:
/// each is evaluated once, and that evaluation serves its steps to every later node. A plan of `n` evaluations is the
/// student whose last step, after `n - 1` others, ends nearest to the teacher. Where plans may hold a constant image, a
/// student's first evaluation may be at any node that a step by that image leads to.
///
/// States that are hardly nearer to the teacher than others with fewer evaluations ([`StudentOptions::gain`]) are not gone
/// on from.
///
/// Costs at most `1 + beam (most - 1) (grid - 1)` evaluations, and `grid - 2` more with a constant image. Memory: of
/// every student the state and what it may refer to, at most `(inputs + outputs) beam grid` batches, and as many states
/// again of the layer that follows.
pub(super) fn search<V: VectorSpace, E>(
    search: &str,
    teacher: &Teacher<V>,
    options: &StudentOptions,
    rule: &impl Rule<V>,
    mut denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Outcome, SearchError<E>> {
    let StudentOptions { most, beam, gain, last_step } = *options;
    if beam == 0 {
        return Err(SearchError::Option { name: "beam", rule: "at least 1", value: 0.0 });
    }
    if gain.is_nan() || gain >= 1.0 {
        return Err(SearchError::Option { name: "gain", rule: "below 1", value: gain });
    }
    let nodes = teacher.nodes(last_step);
    let mut layer = first_layer(teacher, &nodes, rule);
    let mut least = vec![f64::INFINITY; nodes.end()];
    let (mut plans, mut evaluations) = (Vec::new(), 0);
    for step in 1..=most.min(nodes.end()) {
        let mut best: Vec<Vec<Candidate>> = (0..=nodes.end()).map(|_| Vec::new()).collect();
        for (index, student) in layer.iter_mut().enumerate() {
            let at = student.path[student.path.len() - 1];
            student.evaluate(&nodes, rule.depth(), &mut denoise)?;
            evaluations += 1;
            let steps = rule.steps(&student.path, &student.past, &nodes, at + 1..=nodes.end());
            for (j, step) in (at + 1..).zip(steps) {
                let kept = if j == nodes.end() { 1 } else { beam };
                keep(&mut best[j], Candidate { student: index, step }, kept);
            }
        }
        let Some(end) = best.pop().and_then(|ends| ends.into_iter().next()) else {
            return Err(SearchError::NotFinite { what: "every state that the search reached" });
        };
        plans.push(layer[end.student].finish(search, end.step, teacher, options, rule));
        if step < most {
            let below = most.min(nodes.end()) - step;
            drop_idle(&mut best, &mut least, gain, nodes.end() - below);
            layer = advance(&layer, best);
        }
    }
    Ok(Outcome::counted(plans, evaluations))
}

/// Students before their first evaluation: one at the first node, and one at every other that a constant image, where
/// there is one, gets it to.
fn first_layer<V: VectorSpace>(teacher: &Teacher<V>, nodes: &Nodes<V>, rule: &impl Rule<V>) -> Vec<Student<V>> {
    let mut layer = vec![Student::start(nodes, &teacher.ends().latent)];
    layer.extend(by_constant(teacher, nodes, rule, 1..=nodes.end() - 1));
    layer
}

/// The students that the constant image, where there is one, gets to the nodes `to`.
fn by_constant<V: VectorSpace>(
    teacher: &Teacher<V>,
    nodes: &Nodes<V>,
    rule: &impl Rule<V>,
    to: RangeInclusive<usize>,
) -> Vec<Student<V>> {
    let Some(MeanPrediction { batch, .. }) = teacher.ends().mean.as_ref().filter(|_| rule.takes_constant()) else {
        return Vec::new();
    };
    let known = |source, value: &V| vec![Known { source, value: Rc::new(value.clone()) }];
    let (inputs, outputs) = (known(Source::Latent, &teacher.ends().latent), known(Source::Constant, batch));
    let past = Past { inputs, outputs };
    let steps = rule.steps(&[0], &past, nodes, to.clone());
    let student = |(j, step): (usize, Step)| Student {
        path: vec![j],
        x: Rc::new(past.value(&step.terms, None)),
        inputs: vec![step.terms],
        past: past.clone(),
        regularised: step.regularised,
    };
    to.zip(steps).filter(|(_, step)| step.error.is_finite()).map(student).collect()
}

/// Adds a candidate to the best few, least error first; one that is not finite is dropped.
fn keep(best: &mut Vec<Candidate>, candidate: Candidate, most: usize) {
    if candidate.step.error.is_finite() {
        let place = best.partition_point(|other| other.step.error <= candidate.step.error);
        best.insert(place, candidate);
        best.truncate(most);
    }
}

/// Drops the candidates at every node that are not nearer to the teacher by `gain` than the `least` error reached there
/// with fewer evaluations. If then none is left at `latest` or before, from where every later layer can still be
/// reached, all are kept.
fn drop_idle(best: &mut [Vec<Candidate>], least: &mut [f64], gain: f64, latest: usize) {
    let every = any_loss_is_borne(gain);
    let gains = |c: &Candidate, least: f64| every || c.step.error <= (1.0 - gain) * least;
    if best.iter().zip(&*least).take(latest + 1).any(|(best, least)| best.iter().any(|c| gains(c, *least))) {
        for (best, least) in best.iter_mut().zip(&*least) {
            best.retain(|c| gains(c, *least));
        }
    }
    for (best, least) in best.iter().zip(least) {
        *least = best.first().map_or(*least, |c| least.min(c.step.error));
    }
}

fn advance<V: VectorSpace>(layer: &[Student<V>], best: Vec<Vec<Candidate>>) -> Vec<Student<V>> {
    let places = best.into_iter().enumerate();
    places.flat_map(|(j, best)| best.into_iter().map(move |c| layer[c.student].moved(j, c.step))).collect()
}

impl<V: VectorSpace> Past<V> {
    /// The value of a combination of what is known; less `target` if given.
    pub fn value(&self, terms: &Combination, target: Option<&V>) -> V {
        let known = || self.inputs.iter().chain(&self.outputs);
        let value = |(source, c)| {
            known()
                .find(|known| known.source == source)
                .map(|known| (c, &*known.value))
                .expect("rules use what is known")
        };
        let mut sum: Vec<(f64, &V)> = terms.terms().map(value).collect();
        sum.extend(target.map(|target| (-1.0, target)));
        V::combine(&sum)
    }
}

impl<V: VectorSpace> Student<V> {
    fn start(nodes: &Nodes<V>, latent: &V) -> Self {
        let sigma = nodes.sigma(0);
        let input = Combination::new(vec![(Source::Latent, sigma)]);
        let x = Rc::new(V::combine(&[(sigma, latent)]));
        let past = Past { inputs: Vec::new(), outputs: Vec::new() };
        Self { path: vec![0], inputs: vec![input], x, past, regularised: false }
    }

    fn evaluate<E>(
        &mut self,
        nodes: &Nodes<V>,
        (inputs, outputs): (usize, usize),
        denoise: &mut impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<(), SearchError<E>> {
        let sigma = nodes.sigma(self.path[self.path.len() - 1]);
        let denoised = denoise(&self.x, sigma).map_err(SearchError::Denoiser)?;
        let k = self.path.len() - 1;
        self.past.inputs.insert(0, Known { source: Source::Input(k), value: Rc::clone(&self.x) });
        self.past.outputs.insert(0, Known { source: Source::Output(k), value: Rc::new(denoised) });
        self.past.inputs.truncate(inputs);
        self.past.outputs.truncate(outputs);
        Ok(())
    }

    fn moved(&self, j: usize, step: Step) -> Self {
        Self {
            path: self.path.iter().copied().chain([j]).collect(),
            x: Rc::new(self.past.value(&step.terms, None)),
            inputs: self.inputs.iter().cloned().chain([step.terms]).collect(),
            past: self.past.clone(),
            regularised: self.regularised || step.regularised,
        }
    }

    fn finish(
        &self,
        search: &str,
        last: Step,
        teacher: &Teacher<V>,
        options: &StudentOptions,
        rule: &impl Rule<V>,
    ) -> FoundPlan {
        let grid = teacher.grid().levels();
        let stage = |(&j, input): (&usize, &Combination)| Stage { sigma: grid[j], input: input.clone() };
        let stages = self.path.iter().zip(&self.inputs).map(stage).collect();
        let mut levels: Vec<f64> = self.path.iter().map(|&j| grid[j]).collect();
        if options.last_step == LastStep::Stop {
            levels.push(teacher.grid().sigma_min());
        }
        let error = last.error / teacher.ends().samples as f64;
        let mut metadata = teacher.metadata(search, options.last_step);
        metadata.found_by.extend([
            ("beam".into(), options.beam.into()),
            ("training_error".into(), error.into()),
            ("regularised".into(), (self.regularised || last.regularised).into()),
        ]);
        let solver = rule.describe(&mut metadata.found_by);
        let mut plan = Plan { stages, output: last.terms, metadata, ..Plan::default() };
        if plan.uses(Source::Constant) {
            plan.constant = teacher.ends().mean.as_ref().map(|mean| mean.constant.clone());
        }
        let plan = plan.named(solver, Schedule::new(levels).ok());
        FoundPlan { plan, path: self.path.clone(), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of the candidates that stay at each of three nodes, of which the first was reached without an error before.
    fn left(gain: f64) -> Vec<Vec<f64>> {
        let candidate = |error: f64| Candidate {
            student: 0,
            step: Step { terms: Combination::default(), error, distance: f64::NAN, regularised: false },
        };
        let mut best: Vec<Vec<Candidate>> = [&[0.0, 1e-9][..], &[0.5, 2.0], &[3.0]]
            .map(|errors| errors.iter().copied().map(candidate).collect())
            .into();
        let mut least = vec![0.0, 1.0, f64::INFINITY];
        drop_idle(&mut best, &mut least, gain, 2);
        assert_eq!(least, [0.0, 0.5, 3.0]);
        best.iter().map(|left| left.iter().map(|candidate| candidate.step.error).collect()).collect()
    }

    #[test]
    fn states_that_gain_too_little_are_dropped() {
        assert_eq!(left(0.1), [vec![0.0], vec![0.5], vec![3.0]]);
        for every in [f64::MIN, f64::NEG_INFINITY] {
            assert_eq!(left(every), [vec![0.0, 1e-9], vec![0.5, 2.0], vec![3.0]]);
        }
    }
}
