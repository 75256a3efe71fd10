//! The Python module `fewstep._fewstep`: plans and searches on the caller's own arrays. What users see is the package `fewstep`, in
//! Python, which checks what they give and calls this.

mod arrays;
mod callback;
mod observer;
mod parameterisation;
mod plan;

use fewstep_core::denoiser::{Denoiser, Guidance, Levels, Spec};
use fewstep_core::observe::Observer;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_search::{
    Error, Extras, GaussianError, HELD_OUT_SEEDS, HeldOut, MOST_TRAINING_SAMPLES, Method, PlanScorer, Search,
    SearchError, SearchSettings, TEACHER_STEPS, baseline, check_method, usual_teacher,
};
use pyo3::exceptions::{PyFloatingPointError, PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use self::arrays::{Array, Operations};
use self::callback::{Callback, CallbackScorer, Raised};
use self::observer::Watcher;
use self::parameterisation::PyParameterisation;
use self::plan::PyPlan;

/// Something that the caller gave and that cannot be used.
fn bad(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What the caller's denoiser is.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Described {
    shape: Vec<usize>,
    sigma_range: Option<(f64, f64)>,
    classes: usize,
    calls: usize,
    guidance: Option<f64>,
    rounding: f64,
    images: bool,
    /// What to look at first where answers are not finite; may be empty.
    hint: String,
}

impl Described {
    fn spec(&self, parameterisation: Option<&PyParameterisation>) -> PyResult<Spec> {
        let levels = match (parameterisation, self.sigma_range) {
            (Some(parameterisation), None) => parameterisation.levels(),
            (Some(parameterisation), Some(range)) => Levels { sampling: range, ..parameterisation.levels() },
            (None, Some((low, high))) => Levels::between(low, high),
            (None, None) => return Err(bad("sigma_range=(low, high) is needed: the levels that the denoiser knows")),
        };
        let guidance = self.guidance.map(|weight| Guidance { weight, reference: "the caller's own".to_owned() });
        if let (Some(parameterisation), Some((low, high))) = (parameterisation, self.sigma_range) {
            let (least, most) = parameterisation.levels().supported;
            if low < least * (1.0 - 1e-6) || high > most * (1.0 + 1e-6) {
                let what = "is not within the levels that the network knows";
                return Err(bad(format!("sigma_range ({low}, {high}) {what}, {least:.6} to {most:.6}")));
            }
        }
        Ok(Spec {
            shape: self.shape.clone(),
            levels,
            parameterisation: parameterisation.and_then(|parameterisation| parameterisation.0.name()),
            classes: self.classes,
            calls: self.calls,
            guidance,
            rounding: self.rounding,
            identity: "a Python callable".to_owned(),
        })
    }
}

fn settings_of(text: &str) -> PyResult<SearchSettings> {
    let settings: SearchSettings = serde_json::from_str(text).map_err(|error| {
        // serde's place in a text that the user never saw says nothing
        let message = error.to_string();
        bad(message.split(" at line ").next().unwrap_or_default())
    })?;
    settings.validate().map_err(bad)?;
    Ok(settings)
}

/// A search's error as a Python exception: the caller's own, as it is, where that is what it is.
fn raised(error: Error, hint: &str) -> PyErr {
    match error.into_denoiser::<Raised>() {
        Ok(Raised(error)) => error,
        Err(Error::Cancelled) => PyKeyboardInterrupt::new_err("stopped during the search"),
        Err(error @ (Error::AnswerNotFinite { .. } | Error::Search(SearchError::NotFinite { .. }))) => {
            let because = if hint.is_empty() { String::new() } else { format!("; {hint}") };
            PyFloatingPointError::new_err(format!("{error}{because}")) // answers that are finite, and what they lead to is not
        }
        Err(error @ Error::Gaussian(GaussianError::TooFew { .. })) => bad(error),
        Err(error @ (Error::Search(_) | Error::Refine(_) | Error::Gaussian(_) | Error::Denoiser(_))) => {
            PyRuntimeError::new_err(error.to_string())
        }
        Err(error) => bad(error),
    }
}

/// What a search took, and what it found.
#[derive(IntoPyObject)]
struct Outcome {
    plans: Vec<PyPlan>,
    evaluations: u64,
    teacher_evaluations: u64,
}

/// The plans of a method for these numbers of evaluations on `callback`, an object of `fewstep._callback`.
#[pyfunction]
#[pyo3(signature = (callback, operations, described, parameterisation, steps, method, settings, held_out, data, plan_scorer, progress))]
#[allow(clippy::too_many_arguments)] // one call of one Python function, which names them
fn find_plans(
    callback: Py<PyAny>,
    operations: Py<PyAny>,
    described: Described,
    parameterisation: Option<&Bound<'_, PyParameterisation>>,
    steps: Vec<usize>,
    method: &str,
    settings: &str,
    held_out: usize,
    data: Option<Py<PyAny>>,
    plan_scorer: Option<Py<PyAny>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Outcome> {
    let method: Method = method.parse().map_err(bad)?;
    let settings = settings_of(settings)?;
    let spec = described.spec(parameterisation.map(|object| object.get()))?;
    let operations = Operations::new(operations);
    let watcher = Watcher { object: progress, operations: operations.clone() };
    let callback = Callback::new(callback, &operations, spec, described.images)?;
    let plan_scorer = plan_scorer.map(|object| CallbackScorer::new(object, &callback, &watcher));
    let plan_scorer = plan_scorer.as_ref().map(|plan_scorer| plan_scorer as &dyn PlanScorer);
    let found = data.map(|batches| callback.data_moments(&batches)).transpose().and_then(|data| {
        let extras = Extras { data: data.as_ref(), plan_scorer, ..Extras::default() };
        find(&callback, &method, &steps, &settings, held_out, extras, &watcher)
    });
    match operations.failure() {
        Some(first) => Err(first),
        None => found.map_err(|error| raised(error, &described.hint)),
    }
}

fn find(
    callback: &Callback,
    method: &Method,
    steps: &[usize],
    settings: &SearchSettings,
    held_out: usize,
    extras: Extras<'_, Array>,
    observer: &dyn Observer,
) -> Result<Outcome, Error> {
    check_method(callback, method, steps, settings, &extras)?;
    let search = Search::new(callback, settings, observer)?.with(extras);
    let found = search.find(method, steps)?;
    let mut plans: Vec<_> = found.plans.into_values().collect();
    if held_out > 0 {
        let levels = &callback.spec().levels;
        let euler =
            |steps: usize| Ok::<_, Error>(Solver::Euler.plan(&baseline(levels, steps)?, &SolverOptions::default())?);
        let teacher = usual_teacher(levels, TEACHER_STEPS)?;
        let seeds: Vec<u64> = (HELD_OUT_SEEDS..HELD_OUT_SEEDS + held_out as u64).collect();
        let evaluator = HeldOut::by(callback, &teacher, &seeds, observer)?;
        for plan in &mut plans {
            let baseline = evaluator.rollout_error(callback, &euler(plan.nfe())?, observer)?;
            let error = evaluator.rollout_error(callback, plan, observer)?;
            plan.metadata.scores.insert("rollout_error".to_owned(), error);
            plan.metadata.scores.insert("rollout_error_baseline".to_owned(), baseline);
        }
    }
    Ok(Outcome {
        plans: plans.into_iter().map(PyPlan).collect(),
        evaluations: found.evaluations,
        teacher_evaluations: search.teacher_evaluations(),
    })
}

/// Evaluations of single samples that a search takes at most, and the errors of its plans on `held_out` latents.
#[pyfunction]
#[pyo3(name = "cost")]
fn search_cost(
    described: Described,
    parameterisation: Option<&Bound<'_, PyParameterisation>>,
    steps: Vec<usize>,
    method: &str,
    settings: &str,
    held_out: u64,
) -> PyResult<u64> {
    let method: Method = method.parse().map_err(bad)?;
    let spec = described.spec(parameterisation.map(|object| object.get()))?;
    let cost = fewstep_search::search_cost(&spec, &method, &steps, &settings_of(settings)?).map_err(bad)?;
    let teacher = usual_teacher(&spec.levels, TEACHER_STEPS).map_err(bad)?.nfe();
    let of_each = teacher + 2 * steps.iter().sum::<usize>(); // each plan itself, and Euler
    Ok(cost.teacher + cost.search + held_out * of_each as u64)
}

/// Whether a method matches the moments of training samples, and whether it compares plans by features of the caller's.
#[pyfunction]
fn takes(method: &str) -> PyResult<(bool, bool)> {
    let method: Method = method.parse().map_err(bad)?;
    Ok((method.matches_data(), method.takes_nearest()))
}

/// All settings of searches with their defaults, as JSON.
#[pyfunction]
fn default_settings() -> PyResult<String> {
    serde_json::to_string(&SearchSettings::default()).map_err(bad)
}

/// Unit normal noise of some seeds, f32 in the machine's order.
#[pyfunction]
fn noise<'py>(py: Python<'py>, seeds: Vec<u64>, shape: Vec<usize>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &Callback::noise(&seeds, &shape)?))
}

#[pymodule]
mod _fewstep {
    #[pymodule_export]
    use super::{PyParameterisation, PyPlan, default_settings, find_plans, noise, search_cost, takes};

    #[pymodule_export]
    const HELD_OUT_SEEDS: u64 = super::HELD_OUT_SEEDS;

    #[pymodule_export]
    const MOST_TRAINING_SAMPLES: usize = super::MOST_TRAINING_SAMPLES;
}
