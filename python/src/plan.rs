//! Plans.

use fewstep_core::execute::{Start, execute};
use fewstep_core::plan::{Plan, Source};
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{LastStep, SolverOptions};
use fewstep_search::export::{Betas, Error, Note, Options, Setting, Target, export};
use fewstep_search::parse_solver;
use fewstep_search::suggest::nearest;
use pyo3::prelude::*;

use crate::arrays::{Array, Operations, bytes};
use crate::bad;
use crate::parameterisation::PyParameterisation;

/// A sampler as data.
#[pyclass(name = "Plan", frozen, module = "fewstep._fewstep")]
pub struct PyPlan(pub Plan);

#[pymethods]
impl PyPlan {
    /// The plan that a solver makes of noise levels.
    #[staticmethod]
    fn of_solver(solver: &str, sigmas: Vec<f64>, last_step: bool) -> PyResult<Self> {
        let solver = parse_solver(solver).map_err(bad)?;
        let schedule = Schedule::new(sigmas).map_err(bad)?;
        let last_step = if last_step { LastStep::ToZero } else { LastStep::Stop };
        let options = SolverOptions { last_step, analytical_first_step: false };
        Ok(Self(solver.plan(&schedule, &options).map_err(bad)?))
    }

    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        Ok(Self(Plan::from_json(text).map_err(bad)?))
    }

    fn to_json(&self) -> PyResult<String> {
        self.0.to_json().map_err(bad)
    }

    #[getter]
    fn nfe(&self) -> usize {
        self.0.nfe()
    }

    #[getter]
    fn sigmas(&self) -> Vec<f64> {
        self.0.sigmas()
    }

    #[getter]
    fn solver(&self) -> &str {
        &self.0.solver
    }

    /// Shape of the samples, if the plan says.
    #[getter]
    fn shape(&self) -> Option<Vec<usize>> {
        let constant = self.0.constant.as_ref().map(|constant| constant.shape.clone());
        self.0.metadata.sample_shape.clone().or(constant)
    }

    /// Whether the first state is noise of its level, and nothing else.
    #[getter]
    fn begins_with_noise_alone(&self) -> bool {
        let first = &self.0.stages[0];
        let terms: Vec<_> = first.input.terms().collect();
        matches!(*terms, [(Source::Latent, coefficient)] if (coefficient / first.sigma - 1.0).abs() < 1e-9)
    }

    /// Refuses a network of another kind, or one that does not know the plan's levels; with `noise_alone`, a first state of noise alone
    /// may have any level above those.
    fn check_network(&self, parameterisation: &PyParameterisation, noise_alone: bool) -> PyResult<()> {
        let (name, levels) = (parameterisation.0.name(), parameterisation.levels());
        let most = levels.supported.1;
        if !(noise_alone && self.begins_with_noise_alone() && self.0.stages[0].sigma > most) {
            return self.0.check_network(name, &levels).map_err(bad);
        }
        let mut plan = self.0.clone();
        plan.stages[0].sigma = most;
        plan.check_network(name, &levels).map_err(bad)
    }

    /// The plan in the form of a tool: its text, notes, and whether the tool does something else than the plan.
    fn export(&self, target: &str, nearest: bool, betas: &str, shift: f64) -> PyResult<(String, Vec<String>, bool)> {
        let target = target_named(target)?;
        let betas: Betas = betas.parse().map_err(|error| bad(format!("betas: {error}, not {betas:?}")))?;
        let options = Options { nearest, betas, shift };
        match export(&self.0, target, &options) {
            Ok(exported) => {
                let mut notes: Vec<String> = exported.notes.iter().map(said).collect();
                if exported.nearest.is_some() {
                    notes.push(format!(
                        "a plan that the tool runs exactly is found by method={:?}",
                        exact_method(target)
                    ));
                }
                Ok((exported.text, notes, exported.nearest.is_some()))
            }
            Err(error @ Error::CannotExpress { .. }) => Err(bad(format!(
                "{error}; nearest=True gives it the plan's noise levels for a solver of its own, and a plan that it runs exactly is found \
                 by method={:?}",
                exact_method(target)
            ))),
            Err(error) => Err(bad(error)),
        }
    }

    /// Samples of unit normal `latents`: `evaluate(x, sigma)` is asked stage by stage.
    fn run(
        &self,
        py: Python<'_>,
        operations: Py<PyAny>,
        evaluate: Py<PyAny>,
        latents: Py<PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let operations = Operations::new(operations);
        let latent = Array::new(latents, &operations);
        let constant = self.0.constant.as_ref().map(|constant| {
            let all: Vec<u8> = constant.samples.iter().flat_map(|sample| bytes(sample)).collect();
            evaluate.bind(py).call_method1("constant", (all, constant.samples.len()))
        });
        let constant = constant.transpose()?.map(|made| Array::new(made.unbind(), &operations));
        let start = Start { latent: &latent, constant: constant.as_ref() };
        let denoise = |x: &Array, sigma: f64| {
            py.check_signals()?;
            if let Some(error) = operations.failure() {
                return Err(error);
            }
            Ok(Array::new(evaluate.bind(py).call1((x.bound(py), sigma))?.unbind(), &operations))
        };
        let made = execute(&self.0, start, denoise).map_err(|error| error.into_denoiser().unwrap_or_else(bad))?;
        match operations.failure() {
            Some(error) => Err(error),
            None => Ok(made.bound(py).unbind()),
        }
    }
}

fn target_named(name: &str) -> PyResult<Target> {
    name.parse().map_err(|_| {
        let known: Vec<&str> = Target::ALL.iter().map(|(_, name, _)| *name).collect();
        let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean {near:?}? "));
        let near = near.unwrap_or_default();
        bad(format!("plans are not exported to {name:?}: {near}there are {}", known.join(", ")))
    })
}

/// A note, with its setting as the keyword argument of a search.
fn said(note: &Note) -> String {
    note.in_words(|Setting { table, name, value }| {
        let value = if *value { "True" } else { "False" };
        format!("{table}={{{name:?}: {value}}}")
    })
}

/// A search for the noise levels of a solver that the tool has.
fn exact_method(target: Target) -> &'static str {
    match target {
        Target::DiffusersEuler | Target::DiffusersEdmEuler | Target::DiffusersFlowEuler => "oss/euler",
        Target::DiffusersHeun => "oss/heun",
        Target::DiffSampler => "oss/ipndm4", // it clips outputs of dpmpp and unipc
        _ => "oss/dpmpp2m_nolof",
    }
}
