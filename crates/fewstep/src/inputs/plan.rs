//! Plans: a file, or a solver on a named schedule.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::{Family, Schedule};
use fewstep_core::solver::{LastStep, SolverOptions};
use fewstep_io::{FileKind, json};
use fewstep_nn::Model;

use super::OpenModel;
use crate::searching::{SCHEDULES, parse_solver};
use crate::suggest::advice;
use crate::ui;

/// Which sampler to run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampler")]
pub struct PlanArgs {
    /// Plan file, as `fit` leaves it; the options below are for samplers without one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["steps", "sigmas"])]
    pub plan: Option<PathBuf>,
    /// Noise levels; a first-order solver makes so many network evaluations
    #[arg(long, value_name = "N", default_value_t = 18)]
    pub steps: usize,
    /// Solver: euler, heun, dpm2, dpmpp2m, dpmpp3m, unipc3_bh2, ipndm4, deis_tab3, ...
    #[arg(long, value_name = "NAME", default_value = "heun")]
    pub solver: String,
    /// Noise levels: karras, log_snr, vp, ve, iddpm, cosine, time_uniform
    #[arg(long, value_name = "NAME", default_value = "karras")]
    pub schedule: String,
    /// Exponent of the karras schedule
    #[arg(long, default_value_t = 7.0)]
    pub rho: f64,
    /// Noise levels given one by one, largest first, without the final 0
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "steps")]
    pub sigmas: Option<Vec<f64>>,
    /// Lowest noise level [default: 0.002, or the model's own]
    #[arg(long, value_name = "SIGMA")]
    pub sigma_min: Option<f64>,
    /// Highest noise level [default: 80, or the model's own]
    #[arg(long, value_name = "SIGMA")]
    pub sigma_max: Option<f64>,
    /// Stop at the lowest noise level instead of stepping to 0 (diff-sampler's convention)
    #[arg(long)]
    pub no_last_step: bool,
    /// Replace the first evaluation by the analytical first step
    #[arg(long)]
    pub afs: bool,
}

impl PlanArgs {
    /// The plan for the model. One that was found for another network is used, and said so.
    pub fn resolve(&self, opened: &OpenModel) -> Result<Plan> {
        let model = &opened.model;
        if let Some(path) = &self.plan {
            let plan = read_plan_for(path, [model])?;
            let tuned_from = |hash: &String| opened.notes.get("tuned").is_some_and(|note| note.contains(hash));
            if plan.metadata.model.as_ref().is_some_and(|hash| *hash != opened.hash && !tuned_from(hash)) {
                ui::note(format!(
                    "warning: the plan {} was found for another network than {}",
                    path.display(),
                    opened.name
                ));
            }
            return Ok(plan);
        }
        let solver = parse_solver(&self.solver)?;
        let last_step = if self.no_last_step { LastStep::Stop } else { LastStep::ToZero };
        let schedule = self.schedule(model)?;
        let plan = solver.plan(&schedule, &SolverOptions { last_step, analytical_first_step: self.afs })?;
        check_model(&plan, model)?;
        Ok(plan)
    }

    /// The noise levels, rounded to those that the network knows.
    pub fn schedule(&self, model: &Model) -> Result<Schedule> {
        let precond = &model.config().precond;
        if let Some(sigmas) = &self.sigmas {
            return Schedule::new(sigmas.clone()).context("--sigmas");
        }
        ensure!(self.steps >= 1, "--steps must be at least 1");
        let (low, high) = precond.sampling_range();
        let (low, high) = (self.sigma_min.unwrap_or(low), self.sigma_max.unwrap_or(high));
        let family = match SCHEDULES.iter().find(|(name, _)| *name == self.schedule) {
            Some((_, Family::Karras { .. })) => Family::Karras { rho: self.rho },
            Some((_, family)) => *family,
            None => bail!(
                "there is no schedule named '{}'; {}",
                self.schedule,
                advice(&self.schedule, SCHEDULES.map(|(name, _)| name))
            ),
        };
        Ok(family.build(self.steps, low, high)?.round(precond)?)
    }
}

/// Reads a plan and checks that it fits all of `models`.
pub fn read_plan_for<'a>(path: &Path, models: impl IntoIterator<Item = &'a Model>) -> Result<Plan> {
    let plan = read_plan(path)?;
    for model in models {
        check_model(&plan, model).with_context(|| format!("cannot use the plan {}", path.display()))?;
    }
    Ok(plan)
}

/// Reads a plan.
pub fn read_plan(path: &Path) -> Result<Plan> {
    ensure!(path.exists(), "the plan {} does not exist: check the path", path.display());
    ensure!(!path.is_dir(), "{} is a folder: name a plan in it, such as steps-005/plan.json", path.display());
    let kind = FileKind::of_file(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
    if !matches!(kind, FileKind::Json | FileKind::Text | FileKind::Unknown) {
        let advice = match (kind, kind.advice()) {
            (FileKind::Safetensors | FileKind::Pickle | FileKind::TorchSave { .. }, _) => {
                "; a network is given with --model"
            }
            (_, "") => "",
            (_, advice) => &format!("; {advice}"),
        };
        bail!("{} is {kind}, not a plan (plan.json, as `fit` leaves it){advice}", path.display());
    }
    let text = json::read_text(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
    Plan::from_json(&text).with_context(|| format!("cannot use the plan {}", path.display()))
}

fn check_model(plan: &Plan, model: &Model) -> Result<()> {
    let shape = model.image_shape().map(|size| size as usize);
    let precond = &model.config().precond;
    let classes = model.config().label_dim as usize;
    Ok(plan.check_model(shape, classes, precond.sigma_min(), precond.sigma_max())?)
}
