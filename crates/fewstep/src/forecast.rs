//! What a task would do, and what it would cost.

use fewstep_core::denoiser::Cost;
use fewstep_core::observe::Silent;
use fewstep_nn::TorchDenoiser;
use fewstep_report::{Cell, Column, Format, Table};
use fewstep_search::baseline;
use serde::Serialize;
use serde_json::Value;

use crate::cells::seconds_per_sample;
use crate::error::Result;
use crate::plans::euler;

/// Evaluations a sample that are timed.
const TIMED_STEPS: usize = 2;

/// The settings of a command and its cost in evaluations of the network on single images.
#[derive(Debug, Serialize)]
pub struct Forecast {
    settings: Value,
    /// Network calls an evaluation.
    calls: u64,
    parts: Vec<Part>,
    evaluations: u64,
    network_calls: u64,
    /// Evaluations a second of the denoiser, where that was timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluations_per_second: Option<f64>,
    /// What the work takes at that speed, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
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
        Ok(Self {
            settings,
            calls: calls as u64,
            parts: Vec::new(),
            evaluations: 0,
            network_calls: 0,
            evaluations_per_second: None,
            seconds: None,
        })
    }

    /// With the time that it takes: by that of two evaluations of `batch` samples, after two that load and warm everything.
    ///
    /// # Errors
    /// If the denoiser fails.
    pub fn timed(self, denoiser: &dyn TorchDenoiser, batch: usize) -> Result<Self> {
        let plan = euler(&baseline(&denoiser.spec().levels, TIMED_STEPS)?)?;
        let seconds = || seconds_per_sample(denoiser, &plan, batch.max(1) as u64, &Silent);
        seconds()?;
        let rate = TIMED_STEPS as f64 / seconds()?.max(1e-9);
        Ok(Self { seconds: Some(self.work() as f64 / rate), evaluations_per_second: Some(rate), ..self })
    }

    /// The time that it takes, in words; none where nothing was timed.
    pub fn time(&self) -> Option<String> {
        let (rate, seconds) = (self.evaluations_per_second?, self.seconds?);
        let gradients =
            if self.parts.iter().any(|part| part.gradient) { " (one with a gradient counts as three)" } else { "" };
        let (time, rate) = (Format::Duration.write(seconds), Format::Significant(2).write(rate));
        Some(format!("about {time} here: {rate} evaluations a second{gradients}"))
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

    /// Evaluations in all, one with a gradient for three, as [`Counting`](fewstep_core::denoiser::Counting) counts them.
    pub fn work(&self) -> u64 {
        self.parts.iter().map(|part| part.evaluations * if part.gradient { 3 } else { 1 }).sum()
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
}
