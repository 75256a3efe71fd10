//! What can be typed: one subcommand a file of `commands/`, each with its own arguments.

use clap::{Parser, Subcommand};

use crate::commands;

const EXAMPLES: &str = "\
Examples:
  fewstep demo
  fewstep fit --model edm-cifar10.pkl --phases 1 --steps 3,4,5,6,8,10 --out runs/plans
  fewstep export runs/plans/steps-008/plan.json --to python --out plan_sampler.py

Exit codes: 0 done, 1 failed (one sentence on stderr says why), 2 a command line that cannot be parsed, 130 stopped by Ctrl-C.
Environment: NO_COLOR for plain tables, OMP_NUM_THREADS or --threads for fewer threads, RUST_BACKTRACE=1 for reports of bugs.";

/// Turns a pretrained diffusion model into the best few-step sampler for it.
#[derive(Debug, Parser)]
#[command(
    name = "fewstep",
    version,
    arg_required_else_help = true,
    propagate_version = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// Print the result as JSON on stdout, for scripts
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show on the built-in model what a fit buys: table, report.html
    Demo(commands::demo::Args),
    /// Find noise levels for a budget of steps (phase 1) and tune the network for them (phase 2)
    Fit(commands::fit::Args),
    /// Compare models, methods and numbers of evaluations: table, csv, json, report.html
    Compare(commands::compare::Args),
    /// Repeat the paper's experiments on a model and data of your own
    Reproduce(commands::reproduce::Args),
    /// Write a plan in the form that another tool takes
    Export(commands::export::Args),
    /// Make images
    Sample(commands::sample::Args),
    /// Measure images: FID, KID, inception score, precision and recall, ...
    Eval(commands::eval::Args),
    /// Make a data set of a folder of pictures: squares of one size
    Data(commands::data::Args),
    /// Train a denoiser from scratch (the EDM recipe)
    Train(commands::train::Args),
    /// Turn a checkpoint of the EDM code, or Inception's weights, into a safetensors file
    Import(commands::import::Args),
    /// Apply the denoiser to arrays: how to check an import
    Denoise(commands::denoise::Args),
    /// Make the report of a run folder anew
    Report(commands::report::Args),
    /// Say in words what a file is
    Info(commands::info::Args),
    /// Reference statistics of a data set, for eval
    Ref(commands::reference::Args),
    /// Train a small feature network on a data set's labels, for eval
    Features(commands::features::Args),
    /// Print completions for a shell
    Completions(commands::shell::CompletionsArgs),
    /// Write man pages
    Man(commands::shell::ManArgs),
}
