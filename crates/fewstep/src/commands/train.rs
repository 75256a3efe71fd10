//! `fewstep train`: the EDM recipe.

mod arguments;
mod page;

use std::path::Path;

use anyhow::{Context, Result};
use fewstep_core::schedule::karras;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_io::dataset::Dataset;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::sample::Seeded;
use fewstep_nn::train::{TrainConfig, Trainer};
use fewstep_nn::{Model, checkpoint, data};
use fewstep_report::Page;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::arguments::Args;
use crate::commands::report::REPORT;
use crate::forecast::Forecast;
use crate::interrupt;
use crate::pixels;
use crate::provenance::Provenance;
use crate::runs;
use crate::ui::{self, Output, Progress};

const STATE: &str = "state.safetensors";
const MODEL: &str = "model.safetensors";
const STATS: &str = "stats.jsonl";
/// Seeds of the sample grids: the same images again and again, so that progress shows.
const GRID_SEEDS: std::ops::Range<u64> = 0..64;

/// `run.json` of a training run.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    kind: String,
    provenance: Provenance,
    data: String,
    data_sha256: String,
    images: usize,
    precision: String,
    model: fewstep_nn::config::ModelConfig,
    train: TrainConfig,
}

/// What a finished run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    model: String,
    images_seen: u64,
    iterations: u64,
    /// Mean of the last 20 updates; none if there was nothing left to do.
    loss: Option<f64>,
    images_per_second: f64,
}

/// Trains until the asked number of images has been seen.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let dataset = args.data.open()?;
    let config = args.model_config(&dataset)?;
    let train = args.train_config();
    if args.run.repeat.dry_run {
        let settings = json!({ "data": dataset.name(), "images": dataset.len(), "model": config, "train": train });
        let grids = args.images / args.grid_every.max(1) + 1;
        let looked_at = grids * GRID_SEEDS.count() as u64 * 35;
        let cost = Forecast::new(&settings)?.training("training images", args.images);
        return cost.part("sample grids", looked_at).print(output);
    }
    let model = Model::fresh(config.clone(), train.seed, device)?.with_kind(kind);
    let parameters = model.params().trainable_count();
    let images = data::Images::for_model(dataset.load_all()?, &model)?;
    ui::note(format!("{} images of {}, {parameters} parameters", images.len(), dataset.name()));
    let mut trainer = Trainer::new(model, &images, train.clone())?;
    let folder = open_folder(&args, &mut trainer, &dataset, config, train)?;
    let outcome = train_until(&args, &mut trainer, &folder)?;
    atomic::write_bytes(folder.file(REPORT), report(&folder)?.to_html().as_bytes())?;
    output.result(&outcome, || {
        let Outcome { model, images_seen, iterations, loss, images_per_second } = &outcome;
        let loss = loss.map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
        format!("{model}: {images_seen} images, {iterations} iterations{loss}, {images_per_second:.1} img/s")
    })
}

/// A new run folder, or with `--resume` the old one with its state loaded.
fn open_folder(
    args: &Args,
    trainer: &mut Trainer<'_>,
    dataset: &Dataset,
    model: fewstep_nn::config::ModelConfig,
    train: TrainConfig,
) -> Result<RunFolder> {
    let data_sha256 = dataset.fingerprint()?;
    let out = &args.run.out;
    if args.run.resume {
        let (folder, run) = runs::reopen::<Run>(out, "train")?;
        anyhow::ensure!(
            run.data_sha256 == data_sha256,
            "the data set {} is not the one that {} was started with, so the run cannot be resumed exactly",
            dataset.path().display(),
            out.display()
        );
        if folder.has(STATE) {
            trainer.load_state(&folder.file(STATE))?;
        }
        folder.truncate_lines(STATS, "images", trainer.images_seen())?;
        ui::note(format!("resuming at {} images", trainer.images_seen()));
        return Ok(folder);
    }
    let run = Run {
        kind: "train".to_owned(),
        provenance: Provenance::now(),
        data: dataset.name().to_owned(),
        data_sha256,
        images: dataset.len(),
        precision: args.compute.precision.clone(),
        model,
        train,
    };
    runs::create(out, &run)
}

/// The report of a training's folder.
pub fn report(folder: &RunFolder) -> Result<Page> {
    page::build(&folder.read_json(RUN_FILE)?, folder)
}

fn train_until(args: &Args, trainer: &mut Trainer<'_>, folder: &RunFolder) -> Result<Outcome> {
    let total = args.images;
    let first = trainer.images_seen();
    let started = std::time::Instant::now();
    let mut progress = Progress::new("train", "img", total, first);
    let (mut next_snapshot, mut next_grid) = (first + args.save_every, first + args.grid_every);
    let (mut loss, mut count, mut iterations) = (0.0, 0u32, 0);
    let mut last_loss = None;
    let _listener = interrupt::listen()?;
    while trainer.images_seen() < total {
        let stats = trainer.step().with_context(|| format!("the run is in {}", folder.path().display()))?;
        folder.append_line(STATS, &stats)?;
        loss += stats.loss;
        count += 1;
        iterations = stats.iteration;
        if count == 20 || stats.images >= total {
            last_loss = Some(loss / f64::from(count));
            (loss, count) = (0.0, 0);
        }
        progress.set(stats.images, last_loss.map_or_else(String::new, |loss| format!("loss {loss:.4}")));
        let asked = interrupt::asked();
        if stats.images >= next_snapshot || stats.images >= total || asked {
            save(args, trainer, folder)?;
            next_snapshot = stats.images + args.save_every;
        }
        if asked && stats.images < total {
            progress.finish();
            return interrupt::stopped(&format!("after {} images", stats.images));
        }
        if stats.images >= next_grid || stats.images >= total {
            let path = folder.subfolder("samples")?.join(format!("{:09}.png", stats.images));
            write_grid(&trainer.averaged()?, &path)?;
            next_grid = stats.images + args.grid_every;
        }
    }
    progress.finish();
    let images_per_second = (trainer.images_seen() - first) as f64 / started.elapsed().as_secs_f64();
    let model = folder.file(MODEL).display().to_string();
    Ok(Outcome { model, images_seen: trainer.images_seen(), iterations, loss: last_loss, images_per_second })
}

/// The state first: a model without its state could not be resumed.
fn save(args: &Args, trainer: &mut Trainer<'_>, folder: &RunFolder) -> Result<()> {
    trainer.save_state(&folder.file(STATE))?;
    let notes = [
        ("data".to_owned(), args.data.data.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        ("training".to_owned(), format!("{} images, batch {}, EMA weights", trainer.images_seen(), args.batch)),
    ];
    let storage = if args.half { checkpoint::Storage::F16 } else { checkpoint::Storage::F32 };
    checkpoint::save(&folder.file(MODEL), &trainer.averaged()?, storage, &notes.into())?;
    Ok(())
}

/// 64 images of the EDM sampler, 18 steps of Heun.
fn write_grid(model: &Model, path: &Path) -> Result<()> {
    let (low, high) = model.config().precond.sampling_range();
    let schedule = karras(18, low, high, 7.0)?.round(&model.config().precond)?;
    let plan = Solver::Heun.plan(&schedule, &SolverOptions::default())?;
    let seeds: Vec<u64> = GRID_SEEDS.collect();
    let images = Seeded { seeds: &seeds, class: None, batch: 32 }.collect(model, &plan)?;
    fewstep_io::png::write_grid(path, &pixels::to_images(&images)?, 8, 2)?;
    Ok(())
}
