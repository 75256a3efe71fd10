//! `fewstep fit`: the two phases of the paper, for every number of steps asked for.

mod arguments;
mod one;

use anyhow::{Result, ensure};
use fewstep_io::RunFolder;
use fewstep_nn::data::Images;
use fewstep_report::{Cell, Column, Format, Table};
use serde::{Deserialize, Serialize};

pub use self::arguments::Args;
use self::one::{First, Outcome};
use crate::fitting::{FitSettings, Fitter, Phase1Search, Phase1Solver};
use crate::inputs::{OpenModel, open_data, open_model};
use crate::provenance::Provenance;
use crate::searching::{Cache, Searcher};
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
    data: Option<String>,
    data_sha256: Option<String>,
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
    let dataset = args.data.as_ref().map(|path| open_data(path, args.pad_to, args.max_images)).transpose()?;
    let data = dataset.as_ref().map(|data| Ok::<_, anyhow::Error>((data.name().to_owned(), data.fingerprint()?)));
    let (data, data_sha256) = data.transpose()?.unzip();
    let task = Task {
        model: opened.name.clone(),
        model_sha256: opened.hash.clone(),
        data,
        data_sha256,
        precision: args.compute.precision.clone(),
        steps: args.steps.clone(),
        phases: args.phases.clone(),
        rounds: args.rounds,
        settings: settings.clone(),
    };
    let images = dataset.map(|data| Ok::<_, anyhow::Error>(Images::for_model(data.load_all()?, &opened.model)?));
    let images = images.transpose()?;
    ensure!(
        images.is_some() || !settings.needs_images(&args.phases),
        "phase 2, but for --weights rollout, and the searches paper and bound need training images: name them with --data, or \
         leave phase 2 out with --phases 1"
    );
    let folder = open_folder(&args, task)?;
    ui::note(format!(
        "teacher: Heun with {} noise levels on {} held-out latents",
        settings.teacher_steps, settings.held_out
    ));
    let fitter = Fitter::new(&opened.model, images.as_ref(), &settings)?;
    let first = first(&args, &fitter, &opened, &folder)?;
    let mut outcomes = Vec::new();
    for &steps in &args.steps {
        outcomes.push(one::fit(&args, &fitter, &opened, &folder, &first, steps)?);
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

/// What serves every number of steps of the first round: the base network's table, its teacher, the plans of a search.
fn first<'a>(args: &Args, fitter: &Fitter<'a>, opened: &'a OpenModel, folder: &RunFolder) -> Result<First<'a>> {
    let mut first = First::default();
    if !args.phases.contains(&1) {
        return Ok(first);
    }
    let phase1 = &fitter.settings.phase1;
    if phase1.needs_images() && (phase1.search != Phase1Search::Paper || phase1.solver == Phase1Solver::Table) {
        first.table = Some(fitter.table(fitter.base)?);
    }
    if let Phase1Search::Method(method) = &phase1.search {
        let path = folder.file("teacher.safetensors");
        let cache = Cache { path: &path, model_sha256: &opened.hash };
        let searcher = Searcher::new(&opened.model, &fitter.settings.search, Some(cache))?;
        let done = |&steps: &usize| args.resume && folder.file(&one::first_file(steps)).exists();
        if !args.steps.iter().all(done) {
            let found = searcher.find(method, &args.steps, first.table.as_ref())?;
            let (evaluations, seconds) = searcher.teacher_cost;
            ui::note(format!(
                "{method}: {} evaluations in {:.1} s for all numbers of steps, after the teacher's {evaluations} in {seconds:.1} s",
                found.evaluations, found.seconds
            ));
            first.found = Some(found);
        }
        first.searcher = Some(searcher);
    }
    Ok(first)
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
