//! `fewstep sample`: images from seeds.

mod folder;
mod target;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use fewstep_core::plan::Plan;
use fewstep_nn::Model;
use serde::Serialize;
use serde_json::json;

use self::folder::Settings;
use self::target::Target;
use crate::forecast::Forecast;
use crate::inputs::{BUILT_IN, Compute, LatentArgs, Latents, OpenModel, PlanArgs, open_model};
use crate::terminal;
use crate::ui::{Output, Progress};

/// Arguments of `fewstep sample`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep sample --out grid.png --steps 8 --solver ipndm4\n  fewstep sample --show --seeds 0-15\n  fewstep sample --model edm-cifar10.pkl --plan plan.json --seeds 0-49999 --out samples/ --subdirs"
)]
pub struct Args {
    /// Model: a file, or the name of the built-in one
    #[arg(long, value_name = "MODEL", default_value = BUILT_IN)]
    pub model: String,
    #[command(flatten)]
    pub latents: LatentArgs,
    #[command(flatten)]
    pub plan: PlanArgs,

    /// Where to: a folder of PNGs named after their seeds, one grid (.png), or arrays (.npz)
    #[arg(long, value_name = "PATH", help_heading = "Output", required_unless_present_any = ["show", "dry_run"])]
    pub out: Option<PathBuf>,
    /// Show the images in the terminal, as a grid; alone, or with --out FILE.png
    #[arg(long, help_heading = "Output")]
    pub show: bool,
    /// Folder: PNGs in subfolders of 1000
    #[arg(long, help_heading = "Output")]
    pub subdirs: bool,
    /// Grid: images in a row [default: as many as there are rows]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub columns: Option<usize>,
    /// npz: floats as the sampler leaves them, about -1 to 1, instead of pixels
    #[arg(long, help_heading = "Output")]
    pub raw: bool,
    /// Replace what --out names
    #[arg(long, help_heading = "Output", conflicts_with = "resume")]
    pub overwrite: bool,
    /// Folder: keep the PNGs that an earlier run of the same sampler left and make those that lack
    #[arg(long, help_heading = "Output")]
    pub resume: bool,
    /// Print the sampler and the cost in network evaluations, and do nothing
    #[arg(long, help_heading = "Output")]
    pub dry_run: bool,

    #[command(flatten)]
    pub compute: Compute,
}

impl Args {
    /// Where to; empty in a dry run that names no place.
    fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new(""))
    }
}

/// What a run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    out: String,
    images: usize,
    kept: usize,
    nfe: usize,
    solver: String,
    model: String,
    model_sha256: String,
    seconds: f64,
    images_per_second: f64,
}

/// Makes the images.
pub fn run(mut args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let scratch = if args.show && args.out.is_none() {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        args.out = Some(folder.path().join("images.png"));
        Some(folder)
    } else {
        None
    };
    if args.show {
        terminal::check()?;
    }
    let form = target::Form::of(&args)?;
    let opened = open_model(&args.model, device, kind)?;
    let plan = args.plan.resolve(&opened)?;
    let OpenModel { model, name, hash, .. } = opened;
    let latents = args.latents.resolve(&model)?;
    if args.dry_run {
        let settings = json!({
            "model": name, "model_sha256": hash, "images": latents.len(), "solver": plan.solver, "nfe": plan.nfe(),
            "sigmas": plan.sigmas(),
        });
        return Forecast::new(&settings)?.part("images", (latents.len() * plan.nfe()) as u64).print(output);
    }
    let settings = Settings::new(&hash, &plan, &latents, &args);
    let mut target = Target::open(form, &args, &model, &latents, settings)?;
    let todo: Vec<usize> = (0..latents.len()).filter(|&index| !target.has(latents.number(index))).collect();
    let started = Instant::now();
    if let Err(error) = generate(&model, &plan, &latents, &todo, args.latents.batch, &mut target) {
        return Err(target.abandon(error));
    }
    target.finish()?;
    if args.show {
        terminal::show(args.out())?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let outcome = Outcome {
        out: if scratch.is_some() { "shown".to_owned() } else { args.out().display().to_string() },
        images: latents.len(),
        kept: latents.len() - todo.len(),
        nfe: plan.nfe(),
        solver: plan.solver.clone(),
        model: name,
        model_sha256: hash,
        seconds,
        images_per_second: todo.len() as f64 / seconds,
    };
    output.result(&outcome, || {
        let Outcome { out, images, kept, nfe, solver, images_per_second, .. } = &outcome;
        let kept = if *kept > 0 { format!(" ({kept} were there)") } else { String::new() };
        format!(
            "{out}: {images} images{kept}, {solver}, {nfe} network evaluations an image, {images_per_second:.1} img/s"
        )
    })
}

fn generate(
    model: &Model,
    plan: &Plan,
    latents: &Latents,
    todo: &[usize],
    batch: usize,
    target: &mut Target,
) -> Result<()> {
    let done = latents.len() - todo.len();
    let mut progress = Progress::new("sample", "img", latents.len() as u64, done as u64);
    for (count, indices) in todo.chunks(batch).enumerate() {
        let images = latents.images(model, plan, indices)?;
        let numbers: Vec<u64> = indices.iter().map(|&index| latents.number(index)).collect();
        target.take(&numbers, &images)?;
        progress.set((done + count * batch + indices.len()) as u64, format!("{} evaluations each", plan.nfe()));
    }
    progress.finish();
    Ok(())
}
