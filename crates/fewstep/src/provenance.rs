//! What every reported number carries: how it can be made again.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Written into every `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of fewstep.
    pub fewstep: String,
    /// What was typed, after the options of a run that it repeats.
    pub command: Vec<String>,
    /// Seconds since 1970.
    pub started: u64,
    /// Threads that libtorch uses for one operation.
    pub threads: i32,
}

impl Provenance {
    /// Of a run that begins now; `command` repeats it.
    pub fn now(command: &[String]) -> Self {
        Self {
            fewstep: env!("CARGO_PKG_VERSION").to_owned(),
            command: command.to_vec(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map(|t| t.as_secs()).unwrap_or(0),
            threads: fewstep_nn::tch::get_num_threads(),
        }
    }
}

impl Provenance {
    /// As a report's facts.
    pub fn facts(&self) -> Vec<(String, String)> {
        let fact = |name: &str, value: String| (name.to_owned(), value);
        vec![
            fact("command", self.command.join(" ")),
            fact("fewstep", self.fewstep.clone()),
            fact("threads", self.threads.to_string()),
        ]
    }
}
