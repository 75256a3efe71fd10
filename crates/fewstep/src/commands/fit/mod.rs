//! `fewstep fit`: the two phases of the paper, for every number of steps asked for.

mod arguments;
mod one;

use anyhow::{Result, ensure};
use fewstep_core::objective::BoundTable;
use fewstep_io::RunFolder;
use fewstep_nn::data;
use fewstep_report::{Cell, Column, Format, Table};
use serde::{Deserialize, Serialize};

pub use self::arguments::Args;
use self::one::Outcome;
use crate::fitting::{FitSettings, Fitter, Phase1Solver};
use crate::inputs::{OpenModel, open_model};
use crate::provenance::Provenance;
use crate::ui::{self, Output};

/// `run.json` of a fit.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    kind: String,
    provenance: Provenance,
    task: Task,
}

/// What is fitted: a resumed run must ask for the same.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    model: String,
    model_sha256: String,
    data: String,
    data_sha256: String,
    precision: String,
    steps: Vec<usize>,
    phases: Vec<u8>,
    rounds: usize,
    settings: FitSettings,
}

/// Fits and prints what it bought.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let settings = args.settings()?;
    let opened = open_model(&args.model, device, kind)?;
    let dataset = args.data.open()?;
    let task = Task {
        model: opened.name.clone(),
        model_sha256: opened.hash.clone(),
        data: dataset.name().to_owned(),
        data_sha256: dataset.fingerprint()?,
        precision: args.compute.precision.clone(),
        steps: args.steps.clone(),
        phases: args.phases.clone(),
        rounds: args.rounds,
        settings: settings.clone(),
    };
    let images = data::Images::for_model(dataset.load_all()?, &opened.model)?;
    let folder = open_folder(&args, task)?;
    ui::note(format!(
        "teacher: Heun with {} noise levels on {} held-out latents",
        settings.teacher_steps, settings.held_out
    ));
    let fitter = Fitter::new(&opened.model, &images, &settings)?;
    let table = shared_table(&args, &fitter)?;
    let mut outcomes = Vec::new();
    for &steps in &args.steps {
        outcomes.push(one::fit(&args, &fitter, &opened, &folder, table.as_ref(), steps)?);
        folder.write_json("fit.json", &outcomes)?;
    }
    print(&outcomes, &opened, &folder, output)
}

fn open_folder(args: &Args, task: Task) -> Result<RunFolder> {
    if !args.resume {
        let folder = RunFolder::create(&args.out)?;
        folder.write_json("run.json", &Run { kind: "fit".to_owned(), provenance: Provenance::now(), task })?;
        return Ok(folder);
    }
    let folder = RunFolder::open_existing(&args.out)?;
    let run: Run = folder.read_json("run.json")?;
    ensure!(
        run.task == task,
        "the run in {} was started with another model, data set or other options; repeat those, or choose a new --out",
        args.out.display()
    );
    Ok(folder)
}

/// The base network's table, which serves every number of steps of the first round.
fn shared_table(args: &Args, fitter: &Fitter) -> Result<Option<BoundTable>> {
    if fitter.settings.phase1.solver != Phase1Solver::Table || !args.phases.contains(&1) {
        return Ok(None);
    }
    Ok(Some(fitter.table(fitter.base)?))
}

fn print(outcomes: &[Outcome], opened: &OpenModel, folder: &RunFolder, output: Output) -> Result<()> {
    let mut table = Table::new(vec![
        Column::number("steps", Format::Integer),
        Column::text("after"),
        Column::number("rollout error", Format::Significant(4)).lowest(),
    ]);
    for outcome in outcomes {
        table.start_group();
        let steps = || Cell::from(outcome.steps as f64);
        table.push(vec![steps(), "rho = 7 (baseline)".into(), outcome.baseline.into()]);
        for stage in &outcome.stages {
            let kept = if stage.kept { "" } else { " (worse: not kept)" };
            let what = format!("round {}, phase {}{kept}", stage.round, stage.phase);
            table.push(vec![steps(), what.into(), stage.rollout_error.into()]);
        }
    }
    output.result(&outcomes, || {
        let place = folder.path().display();
        format!("{}\nmodel {}; plans and networks are in {place}", table.to_terminal(output.colour()), opened.name)
    })
}
