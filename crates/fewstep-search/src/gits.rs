//! `gits`: dynamic programming over single steps from the teacher's states (GITS, Chen et al. 2024, "On the
//! Trajectory Regularity of ODE-based Diffusion Sampling").
//!
//! Their default is the deviation with coefficient 1.15, stopping at the last level, and Euler's or iPNDM's steps on the
//! schedule found.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::teacher::{Nodes, Teacher};
use super::{FoundPlan, Outcome, SearchError, shortest_paths};
use fewstep_core::plan::Metadata;
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_core::space::Samples;

/// What a single Euler step from the teacher's state costs, as a mean over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostMetric {
    /// Sum of absolute differences to the teacher's state.
    L1,
    /// Euclidean distance to the teacher's state.
    L2,
    /// Distance from the straight line through the teacher's ends, less the teacher's own there: GITS's default. A
    /// step that strays less than the teacher has a negative cost.
    #[default]
    Deviation,
}

/// What every single step costs: the part of the search that takes the network. Coefficients, numbers of steps and
/// solvers are then tried for nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct StepCosts {
    metric: CostMetric,
    last_step: LastStep,
    /// Levels a student may be evaluated at and the end.
    sigmas: Vec<f64>,
    samples: usize,
    /// `costs[i][k]`: from node `i` to node `i + 1 + k`.
    costs: Vec<Vec<f64>>,
    evaluations: usize,
    metadata: Metadata,
}

impl StepCosts {
    /// Evaluates the denoiser at the teacher's state of every level once. GITS stops at the last level; with a last
    /// step to zero the last level is free, and the step to zero costs too.
    ///
    /// Memory: one output at a time, and a few batches beside the teacher.
    ///
    /// # Errors
    /// If a cost is not finite, and the first error of the denoiser.
    pub fn measure<V: Samples, E>(
        teacher: &Teacher<V>,
        metric: CostMetric,
        last_step: LastStep,
        denoise: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<Self, SearchError<E>> {
        let costs = Self::of_outputs(teacher, metric, last_step, denoise)?;
        Ok(Self { evaluations: costs.costs.len(), ..costs })
    }

    /// [`StepCosts::measure`] with the outputs that the teacher's solve gave already, in the order of its levels.
    pub(super) fn of_outputs<V: Samples, E>(
        teacher: &Teacher<V>,
        metric: CostMetric,
        last_step: LastStep,
        mut output: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<Self, SearchError<E>> {
        let nodes = teacher.nodes(last_step);
        let line = Line::new(&nodes);
        let own: Vec<Vec<f64>> = match metric {
            CostMetric::Deviation => (0..=nodes.end()).map(|j| line.distances(nodes.state(j))).collect(),
            CostMetric::L1 | CostMetric::L2 => vec![Vec::new(); nodes.end() + 1],
        };
        let mut costs: Vec<Vec<f64>> = Vec::with_capacity(nodes.end());
        for i in 0..nodes.end() {
            let (sigma, x) = (nodes.sigma(i), nodes.state(i));
            let denoised = output(x, sigma).map_err(SearchError::Denoiser)?;
            let to = |j: usize| {
                let ratio = nodes.sigma(j) / sigma;
                let reached = V::combine(&[(ratio, x), (1.0 - ratio, &denoised)]);
                step_cost(metric, &reached, nodes.state(j), &line, &own[j])
            };
            costs.push((i + 1..=nodes.end()).map(to).collect());
        }
        if !costs.iter().flatten().all(|cost| cost.is_finite()) {
            return Err(SearchError::NotFinite { what: "the cost of a step" });
        }
        let sigmas = (0..=nodes.end()).map(|j| nodes.sigma(j)).collect();
        let (samples, metadata) = (teacher.ends().samples, teacher.metadata("gits", last_step));
        Ok(Self { metric, last_step, sigmas, samples, costs, evaluations: 0, metadata })
    }

    /// The mean over the samples of both, which were measured with the same metric on the same levels.
    pub(super) fn merged(mut self, other: &Self) -> Self {
        let samples = self.samples + other.samples;
        let share = other.samples as f64 / samples as f64;
        for (cost, other) in self.costs.iter_mut().flatten().zip(other.costs.iter().flatten()) {
            *cost += share * (other - *cost);
        }
        self.samples = samples;
        self.metadata.found_by.insert("samples".into(), samples.into());
        self
    }

    /// Evaluations of the denoiser that the costs took.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// The schedules of least cost, exactly, for every number of steps up to `most` at once, and `solver` on them (the
    /// costs know Euler's step alone). A step weighs `coefficient` times as much as the one before it, for errors that
    /// grow on the way: GITS uses 1.15 on CIFAR-10, and 1 is a plain sum.
    ///
    /// # Errors
    /// If the coefficient is not positive and finite, or the solver leaves no plan.
    pub fn search(&self, most: usize, coefficient: f64, solver: Solver) -> Result<Outcome, SearchError<Infallible>> {
        if !(coefficient.is_finite() && coefficient > 0.0) {
            return Err(SearchError::Option { name: "coefficient", rule: "positive and finite", value: coefficient });
        }
        let step = |i: usize, k: usize| self.costs[i][k - i - 1];
        let paths = shortest_paths(self.sigmas.len(), most.saturating_add(1), coefficient, step);
        let plans = paths.into_iter().map(|found| {
            let (path, _) = found.path.split_at(found.path.len() - 1);
            let visited = match self.last_step {
                LastStep::ToZero => path,
                LastStep::Stop => &found.path,
            };
            let levels = visited.iter().map(|&j| self.sigmas[j]).collect();
            let schedule = Schedule::new(levels).map_err(|_| SearchError::Grid("is not a schedule"))?;
            let options = SolverOptions { last_step: self.last_step, analytical_first_step: false };
            let mut plan = solver.plan(&schedule, &options)?;
            plan.metadata = self.metadata.clone();
            plan.metadata.found_by.extend([
                ("metric".into(), serde_json::json!(self.metric)),
                ("coefficient".into(), coefficient.into()),
                ("cost".into(), found.cost.into()),
                ("evaluations".into(), self.evaluations().into()),
            ]);
            Ok(FoundPlan { plan, path: path.to_vec(), error: found.cost })
        });
        Ok(Outcome { plans: plans.collect::<Result<_, SearchError<_>>>()?, evaluations: self.evaluations() })
    }
}

/// The straight line through the ends of the teacher's trajectories, sample by sample.
struct Line<V> {
    end: V,
    /// `x_0* - x_N*`.
    chord: V,
    length_squared: Vec<f64>,
}

impl<V: Samples> Line<V> {
    fn new(nodes: &Nodes<V>) -> Self {
        let end = nodes.state(nodes.end()).clone();
        let chord = end.difference(nodes.state(0));
        let length_squared = chord.sample_dots(&chord);
        Self { end, chord, length_squared }
    }

    /// The distance of each sample from the line.
    fn distances(&self, x: &V) -> Vec<f64> {
        let to_end = self.end.difference(x);
        let along = to_end.sample_dots(&self.chord).into_iter().zip(&self.length_squared);
        // a trajectory that ends where it starts has no line; nothing strays from it
        let factors: Vec<f64> = along.map(|(dot, length)| if *length > 0.0 { dot / length } else { 0.0 }).collect();
        let off = to_end.difference(&self.chord.scale_samples(&factors));
        off.sample_dots(&off).into_iter().map(f64::sqrt).collect()
    }
}

/// `own`: the distances of the teacher's states there from the line, where they are asked for.
fn step_cost<V: Samples>(metric: CostMetric, reached: &V, target: &V, line: &Line<V>, own: &[f64]) -> f64 {
    let values = match metric {
        CostMetric::L1 => reached.difference(target).sample_l1(),
        CostMetric::L2 => {
            let error = reached.difference(target);
            error.sample_dots(&error).into_iter().map(f64::sqrt).collect()
        }
        CostMetric::Deviation => {
            line.distances(reached).into_iter().zip(own).map(|(student, teacher)| student - teacher).collect()
        }
    };
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
