//! Plans from files, compared beside those that methods find: a rival's, or one that was found on another network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fewstep_core::observe::{Event, Observer};
use fewstep_core::plan::Plan;
use serde::{Deserialize, Serialize};

use super::Subject;
use super::task::fits_all;
use crate::error::{Context, Result, ensure};
use crate::plans::read_plan;

/// The plans of one file, or of one folder with a plan a budget: a row of the table.
#[derive(Clone, Debug)]
pub struct PlanFile {
    /// The path.
    pub name: String,
    /// By network evaluations.
    pub plans: BTreeMap<usize, Plan>,
}

/// As `run.json` keeps it; the cells keep the plans themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanFileId {
    /// The path.
    pub name: String,
    /// Network evaluations of its plans.
    pub steps: Vec<usize>,
}

impl PlanFile {
    /// Reads `path`, whose plans must suit all of these models.
    ///
    /// # Errors
    /// If there are none, or one cannot be used.
    pub fn open(path: &Path, subjects: &[Subject], observer: &dyn Observer) -> Result<Self> {
        let name = path.display().to_string();
        let mut plans = BTreeMap::new();
        for file in files(path)? {
            let plan = read_plan(&file)?;
            fits_all(&file.display().to_string(), &plan, subjects.iter())?;
            if is_of_tuned_network(&plan) {
                observer.event(Event::Note(&format!(
                    "warning: {} was made for the tuned network beside it, and is compared without it",
                    file.display()
                )));
            }
            let nfe = plan.nfe();
            ensure!(
                plans.insert(nfe, plan).is_none(),
                "{name} has two plans of {nfe} evaluations: name them one by one"
            );
        }
        Ok(Self { name, plans })
    }

    /// As `run.json` keeps it.
    pub fn id(&self) -> PlanFileId {
        PlanFileId { name: self.name.clone(), steps: self.plans.keys().copied().collect() }
    }
}

/// Whether a fit left the plan for a network that it tuned and wrote beside it.
fn is_of_tuned_network(plan: &Plan) -> bool {
    let network = plan.metadata.found_by.get("fit").and_then(|fit| fit["network"].as_str());
    network.is_some_and(|network| network.contains("beside this file"))
}

/// `path`, or the plans in the folders that it holds.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let reading = || format!("cannot read the folder {}", path.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(reading)? {
        let file = entry.with_context(reading)?.path().join("plan.json");
        found.extend(file.exists().then_some(file));
    }
    ensure!(!found.is_empty(), "{} holds no plans: name a plan file, or the folder of a `fewstep fit`", path.display());
    found.sort();
    Ok(found)
}
