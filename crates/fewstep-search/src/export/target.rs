//! The tools that plans are exported to.

use std::fmt;
use std::str::FromStr;

use super::diffusers::Scheduler;
use super::tool::Tool;
use super::whole::Whole;

/// A reader of plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// ComfyUI: the string for a ManualSigmas node, and which sampler to choose
    Comfyui,
    /// k-diffusion: Python lines
    KDiffusion,
    /// diffusers, EulerDiscreteScheduler: Python lines
    DiffusersEuler,
    /// diffusers, EDMEulerScheduler: Python lines
    DiffusersEdmEuler,
    /// diffusers, FlowMatchEulerDiscreteScheduler: Python lines
    DiffusersFlowEuler,
    /// diffusers, HeunDiscreteScheduler, told timesteps: Python lines
    DiffusersHeun,
    /// diffusers, DPMSolverMultistepScheduler, told whole timesteps: Python lines
    DiffusersDpmpp,
    /// stable-diffusion.cpp: command-line options
    StableDiffusionCpp,
    /// diff-sampler: command-line options
    DiffSampler,
    /// Python: a sampler in one file that runs any plan with any denoiser (plan_sampler.py)
    Python,
    /// The plan itself, with every state in the latent and the outputs (Eq. 8)
    Json,
    /// A table of noise levels and coefficients
    Csv,
}

/// What a target can hold.
pub enum Form {
    /// Any plan.
    Whole(Whole),
    /// Noise levels for a solver of its own.
    Levels(Tool),
}

impl Target {
    /// Every target, its name and what it is.
    pub const ALL: [(Self, &str, &str); 12] = [
        (Self::Comfyui, "comfyui", "ComfyUI: the string for a ManualSigmas node, and which sampler to choose"),
        (Self::KDiffusion, "k-diffusion", "k-diffusion: Python lines"),
        (Self::DiffusersEuler, "diffusers-euler", "diffusers, EulerDiscreteScheduler: Python lines"),
        (Self::DiffusersEdmEuler, "diffusers-edm-euler", "diffusers, EDMEulerScheduler: Python lines"),
        (Self::DiffusersFlowEuler, "diffusers-flow-euler", "diffusers, FlowMatchEulerDiscreteScheduler: Python lines"),
        (Self::DiffusersHeun, "diffusers-heun", "diffusers, HeunDiscreteScheduler, told timesteps: Python lines"),
        (
            Self::DiffusersDpmpp,
            "diffusers-dpmpp",
            "diffusers, DPMSolverMultistepScheduler, told whole timesteps: Python lines",
        ),
        (Self::StableDiffusionCpp, "stable-diffusion.cpp", "stable-diffusion.cpp: command-line options"),
        (Self::DiffSampler, "diff-sampler", "diff-sampler: command-line options"),
        (
            Self::Python,
            "python",
            "Python: a sampler in one file that runs any plan with any denoiser (plan_sampler.py)",
        ),
        (Self::Json, "json", "The plan itself, with every state in the latent and the outputs (Eq. 8)"),
        (Self::Csv, "csv", "A table of noise levels and coefficients"),
    ];

    /// What it can hold.
    pub fn form(self) -> Form {
        Form::Levels(match self {
            Self::Python => return Form::Whole(Whole::Python),
            Self::Json => return Form::Whole(Whole::Json),
            Self::Csv => return Form::Whole(Whole::Csv),
            Self::Comfyui => Tool::Comfyui,
            Self::KDiffusion => Tool::KDiffusion,
            Self::StableDiffusionCpp => Tool::StableDiffusionCpp,
            Self::DiffSampler => Tool::DiffSampler,
            Self::DiffusersEuler => Tool::Diffusers(Scheduler::Euler),
            Self::DiffusersEdmEuler => Tool::Diffusers(Scheduler::EdmEuler),
            Self::DiffusersFlowEuler => Tool::Diffusers(Scheduler::FlowEuler),
            Self::DiffusersHeun => Tool::Diffusers(Scheduler::Heun),
            Self::DiffusersDpmpp => Tool::Diffusers(Scheduler::DpmPp),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(target, ..)| target == self).map(|(_, name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// A name that no target has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no target named '{0}'")]
pub struct UnknownTarget(pub String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        let found = Self::ALL.iter().find(|(_, name, _)| *name == text);
        found.map(|(target, ..)| *target).ok_or_else(|| UnknownTarget(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_read_back_from_its_name() {
        for (target, name, _) in Target::ALL {
            assert_eq!((target.to_string().as_str(), name.parse()), (name, Ok(target)));
        }
        assert_eq!("comfy".parse::<Target>().unwrap_err().to_string(), "there is no target named 'comfy'");
    }
}
