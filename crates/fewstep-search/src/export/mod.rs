//! Plans in the forms that other tools take: text from a plan, without files, arguments or a terminal.

mod diffusers;
mod error;
mod levels;
mod noise_table;
mod target;
mod tool;
mod whole;

use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{LastStep, Solver, SolverOptions};

pub use self::error::{Error, Result};
use self::levels::{decimal, joined};
pub use self::noise_table::Betas;
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
    pub notes: Vec<String>,
    /// What is exported in place of the plan; `None` where the tool does exactly what the plan does.
    pub nearest: Option<Nearest>,
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
/// If the tool cannot express the plan, and [`Options::nearest`] is not set or the tool has nothing near it.
pub fn export(plan: &Plan, target: Target, options: &Options) -> Result<Exported> {
    let mut exported = in_form(plan, target, options)?;
    exported.notes.extend(
        plan.metadata
            .guidance
            .as_ref()
            .map(|guidance| format!("the plan was found under guidance {}: run it under the same", guidance.weight)),
    );
    Ok(exported)
}

fn in_form(plan: &Plan, target: Target, options: &Options) -> Result<Exported> {
    if !(options.shift > 0.0 && options.shift.is_finite()) {
        return Err(Error::Shift(options.shift));
    }
    let tool = match target.form() {
        Form::Whole(whole) => {
            let (tool, text) = (whole.name().to_owned(), whole.write(plan)?);
            return Ok(Exported { tool, text, notes: Vec::new(), nearest: None });
        }
        Form::Levels(tool) => tool,
    };
    let reason = match exactly(plan) {
        Some(wanted) => match tool.refuses(&wanted, options) {
            None => return Ok(exported(tool, &wanted, options)),
            Some(reason) => reason,
        },
        None => "its coefficients are no public solver's (it was fitted, or edited)".to_owned(),
    };
    if !options.nearest {
        return Err(Error::CannotExpress { tool: tool.to_string(), reason });
    }
    let wanted = tool.nearest(plan, options)?;
    let schedule = Schedule::new(wanted.levels.clone())?;
    let solver = SolverOptions { last_step: wanted.last_step, analytical_first_step: false };
    let nearest = Nearest { plan: wanted.solver.plan(&schedule, &solver)?, moved: moved(plan, &wanted.levels) };
    let mut exported = exported(tool, &wanted, options);
    exported.notes.push(format!("warning: {tool} cannot express this plan: {reason}"));
    exported.notes.extend(nearest.moved.clone());
    let lost = "the plan's constant sample is left out: the tool starts from noise at the first of these levels; plans without one are \
                found with the setting search.least_squares.constant = false";
    exported.notes.extend(plan.constant.as_ref().map(|_| lost.to_owned()));
    Ok(Exported { nearest: Some(nearest), ..exported })
}

fn exported(tool: Tool, wanted: &Wanted, options: &Options) -> Exported {
    let notes = tool.advice(wanted, options).into_iter().collect();
    Exported { tool: tool.to_string(), text: tool.write(wanted, options), notes, nearest: None }
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

#[cfg(test)]
mod tests {
    use fewstep_core::denoiser::Guidance;
    use fewstep_core::plan::{Constant, Source};
    use fewstep_core::schedule::karras;

    use super::*;

    fn options() -> Options {
        Options { nearest: false, betas: "scaled-linear:0.00085:0.012".parse().unwrap(), shift: 1.0 }
    }

    fn plan(solver: Solver) -> Plan {
        solver.plan(&karras(5, 0.04, 14.0, 7.0).unwrap(), &SolverOptions::default()).unwrap()
    }

    /// A pipeline is handed the very variable that the lines leave: a list or a tensor, as the scheduler takes it.
    #[test]
    fn pipelines_are_handed_what_the_lines_define() {
        for (target, solver, name, kind) in [
            (Target::DiffusersEuler, Solver::Euler, "sigmas", "["),
            (Target::DiffusersEdmEuler, Solver::Euler, "sigmas", "torch.tensor(["),
            (Target::DiffusersFlowEuler, Solver::Euler, "sigmas", "["),
            (Target::DiffusersHeun, Solver::Heun, "timesteps", "["),
        ] {
            let exported = export(&plan(solver), target, &options()).unwrap();
            assert!(exported.text.contains(&format!("\n{name} = {kind}")), "{}", exported.text);
            assert!(exported.text.contains(&format!("set_timesteps({name}={name}, device=device)")));
            assert!(exported.notes[0].contains(&format!("pipe(..., {name}={name})")), "{:?}", exported.notes);
        }
    }

    /// What a tool is not told by levels and solver: the guidance, and a constant that it cannot begin with.
    #[test]
    fn what_an_export_cannot_hold_is_said() {
        let mut guided = plan(Solver::Euler);
        assert!(!export(&guided, Target::Json, &options()).unwrap().notes.iter().any(|note| note.contains("guidance")));
        guided.metadata.guidance = Some(Guidance { weight: 1.4, reference: "without its condition".to_owned() });
        for target in [Target::Json, Target::Comfyui] {
            let notes = export(&guided, target, &options()).unwrap().notes;
            assert!(notes.last().unwrap().ends_with("guidance 1.4: run it under the same"), "{notes:?}");
        }
        let mut holding = plan(Solver::Euler);
        holding.constant = Some(Constant { sigma: 80.0, shape: vec![1], samples: vec![vec![0.5]] });
        holding.output = [(Source::Constant, 0.1)].into_iter().chain(holding.output.terms()).collect();
        let nearest = Options { nearest: true, ..options() };
        let notes = export(&holding, Target::Comfyui, &nearest).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains("search.least_squares.constant = false")), "{notes:?}");
    }

    #[test]
    fn a_shift_that_is_none_is_refused() {
        for shift in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = export(&plan(Solver::Euler), Target::Csv, &Options { shift, ..options() });
            assert!(matches!(error, Err(Error::Shift(_))), "{shift}");
        }
    }
}
