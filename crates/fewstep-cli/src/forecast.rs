//! What a command would do, and what it would cost: `--dry-run`.

use anyhow::Result;
use fewstep_report::{Cell, Column, Format, Table};
use serde::Serialize;
use serde_json::Value;

use crate::runs;
use crate::ui::Output;

/// The settings of a command and its cost in evaluations of the network on single images.
#[derive(Debug, Serialize)]
pub struct Forecast {
    command: Vec<String>,
    settings: Value,
    parts: Vec<Part>,
    evaluations: u64,
}

/// One part of the work.
#[derive(Debug, Serialize)]
struct Part {
    what: String,
    evaluations: u64,
    /// Whether the network's gradient is taken, too: three times the work.
    gradient: bool,
}

impl Forecast {
    /// Of this process, with these settings.
    pub fn new<T: Serialize>(settings: &T) -> Result<Self> {
        let settings = serde_json::to_value(settings)?;
        runs::warn_of_changes(&serde_json::json!({ "task": settings }));
        Ok(Self { command: runs::command(), settings, parts: Vec::new(), evaluations: 0 })
    }

    /// Adds evaluations.
    pub fn part(self, what: impl Into<String>, evaluations: u64) -> Self {
        self.add(what.into(), evaluations, false)
    }

    /// Adds evaluations whose gradient is taken.
    pub fn training(self, what: impl Into<String>, evaluations: u64) -> Self {
        self.add(what.into(), evaluations, true)
    }

    fn add(mut self, what: String, evaluations: u64, gradient: bool) -> Self {
        if evaluations > 0 {
            self.evaluations += evaluations;
            self.parts.push(Part { what, evaluations, gradient });
        }
        self
    }

    /// Prints it as a command's result.
    pub fn print(&self, output: Output) -> Result<()> {
        output.result(self, || {
            let mut table = Table::new(vec![
                Column::text("part"),
                Column::number("evaluations of single images", Format::Integer),
                Column::text(""),
            ]);
            for part in &self.parts {
                let note = if part.gradient { "with gradients" } else { "" };
                table.push(vec![part.what.as_str().into(), Cell::from(part.evaluations as f64), note.into()]);
            }
            table.start_group();
            table.push(vec!["in all, at most".into(), Cell::from(self.evaluations as f64), "".into()]);
            let settings = serde_json::to_string_pretty(&self.settings).unwrap_or_default();
            format!("{settings}\n\n{}\nnothing was done: this is a dry run", table.to_terminal(output.colour()))
        })
    }
}
