//! What a task would do, and what it would cost.

use fewstep_core::denoiser::{Cost, Counting, Denoiser, Oracle, Spec};
use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::observe::Silent;
use fewstep_core::space::VectorSpace;
use fewstep_report::{Cell, Column, Format, Table};
use fewstep_search::settings::Distance;
use fewstep_search::{DataMoments, Extras, Method, SCHEDULES, Search, SearchSettings, Source};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The settings of a command and its cost in evaluations of the network on single images.
#[derive(Debug, Serialize)]
pub struct Forecast {
    settings: Value,
    /// Network calls an evaluation.
    calls: u64,
    parts: Vec<Part>,
    evaluations: u64,
    network_calls: u64,
}

/// One part of the work.
#[derive(Debug, Serialize)]
struct Part {
    what: String,
    evaluations: u64,
    network_calls: u64,
    /// Whether the network's gradient is taken, too: three times the work.
    gradient: bool,
}

impl Forecast {
    /// Of a task with these settings, whose evaluations take so many network calls.
    ///
    /// # Errors
    /// If the settings cannot be written as JSON.
    pub fn new<T: Serialize>(settings: &T, calls: usize) -> Result<Self> {
        let settings = serde_json::to_value(settings)?;
        Ok(Self { settings, calls: calls as u64, parts: Vec::new(), evaluations: 0, network_calls: 0 })
    }

    /// Adds evaluations.
    pub fn part(self, what: impl Into<String>, evaluations: u64) -> Self {
        let cost = self.of(evaluations);
        self.cost(what, cost)
    }

    /// Adds evaluations that take network calls of a number of their own.
    pub fn cost(self, what: impl Into<String>, cost: Cost) -> Self {
        self.add(what.into(), cost, false)
    }

    /// Adds evaluations whose gradient is taken.
    pub fn training(self, what: impl Into<String>, evaluations: u64) -> Self {
        let cost = self.of(evaluations);
        self.add(what.into(), cost, true)
    }

    fn of(&self, evaluations: u64) -> Cost {
        Cost { evaluations, calls: evaluations * self.calls }
    }

    fn add(mut self, what: String, cost: Cost, gradient: bool) -> Self {
        let Cost { evaluations, calls: network_calls } = cost;
        if evaluations > 0 {
            self.evaluations += evaluations;
            self.network_calls += network_calls;
            self.parts.push(Part { what, evaluations, network_calls, gradient });
        }
        self
    }

    /// As a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new(vec![
            Column::text("part"),
            Column::number("evaluations of single samples", Format::Integer),
            Column::number("network calls", Format::Integer),
            Column::text(""),
        ]);
        let number = |count: u64| Cell::from(count as f64);
        for part in &self.parts {
            let note = if part.gradient { "with gradients" } else { "" };
            let (evaluations, calls) = (number(part.evaluations), number(part.network_calls));
            table.push(vec![part.what.as_str().into(), evaluations, calls, note.into()]);
        }
        table.start_group();
        table.push(vec!["in all, about".into(), number(self.evaluations), number(self.network_calls), "".into()]);
        table
    }

    /// The settings that it is of, as JSON.
    pub fn settings(&self) -> &Value {
        &self.settings
    }
}

/// Evaluations of single samples that searches would take.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchForecast {
    /// The teacher, which all of them share.
    pub teacher: u64,
    /// Each method in turn, beyond what those before it found already.
    pub methods: Vec<u64>,
}

/// Most classes for which a search counts evaluations a class.
const MOST_CLASSES: usize = 100;

/// What the searches of `methods` would take on a denoiser like `spec`: they are run on one of two values that counts.
///
/// # Errors
/// If a setting is outside its domain, or a method cannot be run.
pub fn searches(spec: &Spec, methods: &[Method], steps: &[usize], settings: &SearchSettings) -> Result<SearchForecast> {
    let counting = Counting::new(stand_in(spec)?);
    let mut settings = settings.clone();
    settings.rollout.loss = Distance::Squared; // features are no evaluations
    let data = stand_in_data(counting.inner())?;
    let extras = Extras { data: Some(&data), ..Extras::default() };
    let search = Search::new(&counting, &settings, &Silent)?.with(extras);
    let teacher = counting.cost().evaluations;
    let mut of_methods = Vec::with_capacity(methods.len());
    for method in methods {
        let before = counting.cost().evaluations;
        search.find(&without_table(method), &method.possible(steps))?;
        of_methods.push(counting.cost().evaluations - before);
    }
    Ok(SearchForecast { teacher, methods: of_methods })
}

/// A mixture of two values at the levels of `spec` and with its classes, as far as searches count them.
fn stand_in(spec: &Spec) -> Result<Oracle> {
    let conditional = (1..=MOST_CLASSES).contains(&spec.classes);
    let count = if conditional { spec.classes } else { 10 };
    let component = |k: usize| {
        let angle = std::f64::consts::TAU * k as f64 / count as f64;
        let mean = vec![0.7 * angle.cos(), 0.7 * angle.sin()];
        Component { weight: 1.0 + k as f64, mean, covariance: Covariance::Isotropic(0.01) }
    };
    let mixture = Mixture::new((0..count).map(component).collect()).map_err(|error| Error::Input(error.to_string()))?;
    let oracle = Oracle::new(mixture, vec![1, 1, 2], spec.levels.clone());
    Ok(if conditional { oracle.conditional() } else { oracle })
}

/// What its training data look like.
fn stand_in_data(oracle: &Oracle) -> Result<DataMoments> {
    let mut moments = DataMoments::new();
    if let (Some(appearance), Ok(noise)) = (oracle.appearance(), oracle.latents(&(0..64).collect::<Vec<_>>())) {
        moments.add(appearance, &VectorSpace::combine(&[(0.5, &noise)]))?;
    }
    Ok(moments)
}

/// The method on a schedule in place of the bound's, which takes a table of training data and not an evaluation more.
fn without_table(method: &Method) -> Method {
    match method.source {
        Source::Bound => Method { source: Source::Fixed(SCHEDULES[0].0, SCHEDULES[0].1), ..method.clone() },
        _ => method.clone(),
    }
}
