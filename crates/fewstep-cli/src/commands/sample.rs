//! `fewstep sample`: samples from seeds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fewstep::runs::RunOptions;
use fewstep::sampling::{Destination, SampleOutput, SampleSettings, Sampling, sample};
use serde::Serialize;

use crate::inputs::{LatentArgs, ModelArgs, PlanArgs, SettingsArgs, check_new_file, has_extension};
use crate::ui::{Output, Terminal};
use crate::{interrupt, repeat, terminal};

/// Arguments of `fewstep sample`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep sample fashion-mnist --out grid.png --steps 8 --solver ipndm4\n  fewstep sample fashion-mnist --show --seeds 0-15\n  fewstep sample edm-cifar10.pkl --plan plan.json --seeds 0-49999 --out samples/"
)]
pub struct Args {
    /// Model: a file, or the name of a built-in one
    #[arg(value_name = "MODEL")]
    pub name: String,
    #[command(flatten)]
    pub latents: LatentArgs,
    #[command(flatten)]
    pub plan: PlanArgs,

    /// Where to: a folder of PNGs named after their seeds, one grid (.png), or arrays (.npz)
    #[arg(long, value_name = "PATH", help_heading = "Output", required_unless_present_any = ["show", "dry_run", "print_settings"])]
    pub out: Option<PathBuf>,
    /// Show the images in the terminal, as a grid; alone, or with --out FILE.png
    #[arg(long, help_heading = "Output")]
    pub show: bool,
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
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// What nobody means as the name of a folder.
const OTHER_FILES: [&str; 6] = ["jpg", "jpeg", "webp", "gif", "npy", "zip"];

impl Args {
    /// Where to, by the name; checked with the options and settings that belong to it.
    fn destination(&self, out: &Path, settings: &SampleSettings) -> Result<Destination> {
        let [grid, arrays] = ["png", "npz"].map(|extension| has_extension(out, extension));
        let folder = !grid && !arrays;
        let why = |what: &str| format!("is for {what}, and --out {} is none", out.display());
        for (given, option, fits, what) in
            [(self.resume, "--resume", folder, "a folder of PNGs"), (self.show, "--show", grid, "a .png grid")]
        {
            ensure!(!given || fits, "{option} {}", why(what));
        }
        for (name, fits, what) in [
            ("output.subdirs", folder, "a folder of PNGs"),
            ("output.columns", grid, "a .png grid"),
            ("output.raw", arrays, "an .npz file"),
        ] {
            if !fits {
                self.settings.refuse(settings, &[name], &why(what))?;
            }
        }
        if let Some(extension) = OTHER_FILES.iter().find(|extension| has_extension(out, extension)) {
            bail!("images are not written as .{extension}: let --out be a folder, or end in .png or .npz");
        }
        ensure!(
            !folder || !out.is_file(),
            "--out {} is a file: name a folder, or let the name end in .png or .npz",
            out.display()
        );
        let SampleOutput { subdirs, columns, raw } = settings.output;
        let path = out.to_owned();
        Ok(if grid {
            Destination::Grid { path, overwrite: self.overwrite, columns: (columns > 0).then_some(columns) }
        } else if arrays {
            Destination::Arrays { path, overwrite: self.overwrite, raw }
        } else {
            let run =
                RunOptions { out: path, resume: self.resume, command: repeat::command(), ranks: self.model.ranks()? };
            Destination::Folder { run, subdirs, overwrite: self.overwrite }
        })
    }
}

/// What a run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    out: String,
    samples: usize,
    kept: usize,
    nfe: usize,
    calls: usize,
    solver: String,
    model: String,
    model_sha256: String,
    seconds: f64,
    samples_per_second: f64,
}

/// Makes the samples.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let settings = args.settings.resolve(&SampleSettings::default())?;
    if args.settings.printed(&settings)? {
        return Ok(());
    }
    ensure!(args.latents.batch > 0, "--batch must be at least 1");
    args.plan.check(&args.settings, &settings)?;
    let scratch = match &args.out {
        None if args.show => Some(tempfile::tempdir().context("cannot make a temporary folder")?),
        _ => None,
    };
    let shown = scratch.as_ref().map(|folder| folder.path().join("images.png"));
    let out = shown.as_deref().or(args.out.as_deref()).unwrap_or(Path::new("")); // nowhere in a dry run
    if args.show {
        terminal::check()?;
    }
    let destination = args.destination(out, &settings)?;
    let opened = args.model.open(&args.name, args.latents.batch)?;
    let plan = args.plan.resolve(&opened, &settings.sampler)?;
    let source = args.latents.resolve(&opened)?;
    let model = opened.id(&args.model.compute.precision);
    let sampling =
        Sampling { denoiser: opened.denoiser(), model, plan: &plan, source: &source, batch: args.latents.batch };
    if args.dry_run {
        return output.forecast(&sampling.forecast()?.timed(sampling.denoiser, args.latents.batch)?);
    }
    match destination {
        Destination::Folder { .. } => interrupt::resumable(),
        Destination::Grid { .. } | Destination::Arrays { .. } => {
            check_new_file(out, args.overwrite)?;
        }
    }
    let sampled = sample(&sampling, &destination, terminal)?;
    if args.show && args.model.ranks()?.is_first() {
        terminal::show(out)?;
    }
    let outcome = Outcome {
        out: if scratch.is_some() { "shown".to_owned() } else { out.display().to_string() },
        samples: sampled.samples,
        kept: sampled.kept,
        nfe: plan.nfe(),
        calls: plan.nfe() * opened.spec().calls,
        solver: plan.solver.clone(),
        model: opened.name.clone(),
        model_sha256: opened.hash.clone(),
        seconds: sampled.seconds,
        samples_per_second: (sampled.samples - sampled.kept) as f64 / sampled.seconds,
    };
    output.result(&outcome, || in_words(&outcome))
}

fn in_words(outcome: &Outcome) -> String {
    let Outcome { out, samples, kept, nfe, calls, solver, samples_per_second, .. } = outcome;
    let kept = if *kept > 0 { format!(" ({kept} were there)") } else { String::new() };
    let calls = if calls > nfe { format!(" ({calls} network calls)") } else { String::new() };
    format!(
        "{out}: {samples} samples{kept}, {solver}, {nfe} evaluations{calls} a sample, {samples_per_second:.1} a second"
    )
}
