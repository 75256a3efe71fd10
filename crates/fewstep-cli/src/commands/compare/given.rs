//! Plans from files, compared beside those that methods find: a rival's, or one that was found on another network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fewstep_core::plan::Plan;
use fewstep_nn::Model;
use serde::{Deserialize, Serialize};

use crate::commands::fit::AS_IT_CAME;
use crate::inputs::read_plan_for;
use crate::ui;

/// The plans of one file, or of one folder of `fewstep fit`: a row of the table.
#[derive(Debug)]
pub struct Given {
    /// The path as typed.
    pub name: String,
    /// By network evaluations.
    pub plans: BTreeMap<usize, Plan>,
}

/// As `run.json` keeps it; the cells keep the plans themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenEntry {
    /// The path as typed.
    pub name: String,
    /// Network evaluations of its plans.
    pub steps: Vec<usize>,
}

impl Given {
    /// Reads `path`, whose plans must suit all of these models.
    pub fn open<'a>(path: &Path, models: impl Iterator<Item = &'a Model> + Clone) -> Result<Self> {
        let name = path.display().to_string();
        let mut plans = BTreeMap::new();
        for file in files(path)? {
            let plan = read_plan_for(&file, models.clone())?;
            if is_of_tuned_network(&plan) {
                ui::note(format!(
                    "warning: {} was made for the tuned network beside it, and is compared without it",
                    file.display()
                ));
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
    pub fn entry(&self) -> GivenEntry {
        GivenEntry { name: self.name.clone(), steps: self.plans.keys().copied().collect() }
    }
}

/// Whether a fit left the plan for a network that it tuned.
fn is_of_tuned_network(plan: &Plan) -> bool {
    let network = plan.metadata.found_by.get("fit").and_then(|fit| fit["network"].as_str());
    network.is_some_and(|network| network != AS_IT_CAME)
}

/// `path`, or the plans in the folder of a fit.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let file =
            entry.with_context(|| format!("cannot read the folder {}", path.display()))?.path().join("plan.json");
        found.extend(file.exists().then_some(file));
    }
    ensure!(!found.is_empty(), "{} holds no plans: name a plan file, or the folder of a `fewstep fit`", path.display());
    found.sort();
    Ok(found)
}
