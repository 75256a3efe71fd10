//! The demo: what fewstep buys on a model, in minutes, with nothing to download.
//!
//! [`demo`] samples any denoiser by rho = 7 and by our plan. On the network that comes with the library, whose data come with it, the
//! paper's two phases, alone and together, stand beside them, and images are measured.

mod forecast;
mod page;
mod settings;

use std::path::PathBuf;
use std::time::Instant;

use fewstep_core::observe::{Event, Observer};
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::data::Images;
use fewstep_nn::fit::TuneStep;
use fewstep_nn::{TorchDenoiser, Tunable};
use fewstep_report::Page;
use fewstep_search::{Found, Method, Search, baseline, usual_teacher};
use serde::{Deserialize, Serialize};

pub use self::forecast::forecast;
pub use self::page::{headline, no_help, table};
pub use self::settings::{DemoTask, demo_settings};
use crate::assets;
use crate::error::{Context, Result};
use crate::fitting::{Fitter, Tuned};
use crate::models::{ModelOptions, OpenModel, is_built_in, open_model};
use crate::plans::euler;
use crate::reference::ImageReference;
use crate::runs::{REPORT, Run, RunOptions, read_file};
use crate::scorer::ImageScorer;

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
    /// Network calls an image: more than evaluations under guidance.
    pub calls: usize,
    /// Frechet distance to the features of what the model should make, where that is known.
    pub frechet: Option<f64>,
    /// Rollout error on held-out latents; none for the teacher.
    pub rollout_error: Option<f64>,
    /// Noise levels of the evaluations.
    pub sigmas: Vec<f64>,
    /// A PNG of the first images, in the run folder; none where samples are no images.
    pub grid: Option<PathBuf>,
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
    /// Images a second in phase 2, with its evaluations of the error; none where there was no phase 2.
    pub training_rate: Option<f64>,
    /// Network evaluations a second in sampling.
    pub sampling_rate: f64,
    /// How long everything took.
    pub seconds: f64,
    /// The network's parameterisation, for the figure of the weights.
    #[serde(rename = "precond")]
    pub parameterisation: Option<Parameterisation>,
}

/// The model of a demo, which evaluates as many samples at once as the demo's settings say.
///
/// # Errors
/// As [`open_model`].
pub fn open(name: &str, options: &ModelOptions) -> Result<OpenModel> {
    open_model(name, &ModelOptions { batch: demo_settings(1).batch, ..options.clone() })
}

/// Runs the demo on `model` ([`open`]) in a new folder.
///
/// # Errors
/// If the folder is there already, a setting is outside its domain, or the observer asks for the end: a demo cannot be resumed.
pub fn demo(task: DemoTask, model: &OpenModel, options: &RunOptions, observer: &dyn Observer) -> Result<DemoResults> {
    task.check(model)?;
    let started = Instant::now();
    let options = RunOptions { resume: false, ..options.clone() };
    let run = Run::start(task, &options).context("a demo needs a new folder")?;
    let images = match DemoTask::has_phases(model) {
        true => Some(Images::for_model(assets::test_images()?.load_all()?, model.denoiser())?),
        false => None,
    };
    let results = DemoResults {
        rows: Vec::new(),
        parts: Vec::new(),
        tuning: Vec::new(),
        training_rate: None,
        sampling_rate: f64::NAN,
        seconds: 0.0,
        parameterisation: model.network().map(|network| network.parameterisation().clone()),
    };
    let references = match is_built_in(&model.name) {
        true => vec![ImageReference::built_in(model)?],
        false => Vec::new(),
    };
    let mut demo = Demo { task: &run.file.task, folder: &run.folder, model, references: &references, results };
    demo.rows(images.as_ref(), observer)?;
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
    model: &'a OpenModel,
    references: &'a [ImageReference],
    results: DemoResults,
}

/// What all rows share.
struct Shared<'a> {
    fitter: Fitter<'a>,
    /// None where samples are no images.
    scorer: Option<ImageScorer<'a>>,
    seeds: Vec<u64>,
}

impl Demo<'_> {
    fn rows(&mut self, images: Option<&Images>, observer: &dyn Observer) -> Result<()> {
        let (task, base) = (self.task, self.model.denoiser());
        let settings = &task.settings;
        let evaluations = usual_teacher(&base.spec().levels, settings.held_out.teacher_steps)?.nfe();
        observer.event(Event::Note(&format!(
            "teacher: Heun, {} noise levels, {evaluations} evaluations an image",
            settings.held_out.teacher_steps
        )));
        let fitter = self.timed("teacher on held-out latents", || {
            Fitter::new(base, self.model.network(), images, settings, observer)
        })?;
        let seconds = self.results.parts.last().map_or(f64::NAN, |part| part.seconds);
        self.results.sampling_rate = (evaluations * settings.held_out.samples) as f64 / seconds;
        let scorer = match base.pixel_shape() {
            Some(_) => Some(ImageScorer::new(self.references, settings.batch)?),
            None => None,
        };
        let shared = Shared { fitter, scorer, seeds: (0..task.images as u64).collect() };
        let plan = usual_teacher(&base.spec().levels, settings.held_out.teacher_steps)?;
        self.row(&shared, settings.held_out.teacher_steps, "teacher (Heun, rho = 7)", base, &plan)?;
        let table = match images {
            Some(_) => Some(self.timed("phase 1: table of e(sigma)", || shared.fitter.table(base))?),
            None => None,
        };
        let found = self.timed("our search: all numbers of steps", || -> Result<Found> {
            Ok(Search::new(&base, &settings.search, observer)?.find(&Method::BEST, &task.steps)?)
        })?;
        for &steps in &task.steps {
            let rho_7 = baseline(&base.spec().levels, steps)?;
            self.row(&shared, steps, BASELINE, base, &euler(&rho_7)?)?;
            if let Some(table) = &table {
                let name = format!("phase 1, {steps} steps");
                let levels = self.timed(name, || shared.fitter.find_by_table(base, table, steps))?;
                self.paper(&shared, steps, &rho_7, &Schedule::new(levels.plan.sigmas())?)?;
            }
            if let Some(plan) = found.plans.get(&steps) {
                self.row(&shared, steps, OURS, base, plan)?;
            }
        }
        Ok(())
    }

    /// Both phases of the paper, alone and together.
    fn paper(&mut self, shared: &Shared, steps: usize, rho_7: &Schedule, learned: &Schedule) -> Result<()> {
        let network = self.model.tunable()?;
        self.row(shared, steps, LEVELS, network, &euler(learned)?)?;
        let tune = &self.task.settings.tune;
        for (method, schedule) in [("phase 2: network", rho_7), ("both phases", learned)] {
            let (plan, name) = (euler(schedule)?, format!("{method}, {steps} steps"));
            let Tuned { model, evaluations, .. } =
                self.timed(&name, || shared.fitter.tune(network, &plan, None, false))?;
            let seconds = self.results.parts.last().map_or(f64::NAN, |part| part.seconds);
            self.results.training_rate = Some((tune.updates * tune.batch as u64) as f64 / seconds);
            self.results.tuning.push((name, evaluations));
            self.row(shared, steps, method, &model, &plan)?;
        }
        Ok(())
    }

    /// Scores a sampler, writes its images and keeps the row. The teacher, the first, has no error.
    fn row(
        &mut self,
        shared: &Shared,
        steps: usize,
        method: &str,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
    ) -> Result<()> {
        let rollout_error = match self.results.rows.is_empty() {
            true => None,
            false => Some(shared.fitter.rollout_error(denoiser, plan)?),
        };
        let (mut frechet, mut grid) = (None, None);
        if let Some(scorer) = &shared.scorer {
            let name = format!("images: {method}, {steps} steps");
            let score = self.timed(name, || scorer.score(denoiser, plan, &shared.seeds, shared.fitter.observer))?;
            frechet = score.scores.first().map(|_| score.frechet());
            self.folder.subfolder("images")?;
            let file = PathBuf::from(format!("images/{:02}.png", self.results.rows.len()));
            atomic::write_bytes(self.folder.path().join(&file), &score.grid)?;
            grid = Some(file);
        }
        let (method, nfe, sigmas) = (method.to_owned(), plan.nfe(), plan.sigmas());
        let calls = nfe * denoiser.spec().calls;
        self.results.rows.push(DemoRow { steps, method, nfe, calls, frechet, rollout_error, sigmas, grid });
        Ok(())
    }

    fn timed<T>(&mut self, name: impl Into<String>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let value = work()?;
        self.results.parts.push(Part { name: name.into(), seconds: started.elapsed().as_secs_f64() });
        Ok(value)
    }
}
