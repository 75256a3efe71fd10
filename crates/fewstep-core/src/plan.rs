//! The plan: a sampler as data.
//!
//! A plan lists the network evaluations ([`Stage`]) and says of each input, and of the image, which linear combination
//! of the latent, earlier inputs and earlier outputs it is (Eq. 8, generalised to every linear solver).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

pub use self::combination::{Combination, Source, UnknownSource};
pub use self::constant::{Constant, ConstantError};
use crate::denoiser::{Guidance, Levels, Spec};
use crate::schedule::{MOST_LEVELS, Schedule};

mod combination;
mod constant;
mod file;

pub use file::{PLAN_VERSION, PlanError};

/// Stages of a plan, at most: two for each of a schedule's levels. What goes over all pairs of them, as unrolling does, would not fit
/// into memory for many more.
pub const MOST_STAGES: usize = 2 * MOST_LEVELS;

/// One evaluation of the denoiser: `D(input; sigma)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Noise level given to the denoiser; positive.
    pub sigma: f64,
    /// What the denoiser is fed, from sources known before this stage.
    pub input: Combination,
}

/// A sampler: its evaluations, its image, and where it came from.
///
/// Plans made by a [`crate::trace::Trace`] or read from a file obey [`Plan::validate`]; whoever edits one calls it.
///
/// ```
/// use fewstep_core::{LastStep, Plan, Schedule, Solver, SolverOptions};
///
/// let levels = Schedule::new(vec![14.6, 5.1, 1.7, 0.6, 0.15])?; // levels of your own, used as they are
/// let solver: Solver = "dpmpp2m_nolof".parse()?;
/// let options = SolverOptions { last_step: LastStep::ToZero, analytical_first_step: false };
/// let plan = solver.plan(&levels, &options)?;
///
/// let json = plan.to_json()?; // plan.json
/// assert_eq!(Plan::from_json(&json)?, plan);
/// assert!(Plan::from_json(r#"{"version": 1, "stages": []}"#).is_err());
///
/// // what an input is made of: earlier inputs x0, x1, ... and outputs d0, d1, ...
/// let third = &plan.stages[2];
/// assert_eq!(third.sigma, 1.7);
/// assert_eq!(third.input.terms().count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The evaluations, in order. Stage `k` makes `Source::Input(k)` and `Source::Output(k)`.
    pub stages: Vec<Stage>,
    /// The image.
    pub output: Combination,
    /// The image that [`Source::Constant`] stands for, in plans that use it.
    pub constant: Option<Constant>,
    /// Name of the solver that left this plan, or of the search that fitted it.
    pub solver: String,
    /// The noise schedule the solver was run on. Stages may evaluate at other levels too (Heun's corrections), or not at
    /// all at some levels (an analytical first step).
    pub schedule: Option<Schedule>,
    /// Provenance and scores; the executor ignores it.
    pub metadata: Metadata,
}

/// What is known of a plan beyond its arithmetic. Every field is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Hash of the model that the plan was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Guidance under which it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
    /// Shape of the samples it was made for: channels, height and width of images.
    #[serde(alias = "image_shape", skip_serializing_if = "Option::is_none")]
    pub sample_shape: Option<Vec<usize>>,
    /// Name of the parameterisation of the network that it was found for, if that is known: `eps`, `flow`, `edm`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameterisation: Option<String>,
    /// How it was found: the search, its options, its cost.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub found_by: serde_json::Map<String, serde_json::Value>,
    /// Named scores, such as the rollout error on held-out seeds. Those that are not finite are not written: JSON has no such numbers.
    #[serde(skip_serializing_if = "none_finite", serialize_with = "finite_alone")]
    pub scores: BTreeMap<String, f64>,
}

impl Metadata {
    /// Whether the plan was found for a rectified flow, whose tools count time in place of noise levels; `None` where it does not say.
    pub fn of_flow(&self) -> Option<bool> {
        self.parameterisation.as_deref().map(|name| name == "flow")
    }
}

fn none_finite(scores: &BTreeMap<String, f64>) -> bool {
    !scores.values().any(|score| score.is_finite())
}

fn finite_alone<S: Serializer>(scores: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(scores.iter().filter(|(_, score)| score.is_finite()))
}

/// What one input, or the image, amounts to on data that is a single point `y`, where `D = y` and the exact flow from
/// `x_N = sigma_N n` is `x = sigma n + (1 - sigma / sigma_N) y`: a consistent solver has exactly these two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Consistency {
    /// Coefficient of the unit-normal latent, and what it should be.
    pub latent: [f64; 2],
    /// Sum of the coefficients of all network outputs, the constant image among them, and what it should be.
    pub outputs: [f64; 2],
}

impl Plan {
    /// Number of network evaluations.
    pub fn nfe(&self) -> usize {
        self.stages.len()
    }

    /// The noise level of every evaluation, in order.
    pub fn sigmas(&self) -> Vec<f64> {
        self.stages.iter().map(|stage| stage.sigma).collect()
    }

    /// Whether an input or the image has a term in `source`.
    pub fn uses(&self, source: Source) -> bool {
        let combinations = self.stages.iter().map(|stage| &stage.input).chain([&self.output]);
        combinations.flat_map(Combination::terms).any(|(term, _)| term == source)
    }

    /// Checks that the plan can be executed: at least one stage and at most [`MOST_STAGES`], sources that exist when they are used, finite
    /// coefficients, positive finite noise levels, no empty combination, a sound constant image where one is used.
    ///
    /// # Errors
    /// The first rule that is broken, and where.
    pub fn validate(&self) -> Result<(), PlanError> {
        if self.stages.is_empty() {
            return Err(PlanError::NoStages);
        }
        if self.nfe() > MOST_STAGES {
            return Err(PlanError::TooManyStages { found: self.nfe() });
        }
        if let Some(constant) = &self.constant {
            constant.validate().map_err(PlanError::Constant)?;
        }
        let constant = self.constant.is_some();
        for (k, stage) in self.stages.iter().enumerate() {
            if !(stage.sigma.is_finite() && stage.sigma > 0.0) {
                return Err(PlanError::Sigma { stage: k, sigma: stage.sigma });
            }
            stage
                .input
                .validate(k, constant)
                .map_err(|fault| PlanError::Term { place: format!("stage {k}"), fault })?;
        }
        let image = self.output.validate(self.nfe(), constant);
        image.map_err(|fault| PlanError::Term { place: "the image".into(), fault })
    }

    /// The same sampler with every input, and the image, written in the latent and the network outputs alone (Eq. 8).
    ///
    /// It holds a term for every pair of stages, so that its size grows with the square of their number; [`Plan::sums`] tells what
    /// sums of these coefficients are without it.
    ///
    /// # Panics
    /// If the plan is not valid.
    pub fn unrolled(&self) -> Self {
        let mut inputs: Vec<Combination> = Vec::with_capacity(self.nfe());
        for stage in &self.stages {
            let input = stage.input.substitute(&inputs);
            inputs.push(input);
        }
        let output = self.output.substitute(&inputs);
        let stages = self.stages.iter().zip(inputs).map(|(stage, input)| Stage { sigma: stage.sigma, input }).collect();
        Self { stages, output, ..self.clone() }
    }

    /// For every input, and last the image, the sum of its coefficients in the unrolled plan, each times what `weight` says of the
    /// latent, the constant and the outputs. It is not asked for inputs.
    ///
    /// # Panics
    /// If the plan is not valid.
    pub fn sums(&self, weight: impl Fn(Source) -> f64) -> Vec<f64> {
        let mut sums = Vec::with_capacity(self.nfe() + 1);
        for combination in self.stages.iter().map(|stage| &stage.input).chain([&self.output]) {
            let worth = |source| if let Source::Input(k) = source { sums[k] } else { weight(source) };
            let sum: f64 = combination.terms().map(|(source, c)| c * worth(source)).sum();
            sums.push(sum + 0.0); // where nothing counts, 0 and not -0
        }
        sums
    }

    /// Consistency of every stage's input (at its own noise level) and last of the image, which is taken to be clean
    /// if `image_sigma` is 0, or the state at `image_sigma` for a sampler that stops there.
    ///
    /// The latent enters at the level that the constant image stands for, if there is one, else at the first of the
    /// schedule (or of the stages).
    ///
    /// # Panics
    /// If the plan is not valid.
    pub fn consistency(&self, image_sigma: f64) -> Vec<Consistency> {
        let first = self.schedule.as_ref().map_or(self.stages[0].sigma, Schedule::sigma_max);
        let start = self.constant.as_ref().map_or(first, |constant| constant.sigma);
        let latents = self.sums(|source| f64::from(source == Source::Latent));
        let outputs = self.sums(|source| f64::from(source.is_image()));
        let sigmas = self.stages.iter().map(|stage| stage.sigma).chain([image_sigma]);
        let states = sigmas.zip(latents).zip(outputs);
        let of = |((sigma, latent), outputs)| Consistency {
            latent: [latent, sigma],
            outputs: [outputs, 1.0 - sigma / start],
        };
        states.map(of).collect()
    }

    /// Keeps what it was found for: shape of samples, guidance and parameterisation of a denoiser.
    pub fn found_for(&mut self, spec: &Spec) {
        self.metadata.sample_shape = Some(spec.shape.clone());
        self.metadata.guidance = spec.guidance.clone();
        self.metadata.parameterisation = spec.parameterisation.map(str::to_owned);
    }

    /// Checks that the plan fits a denoiser: shape of samples, number of classes, its parameterisation, and noise levels that it
    /// knows.
    ///
    /// # Errors
    /// One sentence that names both sides.
    pub fn check(&self, spec: &Spec) -> Result<(), PlanError> {
        let shapes = [self.metadata.sample_shape.as_ref(), self.constant.as_ref().map(|constant| &constant.shape)];
        if let Some(plan) = shapes.into_iter().flatten().find(|shape| **shape != spec.shape) {
            return Err(PlanError::Shape { plan: plan.clone(), model: spec.shape.clone() });
        }
        if let Some(Constant { samples, .. }) = &self.constant
            && samples.len() != 1
            && samples.len() != spec.classes
        {
            return Err(PlanError::Classes { plan: samples.len(), model: spec.classes });
        }
        self.check_network(spec.parameterisation, &spec.levels)
    }

    /// Checks that the plan was found for a network of this parameterisation, if both are known, and at noise levels that it knows.
    ///
    /// # Errors
    /// One sentence that names both sides.
    pub fn check_network(&self, parameterisation: Option<&str>, levels: &Levels) -> Result<(), PlanError> {
        if let (Some(plan), Some(model)) = (&self.metadata.parameterisation, parameterisation)
            && plan != model
        {
            return Err(PlanError::Parameterisation { plan: plan.clone(), model: model.to_owned() });
        }
        let (sigma_min, sigma_max) = levels.supported;
        // a level at the very end may differ in its last bits after a round trip through single precision
        let inside = |sigma: f64| sigma >= sigma_min * (1.0 - 1e-6) && sigma <= sigma_max * (1.0 + 1e-6);
        match self.stages.iter().find(|stage| !inside(stage.sigma)) {
            Some(stage) => Err(PlanError::Range { sigma: stage.sigma, sigma_min, sigma_max }),
            None => Ok(()),
        }
    }

    /// The plan with another solver name and schedule; used where a solver hands over what its trace recorded.
    pub fn named(self, solver: impl Into<String>, schedule: Option<Schedule>) -> Self {
        Self { solver: solver.into(), schedule, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::karras;
    use crate::solver::{Solver, SolverOptions};

    #[test]
    fn sums_are_those_of_the_unrolled_plan() {
        for solver in Solver::all() {
            let mut plan = solver.plan(&karras(6, 0.1, 20.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
            plan.constant = Some(Constant { sigma: 20.0, shape: vec![1], samples: vec![vec![0.5]] });
            let first = plan.stages[0].input.terms().chain([(Source::Constant, 0.25)]).collect();
            plan.stages[0].input = first;
            plan.validate().unwrap();
            let weight = |source| match source {
                Source::Latent => 3.0,
                Source::Constant => -7.0,
                Source::Output(k) => 1.0 / (k + 1) as f64,
                Source::Input(_) => unreachable!("an input is unrolled"),
            };
            let unrolled = plan.unrolled();
            let states = unrolled.stages.iter().map(|stage| &stage.input).chain([&unrolled.output]);
            let sums = plan.sums(weight);
            assert_eq!(sums.len(), plan.nfe() + 1);
            for (sum, state) in sums.into_iter().zip(states) {
                let expected: f64 = state.terms().map(|(source, c)| c * weight(source)).sum();
                assert!((sum - expected).abs() < 1e-11 * expected.abs().max(1.0), "{solver}: {sum} {expected}");
            }
        }
    }

    /// Without a quadratic number of terms, which would be gigabytes here.
    #[test]
    fn the_longest_plan_is_checked_and_longer_ones_are_refused() {
        let levels = |n: usize| (0..n).map(|i| (n - i) as f64).collect();
        let plan = |n| Solver::Euler.plan(&Schedule::new(levels(n)).unwrap(), &SolverOptions::default());
        let longest = plan(MOST_STAGES).unwrap();
        for Consistency { latent, outputs } in longest.consistency(0.0) {
            assert!((latent[0] - latent[1]).abs() < 1e-6 && (outputs[0] - outputs[1]).abs() < 1e-9);
        }
        let text = longest.to_json().unwrap();
        assert_eq!(Plan::from_json(&text).unwrap(), longest);
        let error = plan(MOST_STAGES + 1).unwrap_err().to_string();
        assert!(error.contains("20001 stages") && error.contains("at most 20000"), "{error}");
        let mut longer = longest;
        longer.stages.push(longer.stages[0].clone());
        assert_eq!(longer.validate(), Err(PlanError::TooManyStages { found: MOST_STAGES + 1 }));
        let stages = serde_json::to_string(&longer.stages).unwrap();
        let read = Plan::from_json(&format!(r#"{{"version": 1, "stages": {stages}, "output": {{"d0": 1.0}}}}"#));
        assert_eq!(read, Err(PlanError::TooManyStages { found: MOST_STAGES + 1 }));
    }

    #[test]
    fn a_flow_is_known_by_the_name_of_its_parameterisation() {
        let of_flow = |name: Option<&str>| {
            Metadata { parameterisation: name.map(str::to_owned), ..Metadata::default() }.of_flow()
        };
        assert_eq!([of_flow(None), of_flow(Some("flow")), of_flow(Some("eps"))], [None, Some(true), Some(false)]);
    }
}
