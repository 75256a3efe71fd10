//! Comparison: models x methods x numbers of evaluations, from one teacher a model and scored alike.
//!
//! [`compare`] searches the plans of every method, scores each once and keeps it in the run folder, from which a resumed run goes on. A
//! model whose samples are no images, and that has no decoder, is compared by rollout errors alone.

mod command;
mod evaluator;
mod forecast;
mod page;
mod plan_file;
mod possible;
mod subject;
mod tables;
mod task;

use fewstep_core::observe::{Event, Observer};
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::spread;
use fewstep_report::Page;

use self::evaluator::{Evaluator, Materials};
pub use self::forecast::forecast;
pub use self::plan_file::{PlanFile, PlanFileId};
pub use self::possible::{default_methods, refuse_empty, runs_on};
pub use self::subject::{Subject, SubjectId};
pub use self::task::{CompareSettings, CompareTask, check, refuse_idle};
use crate::cells::{Row, with_earlier};
use crate::error::{Error, Result};
use crate::reference::ImageReference;
use crate::runs::{REPORT, Run, RunFile, RunOptions, read};

/// Where the rows stand, in the run folder.
pub const ROWS: &str = "compare.json";

/// Methods that are compared where none are named: ours, and every rival with the solvers it is used with.
pub const METHODS: &str = "least-squares+gauss-newton+moments,least-squares+gauss-newton,least-squares,\
                           karras/euler,karras/ipndm4,karras/dpmpp3m,karras/unipc3_bh2,\
                           gits/euler,gits/ipndm4,gits/dpmpp3m,gits/unipc3_bh2,\
                           oss/euler,oss/ipndm4,oss/dpmpp3m,oss/unipc3_bh2";

/// What a comparison found: its rows, and what was asked for.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What was compared.
    pub task: CompareTask,
    /// A row a cell: the teacher of every model, and every method and plan file at its numbers of evaluations.
    pub rows: Vec<Row>,
}

/// Compares `subjects` and the plans in files, or goes on comparing; `task` is of both ([`CompareTask::new`]).
///
/// # Errors
/// If the folder cannot be used, a method cannot be run, a model fails, or the observer asks for the end. (A sampler that diverges is told
/// of, and has no scores.)
pub fn compare(
    task: CompareTask,
    subjects: &[Subject],
    plans: &[PlanFile],
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<Comparison> {
    let (methods, steps) = (task.methods.clone(), task.steps.clone());
    let run = Run::start(task, options)?;
    let asked = CompareTask { methods, steps, ..run.file.task.clone() };
    let before = if run.resumed { earlier(&run, subjects)? } else { Vec::new() };
    let mut rows = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        observer.event(Event::Note(&format!("model {}: {}", index + 1, subject.model.name)));
        fill((&run, &before), &asked, subject, plans, &mut rows, observer).map_err(|error| match error {
            Error::Search(fewstep_search::Error::Cancelled) => {
                Error::Stopped { place: format!("with {} cells scored", rows.len()) }
            }
            error => error,
        })?;
    }
    save(&rows, &[], &run)?;
    Ok(Comparison { task: run.file.task, rows })
}

/// Adds the rows of one model: what is asked for, and what an earlier run left beside it.
fn fill(
    (run, before): (&Run<CompareTask>, &[Row]),
    asked: &CompareTask,
    subject: &Subject,
    plans: &[PlanFile],
    rows: &mut Vec<Row>,
    observer: &dyn Observer,
) -> Result<()> {
    let all = &run.file.task;
    let (denoiser, materials) = (spread(subject.model.denoiser()), Materials::new(asked, subject, observer)?);
    let mut evaluator = Evaluator::new(asked, subject, (&denoiser, &materials), &run.folder, observer)?;
    for reference in &subject.references {
        let (images, dim) = (asked.settings.images, reference.data()?.map_or(0, |data| data.statistics.dim() as u64));
        if images < 2 * dim {
            observer.event(Event::Note(&format!(
                "warning: {images} images a cell are few for the {dim} features of {}: Frechet distances come out far too large",
                reference.label()
            )));
        }
    }
    rows.push(evaluator.teacher()?);
    for method in &all.methods {
        for &nfe in &all.steps {
            let is_asked = asked.methods.contains(method) && asked.steps.contains(&nfe);
            rows.extend(if is_asked { evaluator.cell(method, nfe)? } else { evaluator.earlier(method, nfe)? });
            save(rows, before, run)?;
        }
    }
    for id in &all.plans {
        match plans.iter().find(|file| file.name == id.name) {
            Some(file) => {
                for plan in file.plans.values() {
                    rows.push(evaluator.plan(&file.name, plan)?);
                    save(rows, before, run)?;
                }
            }
            None => {
                for &nfe in &id.steps {
                    rows.extend(evaluator.earlier_of(&id.name, nfe)?);
                }
            }
        }
    }
    Ok(())
}

/// What an earlier run scored of these models, under the names that their feature networks have now.
fn earlier(run: &Run<CompareTask>, subjects: &[Subject]) -> Result<Vec<Row>> {
    let rows = read::<Vec<Row>>(&run.folder.file(ROWS))?.unwrap_or_default();
    let named = |row: Row| {
        let subject = subjects.iter().find(|subject| subject.model.name == row.model)?;
        Some(row.named(&subject.model.name, subject.references.iter().map(ImageReference::label)))
    };
    Ok(rows.into_iter().filter_map(named).collect())
}

/// Writes `compare.json`, `compare.csv` and `report.html` of the cells scored so far, and of those that an earlier run scored `before` and
/// that this run has not come to.
fn save(rows: &[Row], before: &[Row], run: &Run<CompareTask>) -> Result<()> {
    let (folder, file) = (&run.folder, &run.file);
    let rows = with_earlier(rows, before);
    folder.write_json(ROWS, &rows)?;
    atomic::write_bytes(folder.file("compare.csv"), tables::csv(&rows).as_bytes())?;
    atomic::write_bytes(folder.file(REPORT), page::page(&rows, file, folder)?.to_html().as_bytes())?;
    Ok(())
}

/// The report of a comparison's folder.
///
/// # Errors
/// If the folder is no comparison's, or nothing is scored yet.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let rows: Vec<Row> = folder.read_json(ROWS)?;
    let file: RunFile<CompareTask> = folder.read_json(RUN_FILE)?;
    page::page(&rows, &file, folder)
}
