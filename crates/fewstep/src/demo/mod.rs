//! The demo: what a fit buys on the built-in network, in minutes, with nothing to download.
//!
//! [`demo`] scores the paper's two phases, alone and together, and our plan on the network that comes with the library.

mod forecast;
mod page;
mod settings;

use std::path::PathBuf;
use std::time::Instant;

use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::{Event, Observer};
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::fit::TuneStep;
use fewstep_nn::{Model, TorchDenoiser, data};
use fewstep_report::Page;
use fewstep_search::{Found, Method, Search, baseline};
use serde::{Deserialize, Serialize};

pub use self::forecast::forecast;
pub use self::page::{headline, no_help, table};
pub use self::settings::{DemoTask, demo_settings};
use crate::assets;
use crate::error::{Context, Result};
use crate::fitting::{Fitter, Tuned};
use crate::models::{BUILT_IN, ModelOptions, OpenModel, open_model};
use crate::plans::{euler, teacher};
use crate::reference::ImageReference;
use crate::runs::{REPORT, Run, RunOptions, read_file};
use crate::scorer::{ImageScorer, Score};

/// Where the results stand, in the run folder.
pub const RESULTS: &str = "results.json";

/// Names of rows that figures look for.
const BASELINE: &str = "baseline (Euler, rho = 7)";
const LEVELS: &str = "phase 1: levels";
const OURS: &str = "our plan";

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoRow {
    /// Steps of the student; the teacher's noise levels.
    pub steps: usize,
    /// What was done.
    pub method: String,
    /// Network evaluations an image.
    pub nfe: usize,
    /// Frechet distance to the training set's features.
    pub frechet: f64,
    /// Rollout error on held-out latents; none for the teacher.
    pub rollout_error: Option<f64>,
    /// Noise levels of the evaluations.
    pub sigmas: Vec<f64>,
    /// A PNG of the first images, in the run folder.
    pub grid: PathBuf,
}

/// Seconds that a part took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// What.
    pub name: String,
    /// How long.
    pub seconds: f64,
}

/// What a demo leaves: its report is made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DemoResults {
    /// The teacher, then a group of rows for each number of steps.
    pub rows: Vec<DemoRow>,
    /// Where the time went.
    pub parts: Vec<Part>,
    /// Evaluations of the held-out error while networks were tuned: name, history.
    pub tuning: Vec<(String, Vec<TuneStep>)>,
    /// Images a second in phase 2, with its evaluations of the error.
    pub training_rate: f64,
    /// Network evaluations a second in sampling.
    pub sampling_rate: f64,
    /// How long everything took.
    pub seconds: f64,
    /// The network's parameterisation, for the figure of the weights.
    #[serde(rename = "precond")]
    pub parameterisation: Parameterisation,
}

/// The network of the demo, which evaluates as many samples at once as the demo's settings say.
///
/// # Errors
/// If libtorch refuses it.
pub fn open(options: &ModelOptions) -> Result<OpenModel> {
    open_model(BUILT_IN, &ModelOptions { batch: demo_settings(1).batch, guidance: None, ..options.clone() })
}

/// Runs the demo on `model` ([`open`]) in a new folder.
///
/// # Errors
/// If the folder is there already, a setting is outside its domain, or the observer asks for the end: a demo cannot be resumed.
pub fn demo(task: DemoTask, model: &OpenModel, options: &RunOptions, observer: &dyn Observer) -> Result<DemoResults> {
    task.check()?;
    let started = Instant::now();
    let network = model.tunable()?;
    let options = RunOptions { resume: false, ..options.clone() };
    let run = Run::start(task, &options).context("a demo needs a new folder")?;
    let images = data::Images::for_model(assets::test_images()?.load_all()?, network)?;
    let results = DemoResults {
        rows: Vec::new(),
        parts: Vec::new(),
        tuning: Vec::new(),
        training_rate: f64::NAN,
        sampling_rate: f64::NAN,
        seconds: 0.0,
        parameterisation: network.config().parameterisation.clone(),
    };
    let references = [ImageReference::built_in(model)?];
    let mut demo = Demo { task: &run.file.task, folder: &run.folder, network, references: &references, results };
    demo.rows(&images, observer)?;
    demo.results.seconds = started.elapsed().as_secs_f64();
    let results = demo.results;
    run.folder.write_json(RESULTS, &results)?;
    atomic::write_bytes(run.folder.file(REPORT), report(&run.folder)?.to_html().as_bytes())?;
    Ok(results)
}

/// The page of a demo's folder.
///
/// # Errors
/// If the folder lacks something.
pub fn report(folder: &RunFolder) -> Result<Page> {
    page::page(&folder.read_json(RESULTS)?, &read_file(folder)?, folder)
}

/// A demo on its way.
struct Demo<'a> {
    task: &'a DemoTask,
    folder: &'a RunFolder,
    network: &'a Model,
    references: &'a [ImageReference],
    results: DemoResults,
}

/// What all rows share.
struct Shared<'a> {
    fitter: Fitter<'a>,
    scorer: ImageScorer<'a>,
    seeds: Vec<u64>,
}

impl Demo<'_> {
    fn rows(&mut self, images: &data::Images, observer: &dyn Observer) -> Result<()> {
        let task = self.task;
        let settings = &task.settings;
        let (network, base): (&Model, &dyn TorchDenoiser) = (self.network, self.network);
        let evaluations = 2 * settings.held_out.teacher_steps - 1;
        observer.event(Event::Note(&format!(
            "teacher: Heun, {} noise levels, {evaluations} evaluations an image",
            settings.held_out.teacher_steps
        )));
        let fitter = self.timed("teacher on held-out latents", || {
            Fitter::new(base, Some(network), Some(images), settings, observer)
        })?;
        let scorer = ImageScorer::new(self.references, settings.batch)?;
        let shared = Shared { fitter, scorer, seeds: (0..self.task.images as u64).collect() };
        self.teacher(&shared)?;
        let table = self.timed("phase 1: table of e(sigma)", || shared.fitter.table(network))?;
        let found = self.timed("our search: all numbers of steps", || -> Result<Found> {
            Ok(Search::new(&base, &settings.search, observer)?.find(&Method::BEST, &task.steps)?)
        })?;
        for &steps in &task.steps {
            let name = format!("phase 1, {steps} steps");
            let levels = self.timed(name, || shared.fitter.find_by_table(base, &table, steps))?;
            self.paper(&shared, steps, &Schedule::new(levels.plan.sigmas())?)?;
            if let Some(plan) = found.plans.get(&steps) {
                self.row(&shared, steps, OURS, base, plan)?;
            }
        }
        Ok(())
    }

    /// The first row.
    fn teacher(&mut self, shared: &Shared) -> Result<()> {
        let steps = self.task.settings.held_out.teacher_steps;
        let network = self.network;
        let plan = teacher(network, steps)?;
        let score = self.timed("teacher's images", || shared.score(network, &plan))?;
        self.results.sampling_rate = plan.nfe() as f64 / score.seconds;
        self.push(steps, "teacher (Heun, rho = 7)", &plan, None, score)
    }

    /// Both phases of the paper, alone and together.
    fn paper(&mut self, shared: &Shared, steps: usize, learned: &Schedule) -> Result<()> {
        let network = self.network;
        let rho_7 = baseline(&network.spec().levels, steps)?;
        self.row(shared, steps, BASELINE, network, &euler(&rho_7)?)?;
        self.row(shared, steps, LEVELS, network, &euler(learned)?)?;
        let tune = &self.task.settings.tune;
        for (method, schedule) in [("phase 2: network", &rho_7), ("both phases", learned)] {
            let (plan, name) = (euler(schedule)?, format!("{method}, {steps} steps"));
            let Tuned { model, evaluations, .. } =
                self.timed(&name, || shared.fitter.tune(network, &plan, None, false))?;
            let seconds = self.results.parts.last().map_or(f64::NAN, |part| part.seconds);
            self.results.training_rate = (tune.updates * tune.batch as u64) as f64 / seconds;
            self.results.tuning.push((name, evaluations));
            self.row(shared, steps, method, &model, &plan)?;
        }
        Ok(())
    }

    fn row(
        &mut self,
        shared: &Shared,
        steps: usize,
        method: &str,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
    ) -> Result<()> {
        let error = shared.fitter.rollout_error(denoiser, plan)?;
        let score = self.timed(format!("images: {method}, {steps} steps"), || shared.score(denoiser, plan))?;
        self.push(steps, method, plan, Some(error), score)
    }

    /// Writes a row's images and keeps the row.
    fn push(
        &mut self,
        steps: usize,
        method: &str,
        plan: &Plan,
        rollout_error: Option<f64>,
        score: Score,
    ) -> Result<()> {
        self.folder.subfolder("images")?;
        let grid = PathBuf::from(format!("images/{:02}.png", self.results.rows.len()));
        let frechet = score.frechet();
        atomic::write_bytes(self.folder.path().join(&grid), &score.grid)?;
        let (method, nfe, sigmas) = (method.to_owned(), plan.nfe(), plan.sigmas());
        self.results.rows.push(DemoRow { steps, method, nfe, frechet, rollout_error, sigmas, grid });
        Ok(())
    }

    fn timed<T>(&mut self, name: impl Into<String>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let value = work()?;
        self.results.parts.push(Part { name: name.into(), seconds: started.elapsed().as_secs_f64() });
        Ok(value)
    }
}

impl Shared<'_> {
    fn score(&self, denoiser: &dyn TorchDenoiser, plan: &Plan) -> Result<Score> {
        self.scorer.score(denoiser, plan, &self.seeds, self.fitter.observer)
    }
}
