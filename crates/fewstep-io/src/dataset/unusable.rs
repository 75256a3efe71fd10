//! Which images of a data set cannot be used: all of them counted, the first twenty named.

use std::{fmt, thread};

use super::Dataset;
use crate::Error;

/// How many are named.
const NAMED: usize = 20;

/// Names or sentences, of which the first are kept.
#[derive(Debug, Default)]
pub(super) struct Listed {
    first: Vec<String>,
    count: usize,
}

impl Listed {
    /// One more.
    pub fn add(&mut self, name: impl FnOnce() -> String) {
        if self.count < NAMED {
            self.first.push(name());
        }
        self.count += 1;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// In a row, the first of them where there are very many.
impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join("; "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Names or sentences in a row, the first of them where there are very many.
pub(super) fn listed(all: &[String]) -> String {
    let mut listed = Listed::default();
    all.iter().for_each(|name| listed.add(|| name.clone()));
    listed.to_string()
}

/// One error about all images of `place` that cannot be used.
pub(super) fn images(place: String, errors: Vec<Error>, total: usize) -> Error {
    let bad: Vec<String> = errors.into_iter().map(describe).collect();
    Error::Images { dataset: place, count: bad.len(), total, listed: listed(&bad) }
}

/// `error`, or where it is about one image, one that is about all such images.
pub(super) fn all(dataset: &Dataset, error: Error) -> Error {
    if !matches!(error, Error::Image { .. } | Error::MixedImages { .. }) {
        return error;
    }
    let bad = find(dataset);
    // One alone speaks for itself, with what its kind of error advises.
    if bad.len() < 2 && matches!(error, Error::MixedImages { .. }) {
        return error;
    }
    Error::Images { dataset: dataset.place(), count: bad.len(), total: dataset.len(), listed: listed(&bad) }
}

/// Name and fault of every image that cannot be used, in the order of the data set.
fn find(dataset: &Dataset) -> Vec<String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = dataset.len().div_ceil(threads).max(1);
    let check = |start: usize| {
        let end = (start + share).min(dataset.len());
        (start..end).filter_map(|index| Some(describe(dataset.image(index).err()?))).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..dataset.len()).step_by(share).map(|start| scope.spawn(move || check(start))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

fn describe(error: Error) -> String {
    match error {
        Error::Image { member, reason, .. } => format!("{member} ({reason})"),
        Error::MixedImages { member, found, expected, .. } => {
            format!("{member} (it is {found}, others are {expected})")
        }
        other => other.to_string(),
    }
}
