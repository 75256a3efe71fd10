//! Tools with solvers of their own, which are told noise levels.

use std::fmt;

use fewstep_core::plan::{Combination, Plan, Source};
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{LastStep, Solver, SolverError, SolverOptions};

use super::diffusers::Scheduler;
use super::error::{Error, Result};
use super::levels::{check_apart, decimal, decimals, significant, time, with_zero};
use super::{Options, diff_sampler};

/// What a tool is to do: a solver of its own on noise levels.
pub struct Wanted {
    /// Largest first, without the final 0.
    pub levels: Vec<f64>,
    /// The tool's solver.
    pub solver: Solver,
    /// Whether it goes on to 0.
    pub last_step: LastStep,
    /// Whether the tool counts the time t = sigma / (1 + sigma) of a flow in place of sigma, and steps in it.
    pub in_time: bool,
}

impl Wanted {
    /// What a tool does that is told this.
    ///
    /// In time, its states are (1 - t) y + t n = x / (1 + sigma), and their ODE is that of x: d/dt = (state - D) / t. So it does what
    /// its solver does on the times as levels, with states of that scale, which are other coefficients than on sigma.
    ///
    /// # Errors
    /// If the levels are no schedule, or the solver leaves no plan on them.
    pub fn plan(&self) -> Result<Plan> {
        let options = SolverOptions { last_step: self.last_step, analytical_first_step: false };
        let schedule = Schedule::new(self.levels.clone())?;
        if !self.in_time || self.solver == Solver::Euler {
            return Ok(self.solver.plan(&schedule, &options)?);
        }
        let mut plan = self.solver.plan(&Schedule::new(self.times())?, &options)?;
        for stage in &mut plan.stages {
            stage.sigma /= 1.0 - stage.sigma;
        }
        let scales: Vec<f64> = plan.sigmas().into_iter().map(|sigma| 1.0 + sigma).collect();
        let rescaled = |combination: &Combination, scale: f64| -> Combination {
            let of = |source| if let Source::Input(k) = source { scale / scales[k] } else { scale };
            combination.terms().map(|(source, c)| (source, of(source) * c)).collect()
        };
        for (stage, scale) in plan.stages.iter_mut().zip(&scales) {
            stage.input = rescaled(&stage.input, *scale);
        }
        let last = match self.last_step {
            LastStep::ToZero => 1.0,
            LastStep::Stop => 1.0 + schedule.sigma_min(),
        };
        plan.output = rescaled(&plan.output, last);
        plan.validate().map_err(SolverError::from)?;
        Ok(plan.named(self.solver.to_string(), Some(schedule)))
    }

    fn times(&self) -> Vec<f64> {
        self.levels.iter().map(|sigma| time(*sigma)).collect()
    }
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
            (Self::DiffSampler, solver) => diff_sampler::name(solver),
            (Self::Diffusers(scheduler), solver) if scheduler.has(solver) => scheduler.class(),
            _ => return None,
        })
    }

    /// Why the tool cannot run the network that a plan was found for, whatever levels it is told: all but those of flows count
    /// the sigma of y + sigma n. Plans that do not say what they are for are taken for the tool's.
    pub fn refuses_network(self, plan: &Plan) -> Option<String> {
        let name = plan.metadata.parameterisation.as_deref().unwrap_or_default();
        let found_for = format!("it was found for a network of the parameterisation {name}");
        match (self, plan.metadata.of_flow()?) {
            (Self::Comfyui | Self::StableDiffusionCpp, _) | (Self::Diffusers(Scheduler::FlowEuler), true) => None,
            (Self::Diffusers(Scheduler::FlowEuler), false) => Some(format!(
                "{found_for}, which is no flow, and the scheduler runs flows alone; the targets diffusers-euler and \
                 comfyui fit"
            )),
            (_, true) => Some(format!(
                "{found_for}, and no levels make the tool run flows, whose states are (1 - t) y + t n; the targets \
                 diffusers-flow-euler and comfyui fit"
            )),
            (_, false) => None,
        }
    }

    /// Whether it counts time on the network of this plan: [`Wanted::in_time`].
    pub fn in_time(self, plan: &Plan) -> bool {
        match self {
            Self::Diffusers(scheduler) => scheduler == Scheduler::FlowEuler,
            // they count what the model does, and a plan that does not say is not taken for a flow's
            Self::Comfyui | Self::StableDiffusionCpp => plan.metadata.of_flow() == Some(true),
            Self::KDiffusion | Self::DiffSampler => false,
        }
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
        if !self.stops() && wanted.last_step == LastStep::Stop {
            return Some("the plan stops at its last noise level, where the tool goes on to 0".to_owned());
        }
        if wanted.in_time && wanted.solver != Solver::Euler {
            return Some(format!(
                "on flows it steps in t = sigma / (1 + sigma), where {} has other coefficients than in sigma, and \
                 only euler the same",
                wanted.solver
            ));
        }
        match self {
            Self::Diffusers(scheduler) => scheduler.refuses(&wanted.levels, options),
            _ => self.departs(wanted.solver, wanted.levels.len()),
        }
    }

    /// Why what the tool has under the name of a solver does something else on so many levels.
    fn departs(self, solver: Solver, levels: usize) -> Option<String> {
        if self == Self::DiffSampler { diff_sampler::refuses(solver, levels) } else { None }
    }

    /// Whether the tool does exactly what is wanted of it, whatever the network's outputs are.
    pub fn is_exact(self, wanted: &Wanted) -> bool {
        !(self == Self::DiffSampler && diff_sampler::clips(wanted.solver))
    }

    /// The nearest that the tool can do: the plan's solver, or else the one of highest order that it has, on the levels nearest to the
    /// plan's, going on to 0 unless the plan is `own`, a solver's that stops, and the tool can stop, too.
    ///
    /// # Errors
    /// If the tool can have no such levels, or runs none of its solvers on so few.
    pub fn nearest(self, plan: &Plan, own: Option<&Wanted>, options: &Options) -> Result<Wanted> {
        let [lower_at_end, dpmpp] =
            [true, false].map(|lower_order_final| Solver::DpmPp { order: 2, lower_order_final });
        let candidates = [lower_at_end, dpmpp, Solver::Ipndm { order: 4 }, Solver::Heun, Solver::Euler];
        let stopping = own.filter(|own| own.last_step == LastStep::Stop && self.stops());
        let last_step = stopping.map_or(LastStep::ToZero, |own| own.last_step);
        let mut reason = String::new();
        let all = plan.solver.parse().ok().into_iter().chain(candidates);
        for solver in all.filter(|solver| self.solver(*solver).is_some()) {
            let mut levels = stopping.map_or_else(|| levels(plan, solver), |own| own.levels.clone());
            if let Some(departs) = self.departs(solver, levels.len()) {
                reason = departs;
                continue;
            }
            if let Self::Diffusers(scheduler) = self {
                levels = scheduler.nearest(&levels, options)?;
            }
            return Ok(Wanted { levels, solver, last_step, in_time: self.in_time(plan) });
        }
        Err(Error::NothingNear { tool: self.to_string(), reason })
    }

    /// Whether it can stop at the last level.
    fn stops(self) -> bool {
        self == Self::DiffSampler
    }

    /// What its user has to know beside pasting the text.
    pub fn advice(self, wanted: &Wanted, options: &Options) -> Option<String> {
        match self {
            Self::Comfyui => {
                let name = self.solver(wanted.solver).unwrap_or("euler");
                let mut advice =
                    format!("for a ManualSigmas node into SamplerCustom; choose the sampler {name} in KSamplerSelect");
                advice += &if wanted.in_time {
                    "\nthe numbers are the flow's times t = sigma / (1 + sigma), which ComfyUI calls sigmas and does not \
                     shift again"
                        .to_owned()
                } else {
                    format!("\n{}", comfyui_start(wanted.levels.first().copied().unwrap_or(1.0)))
                };
                Some(advice)
            }
            Self::DiffSampler => diff_sampler::advice(wanted.solver),
            Self::Diffusers(scheduler) => Some(scheduler.advice(&wanted.levels, options)),
            _ => None,
        }
    }

    /// The text that the tool takes.
    ///
    /// # Errors
    /// If two levels are one to it.
    pub fn write(self, wanted: &Wanted, options: &Options) -> Result<String> {
        let Wanted { levels, solver, last_step, in_time } = wanted;
        let counted = if *in_time { wanted.times() } else { levels.clone() };
        check_apart(&self.to_string(), levels, &counted, None)?;
        let name = self.solver(*solver).unwrap_or("euler");
        let commas = with_zero(&counted, ", ");
        Ok(match self {
            // the node finds numbers by a pattern that knows no exponents
            Self::Comfyui => format!("{commas}\n"),
            Self::KDiffusion => format!(
                "# given: model (a k-diffusion denoiser), noise (unit normal, on its device)\n\
                 import k_diffusion\n\
                 import torch\n\
                 sigmas = torch.tensor([{commas}], device=noise.device)\n\
                 x = k_diffusion.sampling.{name}(model, noise * {}, sigmas)\n",
                decimals(&counted).first().map_or("1", String::as_str)
            ),
            Self::StableDiffusionCpp => {
                format!("--sampling-method {name} --steps {} --sigmas \"{}\"\n", levels.len(), with_zero(&counted, ","))
            }
            Self::DiffSampler => diff_sampler::write(&counted, *solver, *last_step),
            Self::Diffusers(scheduler) => scheduler.write(wanted, options)?,
        })
    }
}

/// What ComfyUI begins with in place of a plan's noise times its first level (`EPS.noise_scaling` and `Sampler.max_denoise`).
fn comfyui_start(sigma: f64) -> String {
    // sqrt(1 + sigma^2) / sigma - 1, without cancellation
    let excess = (0.5 * (sigma * sigma).recip().ln_1p()).exp_m1();
    format!(
        "where {sigma} is the model's largest level or above it, ComfyUI begins with noise * sqrt(1 + sigma^2), {} % more than \
         the plan's noise * {sigma}; below that, with the plan's",
        significant(100.0 * excess, 2),
        sigma = decimal(sigma)
    )
}

/// The levels of a plan for a solver of a tool's own, so that the evaluations are the plan's, or as near as the solver comes to it.
pub fn levels(plan: &Plan, solver: Solver) -> Vec<f64> {
    let twice = |solver: Solver| solver.evaluations_per_step() == 2;
    let mut stages = plan.sigmas();
    if twice(solver) && plan.solver.parse().is_ok_and(twice) {
        // every second of them is a step's second evaluation, at the next level or in between
        let fits = |schedule: &&Schedule| schedule.len() == plan.nfe() / 2 + 1;
        return match plan.schedule.as_ref().filter(fits) {
            Some(schedule) => schedule.levels().to_vec(),
            // it has lost its schedule, or refining its levels has left it one with the second evaluations
            None => stages.into_iter().step_by(2).collect(),
        };
    }
    // a level that is evaluated twice, as in Heun's corrections, is one
    stages.dedup();
    stages
}
