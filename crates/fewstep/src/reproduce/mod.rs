//! The paper's experiments on any model and data: its tables and figures, with our plans beside them.
//!
//! [`reproduce`] makes every row once and keeps it in the run folder, from which a resumed run goes on. The paper's rows need a network
//! whose weights can be had; the baseline and our plan are for any denoiser.

mod experiment;
mod figures;
mod forecast;
mod page;
mod runner;
mod settings;
mod tables;
mod task;

use std::cell::OnceCell;
use std::path::PathBuf;

use fewstep_core::observe::{Event, Observer};
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::data::Images;
use fewstep_nn::{Tunable, spread};
use fewstep_report::{Page, Table};
use fewstep_search::DataMoments;
use serde_json::json;

pub use self::experiment::{Experiment, RowKind};
use self::figures::{FIGURES, Figures, Levels, plots};
pub use self::forecast::forecast;
use self::runner::Runner;
pub use self::settings::{Preset, ReproduceSettings};
pub use self::task::ReproduceTask;
use crate::cells::{Row, with_earlier};
use crate::error::{Error, Result};
use crate::fitting::Fitter;
use crate::models::OpenModel;
use crate::plan_scorer::FrechetPlanScorer;
use crate::reference::ImageReference;
use crate::runs::{REPORT, Run, RunFile, RunOptions, read, read_file};

/// Where the rows stand, in the run folder.
pub const ROWS: &str = "reproduce.json";

/// Pixels of a figure's PNG for each of the SVG's.
const PNG_SCALE: f32 = 2.0;

/// What an experiment works with, beside its task.
pub struct ReproduceInputs<'a> {
    /// The model.
    pub model: &'a OpenModel,
    /// Training images, where the task needs some.
    pub images: Option<&'a Images>,
    /// What scores images; without any, samplers are scored by their rollout errors alone.
    pub references: &'a [ImageReference],
}

/// A finished experiment.
#[derive(Clone, Debug)]
pub struct Reproduction {
    /// Its folder.
    pub folder: PathBuf,
    /// What was reproduced.
    pub task: ReproduceTask,
    /// The teacher, then every row at every number of steps; none where the experiment scores no samplers.
    pub rows: Vec<Row>,
}

impl Reproduction {
    /// The table, rows down and numbers of steps across, as the paper's Table 1; none where nothing was scored.
    pub fn table(&self) -> Option<Table> {
        (!self.rows.is_empty()).then(|| tables::table(&self.rows, &self.task))
    }

    /// What came out, in a sentence.
    pub fn headline(&self) -> String {
        tables::headline(&self.rows, &self.task)
    }
}

/// Makes the rows and figures of an experiment, or goes on with what an earlier run left undone.
///
/// # Errors
/// If the task cannot be done, the denoiser fails, or the observer asks for the end ([`Error::Stopped`]).
pub fn reproduce(
    task: ReproduceTask,
    inputs: &ReproduceInputs,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<Reproduction> {
    let model = inputs.model;
    task.check(model, inputs.images.map(Images::len))?;
    let run = Run::start(task, options)?;
    let rows = work(&run, inputs, observer).map_err(|error| match error {
        Error::Search(fewstep_search::Error::Cancelled) => Error::Stopped { place: "in a search".to_owned() },
        error => error,
    })?;
    Ok(Reproduction { folder: run.folder.path().to_owned(), task: run.file.task, rows })
}

fn work(run: &Run<ReproduceTask>, inputs: &ReproduceInputs, observer: &dyn Observer) -> Result<Vec<Row>> {
    let (task, folder) = (&run.file.task, &run.folder);
    let (settings, held_out) = (&task.settings.fit, &task.settings.fit.held_out);
    observer.event(Event::Note(&format!(
        "teacher: {} evaluations on {} held-out latents",
        2 * held_out.teacher_steps - 1,
        held_out.samples
    )));
    let model = inputs.model;
    let fitter = Fitter::new(model.denoiser(), model.network(), inputs.images, settings, observer)?;
    let moments = OnceCell::<DataMoments>::new();
    let references = if task.settings.method.nearest { inputs.references } else { &[] };
    let plan_scorer = FrechetPlanScorer::new(references, settings.batch, model.denoiser(), observer)?;
    let spread = spread(model.denoiser());
    let mut runner =
        Runner::new(task, inputs, (&fitter, &spread), (&moments, plan_scorer.as_ref()), (folder, run.resumed))?;
    let before = if run.resumed { earlier(run, inputs)? } else { Vec::new() };
    let rows = runner.run(|rows| Ok(folder.write_json(ROWS, &with_earlier(rows, &before))?))?;
    folder.write_json(ROWS, &rows)?;
    let figures = drawn(&runner, task, model)?;
    folder.write_json(FIGURES, &figures)?;
    save(&rows, &figures, &run.file, folder, observer)?;
    Ok(rows)
}

/// What an earlier run scored of the rows that are asked for, under the names that the model and the feature networks have now.
fn earlier(run: &Run<ReproduceTask>, inputs: &ReproduceInputs) -> Result<Vec<Row>> {
    let (task, rows) = (&run.file.task, read::<Vec<Row>>(&run.folder.file(ROWS))?.unwrap_or_default());
    let kinds = task.rows();
    let asked = |row: &Row| {
        let is_cell = task.steps.contains(&row.nfe) && kinds.iter().any(|kind| kind.name() == row.method);
        is_cell || row.method == "teacher"
    };
    let named = |row: Row| row.named(&inputs.model.name, inputs.references.iter().map(ImageReference::label));
    Ok(rows.into_iter().filter(asked).map(named).collect())
}

/// What the figures are drawn from.
fn drawn(runner: &Runner, task: &ReproduceTask, model: &OpenModel) -> Result<Figures> {
    let parameterisation = model.network().map(|network| network.parameterisation().clone());
    let mut figures = Figures { parameterisation, ..Figures::default() };
    for &steps in &task.steps {
        figures.interpolations.extend(runner.interpolations(steps)?);
        figures.learning.extend(runner.learning(steps)?);
        if task.experiment == Experiment::Objectives {
            figures.descents.extend(runner.objectives(steps)?);
        } else if task.learns_levels() {
            let (rho_7, learned) =
                (runner.rho_7(steps)?.levels().to_vec(), runner.learned_levels(steps)?.levels().to_vec());
            figures.levels.push(Levels { steps, rho_7, learned });
        }
    }
    Ok(figures)
}

/// Writes tables, figures and the report.
fn save(
    rows: &[Row],
    figures: &Figures,
    run: &RunFile<ReproduceTask>,
    folder: &RunFolder,
    observer: &dyn Observer,
) -> Result<()> {
    let name = run.task.experiment.name();
    if !rows.is_empty() {
        let markdown = tables::markdown(rows, &run.task)?;
        atomic::write_bytes(folder.file(&format!("{name}.md")), markdown.as_bytes())?;
        let csv = tables::flat(rows, &run.task).to_csv();
        atomic::write_bytes(folder.file(&format!("{name}.csv")), csv.as_bytes())?;
        folder.write_json(&format!("{name}.json"), &json!({ "run": run, "rows": rows }))?;
    }
    for (file, plot) in &plots(rows, &run.task, figures)? {
        atomic::write_bytes(folder.file(&format!("{file}.svg")), plot.to_svg().as_bytes())?;
        match plot.to_png(PNG_SCALE) {
            Ok(png) => atomic::write_bytes(folder.file(&format!("{file}.png")), &png)?,
            Err(error) => observer.event(Event::Note(&format!("{file}.png was not written: {error}"))),
        }
    }
    atomic::write_bytes(folder.file(REPORT), report(folder)?.to_html().as_bytes())?;
    Ok(())
}

/// The page of an experiment's folder.
///
/// # Errors
/// If the folder lacks something.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let run = read_file::<ReproduceTask>(folder)?;
    let rows: Vec<Row> = folder.read_json(ROWS)?;
    page::page(&rows, &run, folder)
}
