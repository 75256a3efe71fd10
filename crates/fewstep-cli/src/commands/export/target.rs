//! The tools that plans are exported to, and the exact form that each takes.

mod diffusers;
mod tool;

use anyhow::Result;
use fewstep_core::plan::{Plan, Source};
use fewstep_report::{Cell, Column, Format, Table};
use serde_json::json;

use self::diffusers::Scheduler;
pub use self::tool::Tool;
use crate::assets;

/// A reader of plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// ComfyUI: the string for a ManualSigmas node, and which sampler to choose
    Comfyui,
    /// k-diffusion: a Python call
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
    #[value(name = "stable-diffusion.cpp")]
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

/// A form that holds any plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    Python,
    Json,
    Csv,
}

impl Target {
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

impl Whole {
    /// What messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Json => "JSON",
            Self::Csv => "CSV",
        }
    }

    /// The export.
    pub fn write(self, plan: &Plan) -> Result<String> {
        Ok(match self {
            Self::Python => assets::PLAN_SAMPLER.to_owned(),
            Self::Json => serde_json::to_string_pretty(&json!({
                "sigmas": plan.sigmas(),
                "nfe": plan.nfe(),
                "plan": plan,
                "unrolled": plan.unrolled(),
            }))?,
            Self::Csv => table(plan).to_csv(),
        })
    }
}

/// A row a state, last the image.
fn table(plan: &Plan) -> Table {
    let unrolled = plan.unrolled();
    let number = |name: String| Column::number(name, Format::Significant(9));
    let mut sources = vec![Source::Latent];
    sources.extend(plan.constant.as_ref().map(|_| Source::Constant));
    sources.extend((0..plan.nfe()).map(Source::Output));
    let mut columns = vec![Column::text("state"), number("sigma".to_owned())];
    columns.extend(sources.iter().map(|source| number(source.to_string())));
    let mut table = Table::new(columns);
    let states =
        unrolled.stages.iter().enumerate().map(|(k, stage)| (format!("x{k}"), Some(stage.sigma), &stage.input));
    for (name, sigma, state) in states.chain([("image".to_owned(), None, &unrolled.output)]) {
        let mut row = vec![Cell::from(name), Cell::from(sigma)];
        row.extend(sources.iter().map(|source| Cell::from(state.coefficient(*source))));
        table.push(row);
    }
    table
}
