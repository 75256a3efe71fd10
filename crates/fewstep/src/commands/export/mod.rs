//! `fewstep export`: a plan in the form that another tool takes.

mod levels;
mod target;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_io::atomic;
use fewstep_nn::fit::HeldOut;
use serde_json::json;

pub use self::target::Target;
use crate::fitting;
use crate::inputs::{Compute, check_new_file, open_model};
use crate::ui::{self, Output};

/// Arguments of `fewstep export`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep export runs/plans/steps-008/plan.json --to comfyui --nearest\n  fewstep export plan.json --to python --out plan_sampler.py"
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
    #[command(flatten)]
    pub compute: Compute,
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
        check_new_file(out, false)?;
    }
    ensure!(args.held_out >= 1, "--held-out must be at least 1");
    let plan = read(&args.plan)?;
    let (text, changed) = match args.to.whole(&plan)? {
        Some(text) => (text, None),
        None => {
            let (wanted, changed) = wanted(&plan, args.to, args.nearest)?;
            if let Some(advice) = args.to.advice(&wanted) {
                ui::note(advice);
            }
            (args.to.write(&wanted)?, changed)
        }
    };
    if let Some(changed) = &changed {
        ui::note(format!("warning: {} cannot express this plan: {}", args.to, changed.reason));
        ui::note(cost(&args, &plan, &changed.nearest)?);
    }
    let place = args.out.as_ref().map(|out| out.display().to_string());
    if let Some(out) = &args.out {
        atomic::write_bytes(out, text.as_bytes())?;
    }
    let value = json!({ "to": args.to.to_string(), "text": text, "exact": changed.is_none(), "file": place });
    output.result(&value, || place.map_or(text, |place| format!("{place} is for {}", args.to)))
}

fn read(path: &std::path::Path) -> Result<Plan> {
    ensure!(path.exists(), "the plan {} does not exist: check the path", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
    Plan::from_json(&text).with_context(|| format!("cannot use the plan {}", path.display()))
}

/// What is exported in place of a plan that a tool cannot express.
struct Changed {
    reason: String,
    nearest: Plan,
}

/// The solver and levels that make exactly this plan; or, if asked for, the tool's best solver on its levels.
fn wanted(plan: &Plan, target: Target, nearest: bool) -> Result<(Wanted, Option<Changed>)> {
    let reason = match exactly(plan) {
        Some(wanted) => match target.refuses(&wanted) {
            None => return Ok((wanted, None)),
            Some(reason) => reason,
        },
        None => "its coefficients are no public solver's (it was fitted, or edited)".to_owned(),
    };
    if !nearest {
        bail!(
            "{target} cannot express this plan: {reason}; --nearest exports its noise levels for a solver of {target}'s own, \
             --to python a sampler that runs it as it is"
        );
    }
    let wanted = target.nearest(plan.sigmas());
    let schedule = Schedule::new(wanted.levels.clone()).context("the plan's noise levels do not fall")?;
    let options = SolverOptions { last_step: wanted.last_step, analytical_first_step: false };
    let nearest = wanted.solver.plan(&schedule, &options)?;
    Ok((wanted, Some(Changed { reason, nearest })))
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

/// What the nearest plan costs, in words.
fn cost(args: &Args, plan: &Plan, nearest: &Plan) -> Result<String> {
    let name =
        format!("{} on its {} noise levels, {} evaluations", nearest.solver, nearest.sigmas().len(), nearest.nfe());
    let Some(model) = &args.model else {
        return Ok(format!("exported instead: {name}; --model measures what that costs"));
    };
    let (device, kind) = args.compute.resolve()?;
    let opened = open_model(model, device, kind)?;
    let precond = &opened.model.config().precond;
    let shape = opened.model.image_shape().map(|size| size as usize);
    plan.check_model(shape, opened.model.config().label_dim as usize, precond.sigma_min(), precond.sigma_max())?;
    let seeds: Vec<u64> = (fitting::HELD_OUT_SEEDS..fitting::HELD_OUT_SEEDS + args.held_out as u64).collect();
    let judge = HeldOut::new(&opened.model, &fitting::teacher(&opened.model, 18)?, &seeds, 64)?;
    let error = |plan: &Plan| judge.rollout_error(&opened.model, plan);
    Ok(format!("exported instead: {name}; rollout error {:.6} instead of {:.6}", error(nearest)?, error(plan)?))
}
