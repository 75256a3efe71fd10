//! What a task would do, and what it would cost.

use fewstep_core::denoiser::Cost;
use fewstep_core::observe::Silent;
use fewstep_core::schedule::MOST_LEVELS;
use fewstep_nn::TorchDenoiser;
use fewstep_report::{Cell, Column, Format, Table};
use fewstep_search::baseline;
use serde::Serialize;
use serde_json::Value;

use crate::cells::seconds_per_sample;
use crate::error::{Result, ensure};
use crate::plans::euler;

/// Most that may be asked for of anything that is counted, such as images, latents and updates. What a slip of the hand asks for beyond
/// it would end in an allocation that fails, and the program with it.
pub const MOST_COUNTED: u64 = 10_000_000;

/// Refuses a setting that counts fewer than `least`, or more than [`MOST_COUNTED`].
pub(crate) fn check_count(name: &str, value: u64, least: u64) -> Result<()> {
    check_within(name, value, least, MOST_COUNTED)
}

/// The same of noise levels, of which schedules have fewer.
pub(crate) fn check_levels(name: &str, value: usize) -> Result<()> {
    check_within(name, value as u64, 2, MOST_LEVELS as u64)
}

fn check_within(name: &str, value: u64, least: u64, most: u64) -> Result<()> {
    ensure!(value >= least, "the setting {name} must be at least {least}, not {value}");
    ensure!(value <= most, "the setting {name} must be at most {most}, not {value}");
    Ok(())
}

/// The product of counts, or the largest number there is: a forecast beyond it is as good as any.
pub(crate) fn product<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}

/// The sum of counts, in the same way.
pub(crate) fn total(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

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
    /// If the batch is absurd, or the denoiser fails.
    pub fn timed(self, denoiser: &dyn TorchDenoiser, batch: usize) -> Result<Self> {
        let plan = euler(&baseline(&denoiser.spec().levels, TIMED_STEPS)?)?;
        // of few samples, no more are made at once than there are
        let samples = (batch as u64).clamp(1, self.evaluations.max(1));
        ensure!(samples <= MOST_COUNTED, "the batch must be at most {MOST_COUNTED} samples, not {batch}");
        let seconds = || seconds_per_sample(denoiser, &plan, samples, &Silent);
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
        Cost { evaluations, calls: product([evaluations, self.calls]) }
    }

    fn add(mut self, what: String, cost: Cost, gradient: bool) -> Self {
        let Cost { evaluations, calls: network_calls } = cost;
        if evaluations > 0 {
            self.evaluations = total([self.evaluations, evaluations]);
            self.network_calls = total([self.network_calls, network_calls]);
            self.parts.push(Part { what, evaluations, network_calls, gradient });
        }
        self
    }

    /// Evaluations in all, one with a gradient for three, as [`Counting`](fewstep_core::denoiser::Counting) counts them.
    pub fn work(&self) -> u64 {
        total(self.parts.iter().map(|part| product([part.evaluations, if part.gradient { 3 } else { 1 }])))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{MIXTURES, ModelOptions, open_model};

    #[test]
    fn forecasts_beyond_all_numbers_are_the_largest_number() {
        let most = Forecast::new(&(), 2).unwrap().part("a", u64::MAX - 1).training("b", u64::MAX / 2).part("c", 9);
        assert_eq!((most.evaluations, most.network_calls, most.work()), (u64::MAX, u64::MAX, u64::MAX));
        assert_eq!((product([3, 1 << 40, 1 << 40]), total([u64::MAX, 1])), (u64::MAX, u64::MAX));
    }

    /// A batch beyond memory is as large as the work, where that is small, and else refused.
    #[test]
    fn the_batch_that_is_timed_is_no_larger_than_the_work() {
        let opened = open_model(MIXTURES[0], &ModelOptions::default()).unwrap();
        let timed = |evaluations: u64| {
            let forecast = Forecast::new(&(), 1).unwrap().part("samples", evaluations);
            forecast.timed(opened.denoiser(), 1_000_000_000_000_000)
        };
        assert!(timed(8).unwrap().time().is_some());
        let error = timed(MOST_COUNTED + 1).unwrap_err().to_string();
        assert!(error.contains("at most 10000000 samples, not 1000000000000000"), "{error}");
    }

    #[test]
    fn settings_that_count_have_two_ends() {
        assert!(check_count("images", 2, 2).is_ok() && check_count("images", MOST_COUNTED, 2).is_ok());
        let error = |value: u64| check_count("images", value, 2).unwrap_err().to_string();
        assert_eq!(error(1), "the setting images must be at least 2, not 1");
        assert_eq!(error(1 << 60), "the setting images must be at most 10000000, not 1152921504606846976");
        let error = check_levels("teacher_steps", usize::MAX).unwrap_err().to_string();
        assert!(error.contains("teacher_steps must be at most 10000, not"), "{error}");
    }
}
