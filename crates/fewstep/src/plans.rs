//! Plans from files and solvers, for a model.

use std::path::Path;

use fewstep_core::Denoiser;
use fewstep_core::denoiser::{Guidance, Spec};
use fewstep_core::observe::Observer;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::{Family, Schedule};
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_io::{FileKind, json};
use fewstep_nn::{TorchDenoiser, spread};
use fewstep_search::suggest::advice;
use fewstep_search::{HELD_OUT_SEEDS, HeldOut, SCHEDULES, TEACHER_STEPS, documented, usual_teacher};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result, bail, ensure};
use crate::forecast::MOST_COUNTED;
use crate::models::OpenModel;

/// Reads a plan.
///
/// # Errors
/// If there is none, or it cannot be executed.
pub fn read_plan(path: &Path) -> Result<Plan> {
    ensure!(path.exists(), "the plan {} does not exist: check the path", path.display());
    ensure!(!path.is_dir(), "{} is a folder: name a plan in it{}", path.display(), plans_in(path));
    let kind = FileKind::of_file(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
    if !matches!(kind, FileKind::Json | FileKind::Text | FileKind::Unknown) {
        let advice = match (kind, kind.advice()) {
            (FileKind::Safetensors | FileKind::Pickle | FileKind::TorchSave { .. }, _) => "; that is a model",
            (_, "") => "",
            (_, advice) => &format!("; {advice}"),
        };
        bail!("{} is {kind}, not a plan (plan.json, as `fewstep plan` leaves it){advice}", path.display());
    }
    let text = json::read_text(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
    let value = serde_json::from_str::<serde_json::Value>(&text);
    if value.is_ok_and(|value| value.get("stages").is_none()) {
        bail!("{} is JSON, but not a plan (plan.json, as `fewstep plan` leaves it)", path.display());
    }
    Plan::from_json(&text).with_context(|| format!("cannot use the plan {}", path.display()))
}

/// The plans in a run folder, as an example of what to name.
fn plans_in(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut plans: Vec<String> = entries
        .filter(|entry| entry.path().join("plan.json").exists())
        .map(|entry| format!("{}/plan.json", entry.file_name().to_string_lossy()))
        .collect();
    plans.sort();
    if plans.is_empty() { ", such as plan.json".to_owned() } else { format!(": {}", plans.join(", ")) }
}

/// Reads a plan and checks that it fits a denoiser.
///
/// # Errors
/// As [`read_plan`], and if it does not fit.
pub fn read_plan_for(path: &Path, spec: &Spec) -> Result<Plan> {
    let plan = read_plan(path)?;
    plan.check(spec).with_context(|| format!("cannot use the plan {}", path.display()))?;
    Ok(plan)
}

/// What a plan was found for that is not this model, in a sentence; none where it was found for it, or does not say.
pub fn found_for_another(plan: &Plan, opened: &OpenModel) -> Option<String> {
    let tuned_from = |hash: &String| opened.notes.get("tuned").is_some_and(|note| note.contains(hash));
    let same = |hash: &String| *hash == opened.hash || hash == opened.origin() || tuned_from(hash);
    let other = plan.metadata.model.as_ref().is_some_and(|hash| !same(hash));
    if other {
        return Some(format!("was found for another network than {}", opened.name));
    }
    let guidance = &opened.spec().guidance;
    let found = &plan.metadata.guidance;
    if plan.metadata.model.is_none() || found == guidance {
        return None;
    }
    let of_one_weight = |found: &&Guidance| guidance.as_ref().is_some_and(|now| now.weight == found.weight);
    if let Some(found) = found.as_ref().filter(of_one_weight) {
        return Some(format!("was found under guidance {} by another network than this (--guide)", found.weight));
    }
    let weight = |guidance: &Option<Guidance>| match guidance {
        Some(guidance) => format!("guidance {}", guidance.weight),
        None => "no guidance".to_owned(),
    };
    Some(format!("was found under {}, and is run under {}", weight(found), weight(guidance)))
}

documented! {
    /// What few samplers need to be told.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SamplerSettings {
        /// Exponent of the karras schedule.
        pub rho: f64,
        /// Lowest noise level; 0 for the model's own.
        pub sigma_min: f64,
        /// Highest noise level; 0 for the model's own.
        pub sigma_max: f64,
        /// Whether a last step leads from the lowest noise level to 0.
        pub last_step: bool,
        /// Whether an analytical first step takes the place of the first evaluation.
        pub afs: bool,
    }
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self { rho: 7.0, sigma_min: 0.0, sigma_max: 0.0, last_step: true, afs: false }
    }
}

/// A sampler that is named instead of read: levels by a formula, or one by one, and a solver on them.
#[derive(Clone, Debug)]
pub struct NamedSampler {
    /// Noise levels.
    pub steps: usize,
    /// The solver.
    pub solver: Solver,
    /// The schedule's name.
    pub schedule: String,
    /// Levels one by one, largest first, in place of a schedule.
    pub sigmas: Option<Vec<f64>>,
    /// What few samplers need to be told.
    pub settings: SamplerSettings,
}

impl NamedSampler {
    /// The plan for a denoiser.
    ///
    /// # Errors
    /// If there is no such schedule, or the solver has no plan for it.
    pub fn plan(&self, spec: &Spec) -> Result<Plan> {
        let last_step = if self.settings.last_step { LastStep::ToZero } else { LastStep::Stop };
        let options = SolverOptions { last_step, analytical_first_step: self.settings.afs };
        let plan = self.solver.plan(&self.levels(spec)?, &options)?;
        plan.check(spec)?;
        Ok(plan)
    }

    /// The noise levels, rounded to those that the denoiser knows; levels that were given are used as they are.
    ///
    /// # Errors
    /// If there is no such schedule.
    pub fn levels(&self, spec: &Spec) -> Result<Schedule> {
        if let Some(sigmas) = &self.sigmas {
            return Schedule::new(sigmas.clone()).context("the levels that were given are no schedule");
        }
        ensure!(self.steps >= 1, "there must be at least 1 step");
        let SamplerSettings { rho, sigma_min, sigma_max, .. } = self.settings;
        let (low, high) = spec.levels.sampling;
        let low = if sigma_min == 0.0 { low } else { sigma_min };
        let high = if sigma_max == 0.0 { high } else { sigma_max };
        let family = match SCHEDULES.iter().find(|(name, _)| *name == self.schedule) {
            Some((_, Family::Karras { .. })) => Family::Karras { rho },
            Some((name, _)) if rho != SamplerSettings::default().rho => {
                bail!("the setting sampler.rho is of the karras schedule alone: {name} has no exponent")
            }
            Some((_, family)) => family.on(&spec.levels),
            None => bail!(
                "there is no schedule named '{}'; {}",
                self.schedule,
                advice(&self.schedule, SCHEDULES.map(|(name, _)| name))
            ),
        };
        Ok(family.build(self.steps, low, high)?.round(&spec.levels)?)
    }
}

/// The first-order sampler that the paper's objectives speak of.
///
/// # Errors
/// If a coefficient overflows.
pub fn euler(schedule: &Schedule) -> Result<Plan> {
    Ok(Solver::Euler.plan(schedule, &SolverOptions::default())?)
}

/// Rollout errors of plans on the first held-out latents, of so many, against the [teacher](usual_teacher) of tables: for plans that stand beside one
/// another, outside of a run.
///
/// # Errors
/// If there are no latents or absurdly many, a plan does not fit the denoiser, or the denoiser fails.
pub fn rollout_errors(
    denoiser: &dyn TorchDenoiser,
    plans: &[&Plan],
    held_out: usize,
    observer: &dyn Observer,
) -> Result<Vec<f64>> {
    ensure!(
        (1..=MOST_COUNTED).contains(&(held_out as u64)),
        "rollout errors are measured on 1 to {MOST_COUNTED} held-out latents (--held-out), not {held_out}"
    );
    for plan in plans {
        plan.check(denoiser.spec())?;
    }
    let seeds: Vec<u64> = (HELD_OUT_SEEDS..HELD_OUT_SEEDS + held_out as u64).collect();
    let denoiser = spread(denoiser);
    let evaluator = HeldOut::by(&denoiser, &usual_teacher(&denoiser.spec().levels, TEACHER_STEPS)?, &seeds, observer)?;
    plans.iter().map(|plan| Ok(evaluator.rollout_error(&denoiser, plan, observer)?)).collect()
}

#[cfg(test)]
mod tests {
    use fewstep_core::observe::Silent;

    use super::*;
    use crate::models::{MIXTURES, ModelOptions, open_model};

    #[test]
    fn held_out_latents_are_of_a_number_that_can_be_held() {
        let opened = open_model(MIXTURES[0], &ModelOptions::default()).unwrap();
        for held_out in [0, 1_000_000_000_000] {
            let error = rollout_errors(opened.denoiser(), &[], held_out, &Silent).unwrap_err().to_string();
            assert!(error.contains("on 1 to 10000000 held-out latents (--held-out)"), "{error}");
        }
    }
}
