//! `fewstep train`: the EDM recipe.

mod arguments;
mod page;

use std::collections::VecDeque;
use std::path::Path;

use anyhow::Result;
use fewstep_core::schedule::karras;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_io::dataset::Dataset;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::sample::Seeded;
use fewstep_nn::train::{TrainConfig, Trainer};
use fewstep_nn::{Error, Model, checkpoint, data};
use fewstep_report::Page;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::arguments::Args;
use crate::forecast::Forecast;
use crate::inputs::few;
use crate::interrupt;
use crate::pixels;
use crate::provenance::Provenance;
use crate::runs;
use crate::runs::REPORT;
use crate::ui::{self, Output, Progress};

const STATE: &str = "state.safetensors";
const MODEL: &str = "model.safetensors";
const STATS: &str = "stats.jsonl";
/// Updates that a loss is the mean of: single ones are noisy.
pub const LOSSES: usize = 20;
/// Noise levels of the Heun sampler that makes the grids.
const GRID_STEPS: usize = 18;
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
    /// Mean of the last updates; none if there was nothing left to do.
    loss: Option<f64>,
    images_per_second: f64,
}

/// Trains until the asked number of images has been seen.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let dataset = args.data.open()?;
    let config = args.model_config(&dataset)?;
    let train = args.train_config();
    let empty = if args.cond { dataset.empty_classes() } else { Vec::new() };
    if !empty.is_empty() {
        ui::note(format!(
            "warning: {} of the {} classes have no images ({}): the network learns nothing of them, and `sample` does not draw \
             them; classes are counted from 0",
            empty.len(),
            dataset.num_classes(),
            few(&empty)
        ));
    }
    if args.run.repeat.dry_run {
        let settings = json!({ "data": dataset.name(), "images": dataset.len(), "model": config, "train": train });
        let grids = if args.grid_every() > 0 { args.images.div_ceil(args.grid_every()) } else { 0 };
        let looked_at = grids * GRID_SEEDS.count() as u64 * (2 * GRID_STEPS as u64 - 1);
        let cost = Forecast::new(&settings)?.training("training images", args.images);
        return cost.part("sample grids", looked_at).print(output);
    }
    let mut model = Model::fresh(config.clone(), train.seed, device)?.with_kind(kind);
    if !empty.is_empty() {
        let all = 0..dataset.num_classes();
        model = model
            .with_trained_classes(all.filter(|class| !empty.contains(class)).map(|class| class as i64).collect())?;
    }
    let parameters = model.params().trainable_count();
    let images = data::Images::for_model(dataset.load_all()?, &model)?;
    ui::note(format!("{} images of {}, {parameters} parameters", images.len(), dataset.name()));
    let mut trainer = Trainer::new(model, &images, train.clone())?;
    let folder = open_folder(&args, &mut trainer, &dataset, config, train)?;
    interrupt::resumable()?;
    let outcome = train_until(&args, &mut trainer, &folder)?;
    atomic::write_bytes(folder.file(REPORT), report(&folder)?.to_html().as_bytes())?;
    output.result(&outcome, || {
        let Outcome { model, images_seen, iterations, loss, images_per_second } = &outcome;
        if *iterations == 0 {
            return format!("{model}: it has seen its {images_seen} images already; more --images go on from there");
        }
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
    // at multiples of these, wherever a run was stopped and resumed
    let next = |every: u64, seen: u64| seen.checked_div(every).map_or(u64::MAX, |count| (count + 1) * every);
    let grid_every = args.grid_every();
    let (mut next_snapshot, mut next_grid) = (next(args.save_every, first), next(grid_every, first));
    let (mut losses, mut iterations) = (VecDeque::with_capacity(LOSSES), 0);
    let _listener = interrupt::listen()?;
    while trainer.images_seen() < total {
        let stats = trainer.step().map_err(|error| runs::failed(error, &folder.file(STATE)))?;
        folder.append_line(STATS, &stats)?;
        if losses.len() == LOSSES {
            losses.pop_front();
        }
        losses.push_back(stats.loss);
        iterations = stats.iteration;
        progress.set(stats.images, mean(&losses).map_or_else(String::new, |loss| format!("loss {loss:.4}")));
        let asked = interrupt::asked();
        if stats.images >= next_snapshot || stats.images >= total || asked {
            save(args, trainer, folder)?;
            next_snapshot = next(args.save_every, stats.images);
        }
        if asked && stats.images < total {
            progress.finish();
            return interrupt::stopped(&format!("after {} images", stats.images));
        }
        if stats.images >= next_grid || (grid_every > 0 && stats.images >= total) {
            let path = folder.subfolder("samples")?.join(format!("{:09}.png", stats.images));
            write_grid(&trainer.averaged()?, &path)?;
            next_grid = next(grid_every, stats.images);
        }
    }
    progress.finish();
    let images_per_second = (trainer.images_seen() - first) as f64 / started.elapsed().as_secs_f64();
    let model = folder.file(MODEL).display().to_string();
    Ok(Outcome { model, images_seen: trainer.images_seen(), iterations, loss: mean(&losses), images_per_second })
}

/// The mean of some losses.
fn mean(losses: &VecDeque<f64>) -> Option<f64> {
    (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
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

/// 64 images of the EDM sampler. A network that does not make images yet is no reason to stop its training.
fn write_grid(model: &Model, path: &Path) -> Result<()> {
    let (low, high) = model.config().precond.sampling_range();
    let schedule = karras(GRID_STEPS, low, high, 7.0)?.round(&model.config().precond)?;
    let plan = Solver::Heun.plan(&schedule, &SolverOptions::default())?;
    let seeds: Vec<u64> = GRID_SEEDS.collect();
    let images = match (Seeded { seeds: &seeds, class: None, batch: 32 }.collect(model, &plan)) {
        Err(error @ Error::NotFiniteImage { .. }) => {
            ui::note(format!("no sample grid {}: {error}", path.display()));
            return Ok(());
        }
        images => images?,
    };
    fewstep_io::png::write_grid(path, &pixels::to_images(&images)?, 8, 2)?;
    Ok(())
}
