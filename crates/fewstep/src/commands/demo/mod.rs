//! `fewstep demo`: what a fit buys on the built-in model, in minutes, with nothing to download.

mod measure;
mod page;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use fewstep_core::objective::Objective;
use fewstep_core::schedule::{Scale, Schedule};
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::Model;
use fewstep_nn::data::Images;
use fewstep_nn::fit::{NoiseSharing, TuneConfig, TuneStep, TuneWeights};
use serde::{Deserialize, Serialize};

use self::measure::{Measured, Studio};
use crate::assets;
use crate::fitting::{FitSettings, Fitter, Phase1Settings, Phase1Solver, Phase2Settings};
use crate::inputs::{BUILT_IN, Compute, open_model};
use crate::provenance::Provenance;
use crate::ui::{self, Output};

/// Arguments of `fewstep demo`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep demo --out runs/demo")]
pub struct Args {
    /// Folder for report.html and the results; must not exist yet [default: runs/demo, or the next free runs/demo-N]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Numbers of steps
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "5,8")]
    pub steps: Vec<usize>,
    /// Images a row of the table is measured on
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub images: usize,
    /// Updates of the network in phase 2
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub updates: u64,
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
    /// Noise levels.
    pub schedule: Schedule,
}

/// Seconds that a part took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// What.
    pub name: String,
    /// How long.
    pub seconds: f64,
}

/// Everything that the report is made from.
#[derive(Debug, Default)]
pub struct Results {
    rows: Vec<Row>,
    parts: Vec<Part>,
    /// For each row a PNG of its first images.
    grids: Vec<Vec<u8>>,
    /// Looks at the held-out error: name, history.
    tuning: Vec<(String, Vec<TuneStep>)>,
    training_rate: f64,
    sampling_rate: f64,
}

impl Results {
    fn timed<T>(&mut self, name: impl Into<String>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (started, name) = (Instant::now(), name.into());
        let value = work()?;
        self.parts.push(Part { name, seconds: started.elapsed().as_secs_f64() });
        Ok(value)
    }

    fn push(
        &mut self,
        steps: usize,
        method: &str,
        schedule: &Schedule,
        rollout_error: Option<f64>,
        measured: Measured,
    ) {
        let Measured { frechet, grid, nfe } = measured;
        self.rows.push(Row {
            steps,
            method: method.to_owned(),
            nfe,
            frechet,
            rollout_error,
            schedule: schedule.clone(),
        });
        self.grids.push(grid);
    }
}

/// Runs the demo.
pub fn run(args: Args, output: Output) -> Result<()> {
    let started = Instant::now();
    let (device, kind) = args.compute.resolve()?;
    let out = args.out.clone().unwrap_or_else(next_free_folder);
    let folder = RunFolder::create(&out).context("the demo writes into a new folder; --out names another")?;
    let opened = open_model(BUILT_IN, device, kind)?;
    let images = Images::for_model(assets::test_images()?.load_all()?, &opened.model)?;
    let settings = settings(&args);
    let provenance = Provenance::now();
    folder.write_json(
        "run.json",
        &serde_json::json!({
            "kind": "demo", "provenance": &provenance, "model_sha256": &opened.hash, "settings": &settings,
        }),
    )?;
    let results = measure_all(&args, &opened.model, &images, &settings)?;
    folder.write_json("results.json", &serde_json::json!({ "rows": &results.rows, "parts": &results.parts }))?;
    let page =
        page::build(&results, &opened.model, &settings, &provenance, &opened.hash, args.images, started.elapsed());
    atomic::write_bytes(folder.file("report.html"), page.to_html().as_bytes())?;
    let seconds = started.elapsed().as_secs_f64();
    output.result(&serde_json::json!({ "rows": &results.rows, "parts": &results.parts, "seconds": seconds }), || {
        page::terminal(&results, output.colour(), seconds, &folder.file("report.html"))
    })
}

fn next_free_folder() -> PathBuf {
    let named = |n: u32| if n == 1 { PathBuf::from("runs/demo") } else { PathBuf::from(format!("runs/demo-{n}")) };
    (1..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(1))
}

/// Small enough for minutes on two cores; `fewstep fit` has the full scale.
fn settings(args: &Args) -> FitSettings {
    FitSettings {
        phase1: Phase1Settings {
            objective: Objective::Bound,
            solver: Phase1Solver::Table,
            noise: NoiseSharing::Independent,
            parameter: Scale::Log,
            iterations: 0,
            batch: 64,
            learning_rate: 0.0,
            check_every: 1,
            patience: 1,
            grid: 49,
            table_images: 64,
            seed: 0,
        },
        phase2: Phase2Settings {
            weights: TuneWeights::Bound { last: 1.0 },
            tune: TuneConfig { iterations: args.updates, check_every: args.updates.div_ceil(3).max(1), patience: 3 },
            batch: 32,
            microbatch: 32,
            learning_rate: 1e-4,
            ema_images: 500.0,
            xflip: false,
            seed: 0,
        },
        held_out: 64,
        teacher_steps: 18,
        early_stop: true,
        batch: 50,
    }
}

fn measure_all(args: &Args, base: &Model, images: &Images, settings: &FitSettings) -> Result<Results> {
    let mut results = Results::default();
    ui::note("teacher: Heun, 18 noise levels, 35 evaluations an image");
    let studio = Studio::new(base, args.images, settings.batch)?;
    let teacher_schedule = crate::fitting::baseline(base, settings.teacher_steps)?;
    let started = Instant::now();
    let teacher = results
        .timed("teacher's images", || studio.measure(base, &crate::fitting::teacher(base, settings.teacher_steps)?))?;
    results.sampling_rate = (args.images * teacher.nfe) as f64 / started.elapsed().as_secs_f64();
    results.push(settings.teacher_steps, "teacher (Heun, rho = 7)", &teacher_schedule, None, teacher);
    let fitter = results.timed("teacher on held-out latents", || Fitter::new(base, images, settings))?;
    let table = results.timed("phase 1: table of e(sigma)", || fitter.table(base))?;
    for &steps in &args.steps {
        let baseline = fitter.baseline(steps)?;
        student(&mut results, &studio, &fitter, steps, "baseline (Euler, rho = 7)", base, &baseline)?;
        let learned =
            results.timed(format!("phase 1, {steps} steps"), || fitter.phase1_from_table(base, &table, steps))?;
        student(&mut results, &studio, &fitter, steps, "phase 1: levels", base, &learned.schedule)?;
        for (method, schedule) in [("phase 2: network", &baseline), ("both phases", &learned.schedule)] {
            let tuned = results.timed(format!("{method}, {steps} steps"), || fitter.phase2(base, schedule, None))?;
            results.training_rate = (args.updates as usize * settings.phase2.batch) as f64
                / results.parts.last().map_or(f64::NAN, |part| part.seconds);
            results.tuning.push((format!("{method}, {steps} steps"), tuned.looks));
            student(&mut results, &studio, &fitter, steps, method, &tuned.model, schedule)?;
        }
    }
    Ok(results)
}

fn student(
    results: &mut Results,
    studio: &Studio,
    fitter: &Fitter,
    steps: usize,
    method: &str,
    model: &Model,
    schedule: &Schedule,
) -> Result<()> {
    let error = fitter.rollout_error(model, schedule)?;
    let measured = results.timed(format!("images: {method}, {steps} steps"), || {
        studio.measure(model, &crate::fitting::euler(schedule)?)
    })?;
    results.push(steps, method, schedule, Some(error), measured);
    Ok(())
}
