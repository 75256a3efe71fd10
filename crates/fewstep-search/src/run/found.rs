//! What a search has found.

use std::collections::BTreeMap;

use fewstep_core::plan::Plan;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::method::Method;

/// The plans of one method, one for each number of network evaluations that was asked for.
///
/// A plan is run by [`sample`](crate::sample) or [`Seeded::run`](crate::Seeded::run), and written by
/// [`Plan::to_json`]; a plan of least squares may hold a constant image, which
/// [`execute`](fewstep_core::execute()) has to be given beside the latents.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// By number of evaluations, [`Plan::nfe`].
    pub plans: BTreeMap<usize, Plan>,
    /// Evaluations of single samples that the search took beyond the teacher's.
    pub evaluations: u64,
    /// Seconds that it took beyond the teacher's.
    pub seconds: f64,
}

impl Found {
    /// The plan of `nfe` evaluations, found by `method`, whose name an error says.
    ///
    /// # Errors
    /// If that number was not asked for.
    pub fn plan(&self, method: &Method, nfe: usize) -> Result<&Plan> {
        self.plans.get(&nfe).ok_or_else(|| {
            let found: Vec<String> = self.plans.keys().map(usize::to_string).collect();
            let why = format!("those that were asked for are [{}]", found.join(", "));
            Error::NoPlan { method: method.to_string(), nfe: vec![nfe], why }
        })
    }

    /// Refuses what was asked for and not found.
    pub(super) fn complete(self, steps: &[usize]) -> Result<Self> {
        let nfe: Vec<usize> = steps.iter().copied().filter(|nfe| !self.plans.contains_key(nfe)).collect();
        if nfe.is_empty() {
            return Ok(self);
        }
        let found: Vec<String> = self.plans.keys().map(usize::to_string).collect();
        let why = match found.as_slice() {
            [] => "it found none at all".to_owned(),
            found => format!("it found some of {}", found.join(", ")),
        };
        Err(Error::NoPlan { method: "this search".to_owned(), nfe, why })
    }
}
