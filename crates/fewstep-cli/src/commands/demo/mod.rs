//! `fewstep demo`: what a fit buys on the built-in model, in minutes, with nothing to download.

mod page;
mod settings;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use fewstep_core::plan::Plan;
use fewstep_core::precondition::Preconditioning;
use fewstep_core::schedule::Schedule;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::Model;
use fewstep_nn::data::Images;
use fewstep_nn::fit::TuneStep;
use fewstep_report::Page;
use serde::{Deserialize, Serialize};

use crate::assets;
use crate::fitting::{FitSettings, Fitter, euler, teacher};
use crate::forecast::Forecast;
use crate::inputs::{BUILT_IN, Compute, Numbers, open_model};
use crate::provenance::Provenance;
use crate::runs::REPORT;
use crate::runs::{self, Repeat};
use crate::searching::{Method, Searcher};
use crate::studio::{Measured, Studio};
use crate::ui::{self, Output};

/// Arguments of `fewstep demo`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep demo --out runs/demo")]
pub struct Args {
    /// Folder for report.html and the results; must not exist yet [default: runs/demo, or the next free runs/demo-N]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Numbers of steps
    #[arg(long, value_name = "LIST", default_value = "5,8")]
    pub steps: Numbers,
    /// Images a row of the table is measured on
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub images: usize,
    /// Updates of the network in phase 2
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub updates: u64,
    #[command(flatten)]
    pub repeat: Repeat,
    #[command(flatten)]
    pub compute: Compute,
}

/// One row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
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
}

/// Seconds that a part took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// What.
    pub name: String,
    /// How long.
    pub seconds: f64,
}

/// `run.json` of a demo.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    kind: String,
    provenance: Provenance,
    model_sha256: String,
    precond: Preconditioning,
    images: usize,
    settings: FitSettings,
}

/// Everything that the report is made from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    rows: Vec<Row>,
    parts: Vec<Part>,
    /// For each row a PNG of its first images, in files of their own.
    #[serde(skip)]
    grids: Vec<Vec<u8>>,
    /// Looks at the held-out error: name, history.
    tuning: Vec<(String, Vec<TuneStep>)>,
    /// Images a second in phase 2, with its looks at the error.
    training_rate: f64,
    /// Network evaluations a second in sampling.
    sampling_rate: f64,
    /// How long everything took.
    seconds: f64,
}

impl Results {
    fn timed<T>(&mut self, name: impl Into<String>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (started, name) = (Instant::now(), name.into());
        let value = work()?;
        self.parts.push(Part { name, seconds: started.elapsed().as_secs_f64() });
        Ok(value)
    }

    fn push(&mut self, steps: usize, method: &str, plan: &Plan, rollout_error: Option<f64>, measured: Measured) {
        let Measured { frechet, grid, .. } = measured;
        let (method, nfe, sigmas) = (method.to_owned(), plan.nfe(), plan.sigmas());
        self.rows.push(Row { steps, method, nfe, frechet, rollout_error, sigmas });
        self.grids.push(grid);
    }
}

/// Runs the demo.
pub fn run(args: Args, output: Output) -> Result<()> {
    let started = Instant::now();
    let (device, kind) = args.compute.resolve()?;
    let settings = settings::settings(&args);
    if args.repeat.dry_run {
        return forecast(&args, &settings)?.print(output);
    }
    let out = args.out.clone().unwrap_or_else(next_free_folder);
    let opened = open_model(BUILT_IN, device, kind)?;
    let images = Images::for_model(assets::test_images()?.load_all()?, &opened.model)?;
    let run = Run {
        kind: "demo".to_owned(),
        provenance: Provenance::now(),
        model_sha256: opened.hash.clone(),
        precond: opened.model.config().precond.clone(),
        images: args.images,
        settings,
    };
    let folder = runs::create(&out, &run).context("the demo writes into a new folder; --out names another")?;
    let mut results = measure_all(&args, &opened.model, &images, &run.settings)?;
    results.seconds = started.elapsed().as_secs_f64();
    for (row, grid) in results.grids.iter().enumerate() {
        atomic::write_bytes(grid_file(&folder, row)?, grid)?;
    }
    folder.write_json(RESULTS, &results)?;
    atomic::write_bytes(folder.file(REPORT), page::build(&results, &run).to_html().as_bytes())?;
    output.result(&results, || page::terminal(&results, output.colour(), &folder.file(REPORT)))
}

/// Where the results stand, in the run folder.
pub const RESULTS: &str = "results.json";

fn grid_file(folder: &RunFolder, row: usize) -> Result<PathBuf> {
    Ok(folder.subfolder("images")?.join(format!("{row:02}.png")))
}

/// The report of a demo's folder.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let mut results: Results = folder.read_json(RESULTS)?;
    for row in 0..results.rows.len() {
        results.grids.push(std::fs::read(grid_file(folder, row)?).unwrap_or_default());
    }
    Ok(page::build(&results, &folder.read_json(RUN_FILE)?))
}

/// What the demo costs.
fn forecast(args: &Args, settings: &FitSettings) -> Result<Forecast> {
    let (steps, numbers) = (args.steps.0.iter().sum::<u64>(), args.steps.0.len() as u64);
    let (held, images, teacher) = (settings.held_out as u64, args.images as u64, 2 * settings.teacher_steps as u64 - 1);
    let FitSettings { phase1, phase2, search, .. } = settings;
    let looks = phase2.tune.iterations.div_ceil(phase2.tune.check_every) + 1;
    Ok(Forecast::new(settings)?
        .part("teacher on held-out latents", held * teacher)
        .part("teacher's images", images * teacher)
        .part("table of e(sigma)", (phase1.grid * phase1.table_images) as u64)
        .part("the search's teacher", search.teacher_evaluations())
        .part("our search", search.evaluations(&Method::BEST, &args.steps.counts()))
        .training("phase 2, twice", 2 * numbers * phase2.tune.iterations * phase2.batch as u64)
        .part("looks of phase 2", 2 * looks * held * steps)
        .part("five rows a number of steps", 5 * (images + held) * steps))
}

fn next_free_folder() -> PathBuf {
    let named = |n: u32| if n == 1 { PathBuf::from("runs/demo") } else { PathBuf::from(format!("runs/demo-{n}")) };
    (1..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(1))
}

/// What all rows share.
struct Bench<'a> {
    base: &'a Model,
    studio: Studio<'a>,
    fitter: Fitter<'a>,
    seeds: Vec<u64>,
}

impl Bench<'_> {
    fn row(&self, results: &mut Results, steps: usize, method: &str, model: &Model, plan: &Plan) -> Result<()> {
        let error = self.fitter.judge.rollout_error(model, plan)?;
        let name = format!("images: {method}, {steps} steps");
        let measured = results.timed(name, || self.studio.measure(model, plan, &self.seeds))?;
        results.push(steps, method, plan, Some(error), measured);
        Ok(())
    }

    fn teacher(&self, results: &mut Results, steps: usize) -> Result<()> {
        let plan = teacher(self.base, steps)?;
        let measured = results.timed("teacher's images", || self.studio.measure(self.base, &plan, &self.seeds))?;
        results.sampling_rate = plan.nfe() as f64 / measured.seconds;
        results.push(steps, "teacher (Heun, rho = 7)", &plan, None, measured);
        Ok(())
    }

    /// Both phases of the paper, alone and together.
    fn paper(&self, results: &mut Results, steps: usize, learned: &Schedule, args: &Args) -> Result<()> {
        let baseline = self.fitter.baseline(steps)?;
        self.row(results, steps, BASELINE, self.base, &euler(&baseline)?)?;
        self.row(results, steps, LEVELS, self.base, &euler(learned)?)?;
        for (method, schedule) in [("phase 2: network", &baseline), ("both phases", learned)] {
            let plan = euler(schedule)?;
            let name = format!("{method}, {steps} steps");
            let tuned = results
                .timed(&name, || self.fitter.phase2(self.base, &plan, &self.fitter.settings.phase2, None, false))?;
            results.training_rate = (args.updates as usize * self.fitter.settings.phase2.batch) as f64
                / results.parts.last().map_or(f64::NAN, |part| part.seconds);
            results.tuning.push((name, tuned.looks));
            self.row(results, steps, method, &tuned.model, &plan)?;
        }
        Ok(())
    }
}

/// Names of rows that the report's figures look for.
const BASELINE: &str = "baseline (Euler, rho = 7)";
const LEVELS: &str = "phase 1: levels";
const OURS: &str = "our plan";

fn measure_all(args: &Args, base: &Model, images: &Images, settings: &FitSettings) -> Result<Results> {
    let mut results = Results::default();
    ui::note("teacher: Heun, 18 noise levels, 35 evaluations an image");
    let features = assets::features(base.device())?;
    let studio = Studio::new(&*features, &assets::reference()?, settings.batch)?;
    let fitter = results.timed("teacher on held-out latents", || Fitter::new(base, Some(images), settings))?;
    let bench = Bench { base, studio, fitter, seeds: (0..args.images.max(2) as u64).collect() };
    bench.teacher(&mut results, settings.teacher_steps)?;
    let table = results.timed("phase 1: table of e(sigma)", || bench.fitter.table(base))?;
    let found = results.timed("our search: all numbers of steps", || {
        Searcher::new(base, &settings.search, None)?.find(&Method::BEST, &args.steps.counts(), None)
    })?;
    for steps in args.steps.counts() {
        let learned =
            results.timed(format!("phase 1, {steps} steps"), || bench.fitter.phase1_from_table(base, &table, steps))?;
        bench.paper(&mut results, steps, &Schedule::new(learned.plan.sigmas())?, args)?;
        if let Some(plan) = found.plans.get(&steps) {
            bench.row(&mut results, steps, OURS, base, plan)?;
        }
    }
    Ok(results)
}
