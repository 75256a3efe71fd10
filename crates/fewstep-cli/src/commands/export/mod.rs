//! `fewstep export`: a plan in the form that another tool takes.

mod levels;
mod noise_table;
mod target;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_io::atomic;
use fewstep_nn::fit::HeldOut;
use serde_json::json;

use self::levels::{decimal, joined};
use self::noise_table::Betas;
pub use self::target::Target;
use self::target::{Form, Tool};
use crate::fitting;
use crate::inputs::{Compute, check_new_file, open_model, read_plan};
use crate::ui::{self, Output};

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
    #[arg(long, value_name = "TOOL")]
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
    pub compute: Compute,
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

/// What a tool is to do: a solver of its own on noise levels.
pub struct Wanted {
    /// Largest first, without the final 0.
    pub levels: Vec<f64>,
    /// The tool's solver.
    pub solver: Solver,
    /// Whether it goes on to 0.
    pub last_step: LastStep,
}

/// Exports.
pub fn run(args: Args, output: Output) -> Result<()> {
    if let Some(out) = &args.out {
        check_new_file(out, args.overwrite)?;
    }
    ensure!(args.held_out >= 1, "--held-out must be at least 1");
    let forms = &args.forms;
    ensure!(forms.shift > 0.0 && forms.shift.is_finite(), "--shift must be a finite number above 0");
    let plan = read_plan(&args.plan)?;
    let (name, text, changed) = match args.to.form() {
        Form::Whole(whole) => (whole.name().to_owned(), whole.write(&plan)?, None),
        Form::Levels(tool) => {
            let (wanted, changed) = wanted(&plan, tool, &args)?;
            if let Some(advice) = tool.advice(&wanted, forms) {
                ui::note(advice);
            }
            (tool.to_string(), tool.write(&wanted, forms)?, changed)
        }
    };
    if let Some(changed) = &changed {
        ui::note(format!("warning: {name} cannot express this plan: {}", changed.reason));
        changed.moved.iter().for_each(ui::note);
        let lost = "the plan's constant image is left out: the tool starts from noise at the first of these levels";
        plan.constant.iter().for_each(|_| ui::note(lost));
    }
    let errors = match &changed {
        Some(changed) => {
            let errors = Errors::measure(&args, &plan, &changed.nearest)?;
            ui::note(in_words(&changed.nearest, errors.as_ref()));
            errors
        }
        None => None,
    };
    let place = args.out.as_ref().map(|out| out.display().to_string());
    if let Some(out) = &args.out {
        atomic::write_bytes(out, text.as_bytes())?;
    }
    let nearest = changed.as_ref().map(|changed| &changed.nearest);
    let value = json!({
        "to": name,
        "text": text,
        "exact": nearest.is_none(),
        "nearest": nearest,
        "moved": changed.as_ref().and_then(|changed| changed.moved.as_ref()),
        "rollout_error": errors,
        "file": place,
    });
    output.result(&value, || place.map_or(text, |place| format!("{place} is for {name}")))
}

/// What is exported in place of a plan that a tool cannot express.
struct Changed {
    reason: String,
    nearest: Plan,
    /// The noise levels that it has instead of the plan's, in words.
    moved: Option<String>,
}

/// The solver and levels that make exactly this plan; or, if asked for, the nearest that the tool can do.
fn wanted(plan: &Plan, tool: Tool, args: &Args) -> Result<(Wanted, Option<Changed>)> {
    let forms = &args.forms;
    let reason = match exactly(plan) {
        Some(wanted) => match tool.refuses(&wanted, forms) {
            None => return Ok((wanted, None)),
            Some(reason) => reason,
        },
        None => "its coefficients are no public solver's (it was fitted, or edited)".to_owned(),
    };
    if !args.nearest {
        bail!(
            "{tool} cannot express this plan: {reason}; --nearest exports its noise levels for a solver of {tool}'s own, \
             --to python a sampler that runs it as it is"
        );
    }
    let wanted = tool.nearest(plan, forms)?;
    let schedule = Schedule::new(wanted.levels.clone()).context("the plan's noise levels do not fall")?;
    let options = SolverOptions { last_step: wanted.last_step, analytical_first_step: false };
    let nearest = wanted.solver.plan(&schedule, &options)?;
    let moved = moved(plan, &wanted.levels);
    Ok((wanted, Some(Changed { reason, nearest, moved })))
}

/// The levels of an export and the largest change among them, where the tool cannot have the plan's.
fn moved(plan: &Plan, levels: &[f64]) -> Option<String> {
    let mut before = plan.sigmas();
    before.dedup();
    let change = |(a, b): &(&f64, &f64)| (*b / *a - 1.0).abs();
    let largest = before.iter().zip(levels).max_by(|a, b| change(a).total_cmp(&change(b)))?;
    (change(&largest) > 1e-9).then(|| {
        format!(
            "noise levels exported: {}; the largest change is {:.2} % ({} became {})",
            joined(levels.iter().map(|level| decimal(*level)), ", "),
            100.0 * change(&largest),
            decimal(*largest.0),
            decimal(*largest.1)
        )
    })
}

/// The solver, levels and last step that leave exactly the stages of this plan.
fn exactly(plan: &Plan) -> Option<Wanted> {
    let solver: Solver = plan.solver.parse().ok()?;
    let schedule = plan.schedule.as_ref()?;
    [LastStep::ToZero, LastStep::Stop].into_iter().find_map(|last_step| {
        let options = SolverOptions { last_step, analytical_first_step: false };
        let made = solver.plan(schedule, &options).ok()?;
        let same = made.stages == plan.stages && made.output == plan.output;
        same.then(|| Wanted { levels: schedule.levels().to_vec(), solver, last_step })
    })
}

/// Noise levels of the Heun teacher that a cost is measured against, and images at once.
const TEACHER_STEPS: usize = 18;
const BATCH: usize = 64;

/// Rollout errors of a plan and of what is exported in its place.
#[derive(serde::Serialize)]
struct Errors {
    plan: f64,
    nearest: f64,
}

impl Errors {
    /// Measures them, where a model is given to do it on.
    fn measure(args: &Args, plan: &Plan, nearest: &Plan) -> Result<Option<Self>> {
        let Some(model) = &args.model else { return Ok(None) };
        let (device, kind) = args.compute.resolve()?;
        let opened = open_model(model, device, kind)?;
        let precond = &opened.model.config().precond;
        let shape = opened.model.image_shape().map(|size| size as usize);
        plan.check_model(shape, opened.model.config().label_dim as usize, precond.sigma_min(), precond.sigma_max())?;
        let seeds: Vec<u64> = (fitting::HELD_OUT_SEEDS..fitting::HELD_OUT_SEEDS + args.held_out as u64).collect();
        let teacher = fitting::teacher(&opened.model, TEACHER_STEPS)?;
        let judge = HeldOut::new(&opened.model, &teacher, &seeds, BATCH)?;
        let error = |plan: &Plan| judge.rollout_error(&opened.model, plan);
        Ok(Some(Self { plan: error(plan)?, nearest: error(nearest)? }))
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
    let better = format!("fewstep fit --phases 1 --search reachable/{}", nearest.solver);
    format!("exported instead: {what}; {cost}. `{better}` finds levels for that solver, which are exported as they are")
}
