//! `fewstep compare`: models x methods x numbers of evaluations, judged alike.

mod arguments;
mod cells;
mod show;

use anyhow::{Result, ensure};
use fewstep_eval::features::FeatureId;
use fewstep_io::RunFolder;
use serde::{Deserialize, Serialize};

pub use self::arguments::Args;
use self::arguments::Subject;
use self::cells::{Bench, Row};
use crate::provenance::Provenance;
use crate::searching::{Method, SearchSettings};
use crate::ui::{self, Output};

/// `run.json` of a comparison.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    kind: String,
    provenance: Provenance,
    task: Task,
}

/// What is compared. A resumed run may add methods, numbers of steps and models, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    models: Vec<Entry>,
    methods: Vec<Method>,
    steps: Vec<usize>,
    settings: Settings,
}

/// One model and its judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    name: String,
    sha256: String,
    features: FeatureId,
    reference: String,
}

/// What every cell depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    images: u64,
    seed_ranges: u64,
    first_seed: u64,
    held_out: usize,
    teacher_steps: usize,
    table_images: usize,
    precision: String,
    search: SearchSettings,
}

/// Compares, or goes on comparing.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let settings = args.settings()?;
    let subjects = args.subjects(device, kind)?;
    let task = Task {
        models: subjects.iter().map(Subject::entry).collect(),
        methods: args.methods.clone(),
        steps: args.steps.0.iter().map(|&steps| steps as usize).collect(),
        settings,
    };
    let folder = open_folder(&args, &task)?;
    let mut rows: Vec<Row> = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        ui::note(format!("model {}: {}", index + 1, subject.opened.name));
        let mut bench = Bench::new(&args, &task.settings, subject, &folder)?;
        rows.push(bench.teacher()?);
        for method in &task.methods {
            for &steps in &task.steps {
                rows.extend(bench.cell(method, &task.steps, steps)?);
                show::save(&rows, &task, &folder)?;
            }
        }
    }
    show::save(&rows, &task, &folder)?;
    output.result(&rows, || show::terminal(&rows, &task, output.colour(), &folder))
}

fn open_folder(args: &Args, task: &Task) -> Result<RunFolder> {
    let run = Run { kind: "compare".to_owned(), provenance: Provenance::now(), task: task.clone() };
    if !args.resume {
        let folder = RunFolder::create(&args.out)?;
        folder.write_json("run.json", &run)?;
        return Ok(folder);
    }
    let folder = RunFolder::open_existing(&args.out)?;
    let earlier: Run = folder.read_json("run.json")?;
    let same_models = task.models.iter().zip(&earlier.task.models).all(|(now, then)| now == then);
    ensure!(
        earlier.kind == "compare" && earlier.task.settings == task.settings && same_models,
        "the comparison in {} was started with other models or settings; repeat those (methods, steps and further models may \
         be added), or choose a new --out",
        args.out.display()
    );
    folder.write_json("run.json", &run)?;
    Ok(folder)
}
