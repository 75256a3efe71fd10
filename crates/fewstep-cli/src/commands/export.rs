//! `fewstep export`: a plan in the form that another tool takes.

use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use fewstep::plans::{read_plan, rollout_errors};
use fewstep::search::export::{self, Betas, Note, Options, Setting, Target};
use fewstep_core::plan::Plan;
use fewstep_io::atomic;
use serde_json::json;

use crate::inputs::{ModelArgs, check_new_file};
use crate::ui::{self, Output, Terminal};

/// Arguments of `fewstep export`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep export runs/comfyui/steps-008/plan.json --to comfyui\n  fewstep export plan.json --to diffusers-dpmpp --betas scaled-linear:0.00085:0.012 --nearest\n  fewstep export plan.json --to python --out plan_sampler.py"
)]
pub struct Args {
    /// Plan file
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
    /// Who is to read it
    #[arg(long, value_name = "TOOL", value_parser = targets())]
    pub to: Target,
    /// Where the tool cannot express the plan, give it the plan's noise levels for its own solver
    #[arg(long)]
    pub nearest: bool,
    /// With --nearest, measure on this model what that costs
    #[arg(long, value_name = "MODEL", requires = "nearest")]
    pub model: Option<String>,
    /// Latents that the cost is measured on
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub held_out: usize,
    /// Write into this file instead of to stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    #[command(flatten)]
    pub forms: Forms,
    #[command(flatten)]
    pub options: ModelArgs,
}

/// What schedulers of diffusers know of their model.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "diffusers")]
pub struct Forms {
    /// Noise table of the model: linear:START:END, scaled-linear:START:END or cosine, and :STEPS after it if not 1000
    #[arg(long, value_name = "TABLE", default_value = "scaled-linear:0.00085:0.012")]
    pub betas: Betas,
    /// Time shift of the model, for flow matching
    #[arg(long, value_name = "K", default_value_t = 1.0)]
    pub shift: f64,
}

/// Targets by name.
fn targets() -> impl TypedValueParser<Value = Target> {
    let values = Target::ALL.map(|(_, name, about)| PossibleValue::new(name).help(about));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Target>())
}

/// Exports.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let out = args.out.as_ref().map(|out| check_new_file(out, args.overwrite)).transpose()?;
    ensure!(args.held_out >= 1, "--held-out must be at least 1");
    let plan = read_plan(&args.plan)?;
    let Forms { betas, shift } = &args.forms;
    let options = Options { nearest: args.nearest, betas: betas.clone(), shift: *shift };
    let exported = export::export(&plan, args.to, &options).map_err(with_advice)?;
    let notes: Vec<String> = exported.notes.iter().map(said).collect();
    notes.iter().for_each(ui::note);
    let errors = match &exported.nearest {
        Some(nearest) => {
            let errors = Errors::measure(&args, &plan, &nearest.plan, terminal)?;
            ui::note(in_words(&nearest.plan, errors.as_ref()));
            errors
        }
        None => None,
    };
    let place = args.out.as_ref().map(|out| out.display().to_string());
    if let Some(out) = out {
        atomic::write_bytes(out, exported.text.as_bytes())?;
    }
    let nearest = exported.nearest.as_ref();
    let value = json!({
        "to": exported.tool,
        "text": exported.text,
        "notes": notes,
        "exact": exported.is_exact,
        "nearest": nearest.map(|nearest| &nearest.plan),
        "moved": nearest.and_then(|nearest| nearest.moved.as_ref()),
        "rollout_error": errors,
        "file": place,
    });
    output.result(&value, || place.map_or(exported.text, |place| format!("{place} is for {}", exported.tool)))
}

/// A note, with its setting as `--set` takes it.
fn said(note: &Note) -> String {
    note.in_words(|Setting { table, name, value }| format!("the setting search.{table}.{name} = {value}"))
}

/// An error with the options that help.
fn with_advice(error: export::Error) -> anyhow::Error {
    match &error {
        export::Error::CannotExpress { tool, .. } => anyhow!(
            "{error}; --nearest exports its noise levels for a solver of {tool}'s own, --to python a sampler that runs it as \
             it is"
        ),
        export::Error::NothingNear { .. } => anyhow!("{error}; --to python exports a sampler that runs it as it is"),
        export::Error::LevelsBecomeOne { .. } => anyhow!("{error}; check --betas, or take fewer steps"),
        export::Error::Shift(_) => anyhow!("--shift: {error}"),
        _ => error.into(),
    }
}

/// Rollout errors of a plan and of what is exported in its place.
#[derive(serde::Serialize)]
struct Errors {
    plan: f64,
    nearest: f64,
}

/// Samples at once.
const BATCH: usize = 64;

impl Errors {
    /// Measures them, where a model is given to do it on.
    fn measure(args: &Args, plan: &Plan, nearest: &Plan, terminal: &Terminal) -> Result<Option<Self>> {
        let Some(model) = &args.model else { return Ok(None) };
        let opened = args.options.open(model, BATCH)?;
        let errors = rollout_errors(opened.denoiser(), &[plan, nearest], args.held_out, terminal)?;
        Ok(Some(Self { plan: errors[0], nearest: errors[1] }))
    }
}

/// What is exported in place of a plan, what that costs, and what would be better.
fn in_words(nearest: &Plan, errors: Option<&Errors>) -> String {
    let what =
        format!("{} on its {} noise levels, {} evaluations", nearest.solver, nearest.sigmas().len(), nearest.nfe());
    let cost = match errors {
        Some(Errors { plan, nearest }) => format!("rollout error {nearest:.6} instead of {plan:.6}"),
        None => "--model measures what that costs".to_owned(),
    };
    let better = format!("fewstep plan MODEL --method oss/{}", nearest.solver);
    format!("exported instead: {what}; {cost}. `{better}` finds levels for that solver, which are exported as they are")
}
