//! `fewstep compare`: models x methods x numbers of evaluations, judged alike.

mod arguments;
mod cells;
mod given;
mod show;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use fewstep_eval::features::FeatureId;
use fewstep_io::RunFolder;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_report::Page;
use serde::{Deserialize, Serialize};

pub use self::arguments::Args;
use self::arguments::Subject;
use self::cells::Bench;
use self::given::{Given, GivenEntry};
pub use self::show::ROWS;
use crate::fitting;
use crate::forecast::Forecast;
use crate::gallery::Row;
use crate::provenance::Provenance;
use crate::searching::{Method, Search, SearchSettings};
use crate::ui::{self, Output};
use crate::{interrupt, runs};

/// `run.json` of a comparison.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    kind: String,
    provenance: Provenance,
    task: Task,
}

/// What is compared. A resumed run may add methods, plans, numbers of steps and models, and change what only the searches of some
/// methods look at: their plans are then found anew, and cells whose plans have changed are measured anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    models: Vec<Entry>,
    methods: Vec<Method>,
    /// Plans from files beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    plans: Vec<GivenEntry>,
    steps: Vec<usize>,
    settings: Settings,
}

impl Task {
    /// The names of the table's rows.
    fn rows(&self) -> Vec<String> {
        self.methods.iter().map(Method::to_string).chain(self.plans.iter().map(|plans| plans.name.clone())).collect()
    }

    /// Every number of evaluations in it.
    fn columns(&self) -> BTreeSet<usize> {
        self.steps.iter().chain(self.plans.iter().flat_map(|plans| &plans.steps)).copied().collect()
    }
}

/// One model and its judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    name: String,
    sha256: String,
    features: FeatureId,
    reference: String,
    /// Training images that methods looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<DataId>,
}

impl Entry {
    /// Whether cells of both can stand in one table: methods that look at images may join those that do not.
    fn continues(&self, earlier: &Self) -> bool {
        let data = earlier.data.is_none() || self.data.is_none() || self.data == earlier.data;
        data && *self == Self { data: self.data.clone(), ..earlier.clone() }
    }
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataId {
    name: String,
    sha256: String,
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

impl Settings {
    /// Whether cells of both can stand in one table: measured alike, with searches from the same teacher.
    fn continues(&self, earlier: &Self) -> bool {
        let SearchSettings { teacher, batch, .. } = earlier.search.clone();
        let search = SearchSettings { teacher, batch, ..self.search.clone() };
        *self == Self { search, ..earlier.clone() }
    }
}

/// Compares, or goes on comparing.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let settings = args.settings()?;
    let subjects = args.subjects(device, kind)?;
    let given = args.given(&subjects)?;
    let task = Task {
        models: subjects.iter().map(Subject::entry).collect(),
        methods: args.methods.clone(),
        plans: given.iter().map(Given::entry).collect(),
        steps: args.steps.counts(),
        settings,
    };
    if args.run.repeat.dry_run {
        return forecast(&task)?.print(output);
    }
    interrupt::resumable()?;
    let (folder, run) = open_folder(&args, task)?;
    let task = &run.task;
    let mut rows: Vec<Row> = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        ui::note(format!("model {}: {}", index + 1, subject.opened.name));
        let mut bench = Bench::new(&task.settings, subject, &folder)?;
        rows.push(bench.teacher()?);
        for method in &task.methods {
            for &steps in &task.steps {
                rows.extend(bench.cell(method, &task.steps, steps)?);
                show::save(&rows, &run, &folder)?;
            }
        }
        for Given { name, plans } in &given {
            for plan in plans.values() {
                rows.push(bench.given(name, plan)?);
                show::save(&rows, &run, &folder)?;
            }
        }
    }
    show::save(&rows, &run, &folder)?;
    output.result(&rows, || show::terminal(&rows, task, output.colour(), &folder))
}

/// The report of a comparison's folder.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let rows: Vec<Row> = folder.read_json(ROWS)?;
    show::page(&rows, &folder.read_json(RUN_FILE)?, folder)
}

fn open_folder(args: &Args, task: Task) -> Result<(RunFolder, Run)> {
    let out = &args.run.out;
    let mut run = Run { kind: "compare".to_owned(), provenance: Provenance::now(), task };
    if !args.run.resume {
        return Ok((runs::create(out, &run)?, run));
    }
    let (folder, earlier) = runs::reopen::<Run>(out, "compare")?;
    let same_models = run.task.models.len() >= earlier.task.models.len()
        && run.task.models.iter().zip(&earlier.task.models).all(|(now, then)| now.continues(then));
    ensure!(
        run.task.settings.continues(&earlier.task.settings) && same_models,
        "the comparison in {} was started with other models, another teacher or other settings of its judge; repeat those \
         (methods, plans, steps and further models may be added, and other options of the searches changed), or choose a new --out",
        out.display()
    );
    // cells that an earlier run made from images are still there
    for (now, then) in run.task.models.iter_mut().zip(earlier.task.models) {
        now.data = now.data.take().or(then.data);
    }
    folder.write_json(RUN_FILE, &run)?;
    Ok((folder, run))
}

/// What the comparison costs, for all models.
fn forecast(task: &Task) -> Result<Forecast> {
    let Settings { images, seed_ranges, held_out, teacher_steps, table_images, search, .. } = &task.settings;
    let (models, held) = (task.models.len() as u64, *held_out as u64);
    let judged = images * seed_ranges + held;
    let teacher = 2 * *teacher_steps as u64 - 1;
    // the held-out latents' teacher is the searches', not the table's
    let fine = search.teacher_evaluations() / search.teacher.samples.max(1) as u64;
    let bound = task.methods.iter().any(|method| method.search == Search::Bound);
    let steps: u64 = task.steps.iter().map(|&steps| steps as u64).sum();
    let searched = task.methods.iter().filter(|method| method.needs_teacher()).count();
    let mut cost = Forecast::new(task)?
        .part("the table's teacher", models * judged * teacher)
        .part("teacher on held-out latents", models * held * fine)
        .part("the searches' teacher", models * search.teacher_evaluations())
        .part("table of e(sigma)", if bound { models * (table_images * fitting::TABLE_GRID) as u64 } else { 0 });
    for method in &task.methods {
        cost = cost.part(format!("search {method}"), models * search.evaluations(method, &task.steps));
    }
    let given: u64 = task.plans.iter().flat_map(|plans| &plans.steps).map(|&steps| steps as u64).sum();
    if given > 0 {
        cost = cost.part("images of given plans", models * given * judged);
    }
    Ok(cost
        .part("a look at the searches' latents", models * (searched * search.teacher.samples) as u64 * steps)
        .part(format!("images of {} methods", task.methods.len()), models * task.methods.len() as u64 * judged * steps))
}
