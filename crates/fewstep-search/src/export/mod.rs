//! Plans in the forms that other tools take: text from a plan, without files, arguments or a terminal.

mod diff_sampler;
mod diffusers;
mod error;
mod levels;
mod noise_table;
mod note;
mod target;
mod tool;
mod whole;

use fewstep_core::plan::Plan;
use fewstep_core::solver::{LastStep, Solver, SolverOptions};

pub use self::error::{Error, Result};
use self::levels::{decimal, joined};
pub use self::noise_table::Betas;
pub use self::note::{Note, Setting};
use self::target::Form;
pub use self::target::Target;
use self::tool::{Tool, Wanted};

/// What an export goes by besides the plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the tool cannot express the plan, give it the plan's noise levels for a solver of its own.
    pub nearest: bool,
    /// Noise table of the model, for diffusers.
    pub betas: Betas,
    /// Time shift of the model, for flow matching in diffusers.
    pub shift: f64,
}

/// A plan in a tool's form.
#[derive(Clone, Debug)]
pub struct Exported {
    /// What messages call the tool.
    pub tool: String,
    /// What the tool takes, and nothing else.
    pub text: String,
    /// What the tool's user has to know besides.
    pub notes: Vec<Note>,
    /// What is exported in place of the plan; `None` where it is the plan itself.
    pub nearest: Option<Nearest>,
    /// Whether the tool does exactly what the plan does, whatever the network's outputs are; false where something is exported in the
    /// plan's place, or the tool clips.
    pub is_exact: bool,
}

/// What is exported in place of a plan that a tool cannot express.
#[derive(Clone, Debug)]
pub struct Nearest {
    /// What the tool does instead.
    pub plan: Plan,
    /// The noise levels that it has instead of the plan's, in words.
    pub moved: Option<String>,
}

/// The plan in the form that `target` takes.
///
/// # Errors
/// If the tool cannot express the plan, and [`Options::nearest`] is not set or the tool has nothing near it; if it cannot run the kind
/// of network that the plan was found for.
pub fn export(plan: &Plan, target: Target, options: &Options) -> Result<Exported> {
    let mut exported = in_form(plan, target, options)?;
    exported.notes.extend(plan.metadata.guidance.as_ref().map(|guidance| {
        format!("the plan was found under guidance {}: run it under the same", guidance.weight).into()
    }));
    Ok(exported)
}

fn in_form(plan: &Plan, target: Target, options: &Options) -> Result<Exported> {
    if !(options.shift > 0.0 && options.shift.is_finite()) {
        return Err(Error::Shift(options.shift));
    }
    let tool = match target.form() {
        Form::Whole(whole) => {
            let (text, note) = whole.write(plan)?;
            return Ok(Exported {
                tool: whole.name().to_owned(),
                text,
                notes: note.into_iter().map(Note::from).collect(),
                nearest: None,
                is_exact: true,
            });
        }
        Form::Levels(tool) => tool,
    };
    if let Some(reason) = tool.refuses_network(plan) {
        return Err(Error::OtherNetwork { tool: tool.to_string(), reason });
    }
    let own = exactly(plan, tool);
    let reason = match &own {
        Some(wanted) => match tool.refuses(wanted, options) {
            None => return exported(tool, wanted, options),
            Some(reason) => reason,
        },
        None => "its coefficients are no public solver's (it was fitted, or edited)".to_owned(),
    };
    let wanted = match tool.nearest(plan, own.as_ref(), options) {
        Err(nothing @ Error::NothingNear { .. }) => return Err(nothing),
        _ if !options.nearest => return Err(Error::CannotExpress { tool: tool.to_string(), reason }),
        wanted => wanted?,
    };
    let mut nearest = Nearest { plan: wanted.plan()?, moved: moved(plan, wanted.solver, &wanted.levels) };
    // what it is for decides how its levels are counted when it is exported itself
    nearest.plan.metadata.parameterisation = plan.metadata.parameterisation.clone();
    let mut exported = exported(tool, &wanted, options)?;
    exported.notes.push(format!("warning: {tool} cannot express this plan: {reason}").into());
    let (evaluations, before) = (nearest.plan.nfe(), plan.nfe());
    exported.notes.extend((evaluations != before).then(|| {
        format!("the tool's solver takes {evaluations} evaluations on these levels, and the plan takes {before}").into()
    }));
    exported.notes.extend(nearest.moved.clone().map(Note::from));
    exported.notes.extend(plan.constant.as_ref().map(|_| Note::ending_with(WITHOUT_CONSTANT, NO_CONSTANT)));
    Ok(Exported { nearest: Some(nearest), is_exact: false, ..exported })
}

const WITHOUT_CONSTANT: &str = "the plan's constant sample is left out: the tool starts from noise at the first of these levels; plans \
                                without one are found with";
const NO_CONSTANT: Setting = Setting { table: "least_squares", name: "constant", value: false };

fn exported(tool: Tool, wanted: &Wanted, options: &Options) -> Result<Exported> {
    Ok(Exported {
        tool: tool.to_string(),
        text: tool.write(wanted, options)?,
        notes: tool.advice(wanted, options).into_iter().map(Note::from).collect(),
        nearest: None,
        is_exact: tool.is_exact(wanted),
    })
}

/// The levels of an export and the largest change among them, where the tool cannot have the plan's.
fn moved(plan: &Plan, solver: Solver, levels: &[f64]) -> Option<String> {
    let before = tool::levels(plan, solver);
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

/// What leaves exactly the stages of this plan: solver, levels and last step.
fn exactly(plan: &Plan, tool: Tool) -> Option<Wanted> {
    let solver: Solver = plan.solver.parse().ok()?;
    let schedule = plan.schedule.as_ref()?;
    [LastStep::ToZero, LastStep::Stop].into_iter().find_map(|last_step| {
        let options = SolverOptions { last_step, analytical_first_step: false };
        let made = solver.plan(schedule, &options).ok()?;
        let same = made.stages == plan.stages && made.output == plan.output;
        same.then(|| Wanted { levels: schedule.levels().to_vec(), solver, last_step, in_time: tool.in_time(plan) })
    })
}

#[cfg(test)]
mod tests;
