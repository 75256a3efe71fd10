//! Tools with solvers of their own, which are told noise levels.

use std::fmt;

use fewstep_core::plan::Plan;
use fewstep_core::solver::{Basis, LastStep, Solver, Variant};

use super::Options;
use super::diffusers::Scheduler;
use super::error::Result;
use super::levels::{decimal, joined, with_zero};

/// What a tool is to do: a solver of its own on noise levels.
pub struct Wanted {
    /// Largest first, without the final 0.
    pub levels: Vec<f64>,
    /// The tool's solver.
    pub solver: Solver,
    /// Whether it goes on to 0.
    pub last_step: LastStep,
}

/// A tool, and of diffusers the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Comfyui,
    KDiffusion,
    StableDiffusionCpp,
    DiffSampler,
    Diffusers(Scheduler),
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comfyui => f.write_str("ComfyUI"),
            Self::KDiffusion => f.write_str("k-diffusion"),
            Self::StableDiffusionCpp => f.write_str("stable-diffusion.cpp"),
            Self::DiffSampler => f.write_str("diff-sampler"),
            Self::Diffusers(scheduler) => write!(f, "diffusers' {}", scheduler.class()),
        }
    }
}

impl Tool {
    /// The tool's name of a solver, if it has that solver.
    ///
    /// Lower orders at the end are the public toolbox's alone, and stable-diffusion.cpp's iPNDM extrapolates its last
    /// step to 0 at full order, which no solver of ours does.
    fn solver(self, solver: Solver) -> Option<&'static str> {
        Some(match (self, solver) {
            (Self::Comfyui, Solver::Euler) => "euler",
            (Self::Comfyui, Solver::Heun) => "heun",
            (Self::Comfyui, Solver::Dpm2) => "dpm_2",
            (Self::Comfyui, Solver::DpmPp { order: 2, lower_order_final: false }) => "dpmpp_2m",
            (Self::Comfyui, Solver::Ipndm { order: 4 }) => "ipndm",
            (Self::KDiffusion, Solver::Euler) => "sample_euler",
            (Self::KDiffusion, Solver::Heun) => "sample_heun",
            (Self::KDiffusion, Solver::Dpm2) => "sample_dpm_2",
            (Self::KDiffusion, Solver::DpmPp { order: 2, lower_order_final: false }) => "sample_dpmpp_2m",
            (Self::StableDiffusionCpp, Solver::Euler) => "euler",
            (Self::StableDiffusionCpp, Solver::Heun) => "heun",
            (Self::StableDiffusionCpp, Solver::Dpm2) => "dpm2",
            (Self::StableDiffusionCpp, Solver::DpmPp { order: 2, lower_order_final: false }) => "dpm++2m",
            (Self::DiffSampler, Solver::Euler) => "euler",
            (Self::DiffSampler, Solver::Heun) => "heun",
            (Self::DiffSampler, Solver::Dpm2) => "dpm",
            (Self::DiffSampler, Solver::Ipndm { .. }) => "ipndm",
            (Self::DiffSampler, Solver::IpndmV { .. }) => "ipndm_v",
            (Self::DiffSampler, Solver::DpmPp { .. }) => "dpmpp",
            (Self::DiffSampler, Solver::UniPc { .. }) => "unipc",
            (Self::DiffSampler, Solver::Deis { .. }) => "deis",
            (Self::Diffusers(scheduler), solver) if scheduler.has(solver) => scheduler.class(),
            _ => return None,
        })
    }

    /// Why the tool cannot do what is wanted.
    pub fn refuses(self, wanted: &Wanted, options: &Options) -> Option<String> {
        if self.solver(wanted.solver).is_none() {
            let full = match wanted.solver {
                Solver::DpmPp { order, .. } => Some(Solver::DpmPp { order, lower_order_final: false }),
                _ => None,
            };
            let full = full.filter(|solver| self.solver(*solver).is_some());
            let hint = full.map(|solver| format!(", only {solver}, which keeps its order until the step to 0"));
            return Some(format!("it has no {}{}", wanted.solver, hint.unwrap_or_default()));
        }
        if self != Self::DiffSampler && wanted.last_step == LastStep::Stop {
            return Some("the plan stops at its last noise level, where the tool goes on to 0".to_owned());
        }
        match self {
            Self::Diffusers(scheduler) => scheduler.refuses(&wanted.levels, options),
            _ => None,
        }
    }

    /// The nearest that the tool can do: the plan's solver, or else the one of highest order that it has, on the levels
    /// nearest to the plan's, going on to 0.
    ///
    /// # Errors
    /// If the tool can have no such levels.
    pub fn nearest(self, plan: &Plan, options: &Options) -> Result<Wanted> {
        let [lower_at_end, dpmpp] =
            [true, false].map(|lower_order_final| Solver::DpmPp { order: 2, lower_order_final });
        let candidates = [lower_at_end, dpmpp, Solver::Ipndm { order: 4 }, Solver::Heun, Solver::Euler];
        let own = plan.solver.parse().ok();
        let mut solvers = own.into_iter().chain(candidates).filter(|solver| self.solver(*solver).is_some());
        let solver = solvers.next().unwrap_or(Solver::Euler);
        // a level that is evaluated twice, as in Heun's corrections, is one
        let mut levels = plan.sigmas();
        levels.dedup();
        if let Self::Diffusers(scheduler) = self {
            levels = scheduler.nearest(&levels, options)?;
        }
        Ok(Wanted { levels, solver, last_step: LastStep::ToZero })
    }

    /// What its user has to know beside pasting the text.
    pub fn advice(self, wanted: &Wanted, options: &Options) -> Option<String> {
        match self {
            Self::Comfyui => {
                let name = self.solver(wanted.solver).unwrap_or("euler");
                Some(format!("for a ManualSigmas node into SamplerCustom; choose the sampler {name} in KSamplerSelect"))
            }
            Self::Diffusers(scheduler) => Some(scheduler.advice(&wanted.levels, options)),
            _ => None,
        }
    }

    /// The text that the tool takes.
    pub fn write(self, wanted: &Wanted, options: &Options) -> String {
        let Wanted { levels, solver, last_step } = wanted;
        let name = self.solver(*solver).unwrap_or("euler");
        let commas = with_zero(levels, ", ");
        match self {
            // the node finds numbers by a pattern that knows no exponents
            Self::Comfyui => format!("{commas}\n"),
            Self::KDiffusion => format!(
                "# given: model (a k-diffusion denoiser), noise (unit normal, on its device)\n\
                 import k_diffusion\n\
                 import torch\n\
                 sigmas = torch.tensor([{commas}], device=noise.device)\n\
                 x = k_diffusion.sampling.{name}(model, noise * {}, sigmas)\n",
                levels.first().map_or_else(|| "1".to_owned(), |sigma| decimal(*sigma))
            ),
            Self::StableDiffusionCpp => {
                format!("--sampling-method {name} --steps {} --sigmas \"{}\"\n", levels.len(), with_zero(levels, ","))
            }
            Self::DiffSampler => diff_sampler(levels, *solver, *last_step, name),
            Self::Diffusers(scheduler) => scheduler.write(wanted, options),
        }
    }
}

/// diff-sampler counts levels, stops at the last, and has a switch for a last step to 0.
fn diff_sampler(levels: &[f64], solver: Solver, last_step: LastStep, name: &str) -> String {
    let steps = joined(levels.iter().map(|level| decimal(*level)), ",");
    let order = match solver {
        Solver::Ipndm { order } | Solver::IpndmV { order } => format!(" --max_order={order}"),
        Solver::Deis { order, basis } => {
            let basis = if basis == Basis::Time { "tab" } else { "rhoab" };
            format!(" --max_order={order} --deis_mode={basis}")
        }
        Solver::DpmPp { order, lower_order_final } => {
            let last = if lower_order_final { "True" } else { "False" };
            format!(" --max_order={order} --predict_x0=True --lower_order_final={last}")
        }
        Solver::UniPc { order, variant } => {
            let variant = if variant == Variant::Bh1 { "bh1" } else { "bh2" };
            format!(" --max_order={order} --predict_x0=True --lower_order_final=True --variant={variant}")
        }
        _ => String::new(),
    };
    let last = if last_step == LastStep::ToZero { " --denoise_to_zero=True" } else { "" };
    format!("--solver={name} --num_steps={} '--t_steps=[{}]'{order}{last}\n", levels.len(), steps)
}
