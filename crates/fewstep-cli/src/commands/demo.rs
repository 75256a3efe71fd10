//! `fewstep demo`: what fewstep buys on a model, in minutes, with nothing to download.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fewstep::demo::{DemoResults, DemoTask, demo, forecast, headline, no_help, open, table};
use fewstep::models::BUILT_IN;
use fewstep::runs::{REPORT, RunOptions};
use fewstep_nn::Ranks;

use crate::inputs::{ModelArgs, Numbers};
use crate::repeat::{Repeat, command, warn_of_changes};
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep demo`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep demo edm-cifar10.pkl --steps 6 --out runs/demo")]
pub struct Args {
    /// Model, as for `plan`; the paper's phases are shown on the built-in fashion-mnist alone
    #[arg(value_name = "MODEL", default_value = BUILT_IN)]
    pub name: String,
    /// Folder for report.html and the results; must not exist yet [default: runs/demo, or the next free runs/demo-N]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Numbers of steps
    #[arg(long, value_name = "LIST", default_value = "5,8")]
    pub steps: Numbers,
    /// Images that a row of the table is scored on, or shows [default: 200, or 64 where they are only shown]
    #[arg(long, value_name = "N")]
    pub images: Option<usize>,
    /// Updates of the network in phase 2 [default: 24]
    #[arg(long, value_name = "N")]
    pub updates: Option<u64>,
    #[command(flatten)]
    pub repeat: Repeat,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Runs the demo.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let model = open(&args.name, &args.model.options(1)?)?;
    ensure!(
        args.updates.is_none() || DemoTask::has_phases(&model),
        "--updates is for the paper's phase 2, which the demo shows on the built-in {BUILT_IN} without guidance"
    );
    let images = args.images.unwrap_or(DemoTask::images_of(&model));
    let task =
        DemoTask::new(model.id(&args.model.compute.precision), args.steps.counts(), images, args.updates.unwrap_or(24));
    if args.repeat.dry_run {
        return output.forecast(&forecast(&task, &model)?.timed(model.denoiser(), 64)?);
    }
    warn_of_changes(&task)?;
    let out = args.out.unwrap_or_else(next_free_folder);
    let results = demo(
        task,
        &model,
        &RunOptions { out: out.clone(), resume: false, command: command(), ranks: Ranks::alone() },
        terminal,
    )?;
    output.result(&results, || text(&results, output.colour(), &out.join(REPORT)))
}

fn next_free_folder() -> PathBuf {
    let named = |n: u32| if n == 1 { PathBuf::from("runs/demo") } else { PathBuf::from(format!("runs/demo-{n}")) };
    (1..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(1))
}

/// What the terminal shows.
fn text(results: &DemoResults, colour: bool, report: &Path) -> String {
    let DemoResults { rows, training_rate, sampling_rate, seconds, .. } = results;
    let no_help = no_help(rows).map_or_else(String::new, |text| format!("\n{text}"));
    let training = training_rate
        .map_or_else(String::new, |rate| format!("phase 2: {rate:.1} img/s with its evaluations of the error; "));
    format!(
        "{}\n{}{no_help}\n\n{training}network evaluations: {sampling_rate:.1}/s; {seconds:.0} s in all\nreport: {}",
        table(rows).to_terminal(colour),
        headline(rows),
        report.display()
    )
}
