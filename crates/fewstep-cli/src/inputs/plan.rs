//! Plans: a file, or a solver on a named schedule.

use std::path::PathBuf;

use anyhow::Result;
use fewstep::models::OpenModel;
use fewstep::plans::{NamedSampler, found_for_another, read_plan_for};
use fewstep::search::parse_solver;
use fewstep_core::plan::Plan;
use fewstep_core::solver::Solver;

use crate::ui;

/// Which sampler to run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampler")]
pub struct PlanArgs {
    /// Plan file; the options below are for samplers without one
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "steps", "solver", "schedule", "rho", "sigmas", "sigma_min", "sigma_max", "no_last_step", "afs",
    ])]
    pub plan: Option<PathBuf>,
    /// Noise levels; a first-order solver makes so many evaluations
    #[arg(long, value_name = "N", default_value_t = 18)]
    pub steps: usize,
    /// Solver: euler, heun, dpmpp2m, unipc3_bh2, ipndm4, deis_tab3, ...
    #[arg(long, value_name = "NAME", default_value = "heun", value_parser = parse_solver)]
    pub solver: Solver,
    /// Noise levels: karras, log_snr, vp, ve, iddpm, cosine, ...
    #[arg(long, value_name = "NAME", default_value = "karras")]
    pub schedule: String,
    /// Exponent of the karras schedule [default: 7]
    #[arg(long)]
    pub rho: Option<f64>,
    /// Noise levels one by one, largest first, without the final 0
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["steps", "schedule", "rho", "sigma_min", "sigma_max"])]
    pub sigmas: Option<Vec<f64>>,
    /// Lowest noise level [default: the model's own]
    #[arg(long, value_name = "SIGMA")]
    pub sigma_min: Option<f64>,
    /// Highest noise level [default: the model's own]
    #[arg(long, value_name = "SIGMA")]
    pub sigma_max: Option<f64>,
    /// Stop at the lowest noise level instead of stepping to 0
    #[arg(long)]
    pub no_last_step: bool,
    /// Replace the first evaluation by the analytical first step
    #[arg(long)]
    pub afs: bool,
}

impl PlanArgs {
    /// The plan for the model. One that was found for another network is used, and said so.
    pub fn resolve(&self, opened: &OpenModel) -> Result<Plan> {
        let Some(path) = &self.plan else { return Ok(self.sampler().plan(opened.spec())?) };
        let plan = read_plan_for(path, opened.spec())?;
        if let Some(what) = found_for_another(&plan, opened) {
            ui::note(format!("warning: the plan {} {what}", path.display()));
        }
        Ok(plan)
    }

    /// The sampler that is named.
    pub fn sampler(&self) -> NamedSampler {
        NamedSampler {
            steps: self.steps,
            solver: self.solver,
            schedule: self.schedule.clone(),
            rho: self.rho,
            sigmas: self.sigmas.clone(),
            sigma_min: self.sigma_min,
            sigma_max: self.sigma_max,
            stop_at_last: self.no_last_step,
            analytical_first_step: self.afs,
        }
    }
}
