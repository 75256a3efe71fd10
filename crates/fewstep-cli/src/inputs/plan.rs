//! Plans: a file, or a solver on a named schedule.

use std::path::PathBuf;

use anyhow::Result;
use fewstep::models::OpenModel;
use fewstep::plans::{NamedSampler, SamplerSettings, found_for_another, read_plan_for};
use fewstep::search::parse_solver;
use fewstep_core::plan::Plan;
use fewstep_core::solver::Solver;
use serde::Serialize;

use super::SettingsArgs;
use crate::ui;

/// Which sampler to run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampler")]
pub struct PlanArgs {
    /// Plan file; the options below are for samplers without one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["steps", "solver", "schedule", "sigmas"])]
    pub plan: Option<PathBuf>,
    /// Noise levels; a first-order solver makes so many evaluations
    #[arg(long, value_name = "N", default_value_t = 18)]
    pub steps: usize,
    /// Solver: euler, heun, dpmpp2m, unipc3_bh2, ipndm4, deis_tab3, ...
    #[arg(long, value_name = "NAME", default_value = "heun", value_parser = parse_solver)]
    pub solver: Solver,
    /// Noise levels: karras, log_snr, vp, ve, iddpm, cosine, ...
    #[arg(long, value_name = "NAME", default_value = KARRAS)]
    pub schedule: String,
    /// Noise levels one by one, largest first, without the final 0
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["steps", "schedule"])]
    pub sigmas: Option<Vec<f64>>,
}

/// The schedule that has an exponent.
const KARRAS: &str = "karras";

/// Settings of a sampler, those of its levels first.
pub const SAMPLER_SETTINGS: [&str; 5] =
    ["sampler.rho", "sampler.sigma_min", "sampler.sigma_max", "sampler.last_step", "sampler.afs"];

impl PlanArgs {
    /// Refuses settings of the sampler that these options overrule.
    pub fn check<S: Serialize + Default>(&self, args: &SettingsArgs, settings: &S) -> Result<()> {
        if self.plan.is_some() {
            args.refuse(settings, &SAMPLER_SETTINGS, "cannot be used with --plan: a plan is a whole sampler")?;
        }
        if self.sigmas.is_some() {
            args.refuse(settings, &SAMPLER_SETTINGS[..3], "cannot be used with --sigmas, which are all noise levels")?;
        }
        if self.schedule != KARRAS {
            let why =
                format!("is of the {KARRAS} schedule alone, and cannot be used with --schedule {}", self.schedule);
            args.refuse(settings, &SAMPLER_SETTINGS[..1], &why)?;
        }
        Ok(())
    }

    /// The plan for the model. One that was found for another network is used, and said so.
    pub fn resolve(&self, opened: &OpenModel, settings: &SamplerSettings) -> Result<Plan> {
        let Some(path) = &self.plan else {
            let (first, most) =
                (self.sigmas.as_ref().and_then(|sigmas| sigmas.first()), opened.spec().levels.sampling.1);
            if let Some(first) = first.filter(|first| **first > 1.001 * most) {
                ui::note(format!(
                    "warning: samplers of this network begin at the noise level {most}, and --sigmas at {first}"
                ));
            }
            return Ok(self.sampler(settings).plan(opened.spec())?);
        };
        let plan = read_plan_for(path, opened.spec())?;
        if let Some(what) = found_for_another(&plan, opened) {
            ui::note(format!("warning: the plan {} {what}", path.display()));
        }
        Ok(plan)
    }

    /// The sampler that is named.
    fn sampler(&self, settings: &SamplerSettings) -> NamedSampler {
        NamedSampler {
            steps: self.steps,
            solver: self.solver,
            schedule: self.schedule.clone(),
            sigmas: self.sigmas.clone(),
            settings: settings.clone(),
        }
    }
}
