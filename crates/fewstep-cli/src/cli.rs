//! What can be typed, and what it runs: one subcommand a file of `commands/`, each with its own arguments.

use std::ffi::OsString;

use anyhow::{Result, bail};
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{compare, data, demo, denoise, eval, export, features, fit, import};
use crate::commands::{info, reference, report, reproduce, sample, shell, train};
use crate::ranks;
use crate::ui::{self, Output, Terminal};

const EXAMPLES: &str = "\
Examples:
  fewstep demo
  fewstep plan edm-cifar10.pkl --steps 3,4,5,6,8,10 --out runs/plans
  fewstep export runs/plans/steps-008/plan.json --to python --out plan_sampler.py

Exit codes: 0 done, 1 failed (one sentence on stderr says why), 2 a command line that cannot be parsed, 130 stopped by Ctrl-C.
Environment: NO_COLOR for plain tables, OMP_NUM_THREADS or --threads for fewer threads, RUST_BACKTRACE=1 for reports of bugs.";

/// What `cargo xtask licenses` writes.
const LICENSES: &str = include_str!("../THIRD-PARTY.txt");

/// Turns a pretrained diffusion model into the best few-step sampler for it.
#[derive(Debug, Parser)]
#[command(
    name = "fewstep",
    version,
    override_usage = "fewstep [OPTIONS] <COMMAND>",
    arg_required_else_help = true,
    propagate_version = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// Print the result as JSON on stdout, for scripts
    #[arg(long, global = true)]
    pub json: bool,

    /// Processes on this machine that share the work of the command [default: 1, or as torchrun, srun or mpirun started them]
    #[arg(long, global = true, value_name = "N")]
    pub processes: Option<usize>,

    /// Seconds that such processes wait for one another
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = ranks::DEFAULT_PATIENCE)]
    pub timeout: u64,

    /// Print the licences of everything that is in this program
    #[arg(long, exclusive = true)]
    pub licenses: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what plans buy on a model (tuning too, on the built-in one): table, report.html
    Demo(demo::Args),
    /// Find plans: noise levels and solver coefficients for numbers of evaluations
    Plan(fit::PlanArgs),
    /// Tune the network for plans
    Tune(fit::TuneArgs),
    /// Find plans and tune the network for them, in turn (the paper's two phases)
    Fit(fit::FitArgs),
    /// Compare models, methods and numbers of evaluations: table, csv, json, report.html
    Compare(compare::Args),
    /// Repeat the paper's experiments on a model and data of your own
    Reproduce(reproduce::Args),
    /// Write a plan in the form that another tool takes
    Export(export::Args),
    /// Make samples
    Sample(sample::Args),
    /// Measure images: FID, KID, inception score, precision and recall, ...
    Eval(eval::Args),
    /// Make a data set of a folder of pictures: squares of one size
    Data(data::Args),
    /// Train a denoiser from scratch (the EDM recipe)
    Train(train::Args),
    /// Turn a checkpoint of the EDM code, or Inception's weights, into a safetensors file
    Import(import::Args),
    /// Apply the denoiser to arrays: how to check an import
    Denoise(denoise::Args),
    /// Make the report of a run folder anew
    Report(report::Args),
    /// Say in words what a file is
    Info(info::Args),
    /// Reference statistics of a data set, for eval
    Ref(reference::Args),
    /// Train a small feature network on a data set's labels, for eval
    Features(features::Args),
    /// Print completions for a shell
    Completions(shell::CompletionsArgs),
    /// Write man pages
    Man(shell::ManArgs),
}

/// The program, with what every command takes shown in its own help alone.
pub fn shown() -> clap::Command {
    let mut program = Cli::command();
    program.build(); // commands have what is global from here on
    let for_all =
        |arg: Arg| if ["processes", "timeout"].contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg };
    program.mut_subcommands(|command| command.mut_args(for_all))
}

impl Command {
    /// Whether several processes can share its work.
    fn is_shared(&self) -> bool {
        use Command::{Compare, Eval, Fit, Plan, Ref, Reproduce, Sample, Train, Tune};
        matches!(self, Plan(_) | Tune(_) | Fit(_) | Compare(_) | Reproduce(_) | Sample(_) | Eval(_) | Ref(_) | Train(_))
    }
}

impl Cli {
    /// Reads the arguments. Those that every run needs may be left out where it only prints its settings.
    pub fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut program = shown();
        if args.iter().any(|arg| arg == "--print-settings") {
            let unused = |arg: Arg| if arg.is_required_set() { arg.required(false).default_value("-") } else { arg };
            program = program.mut_subcommands(|command| command.mut_args(unused));
        }
        let mut matches = program.try_get_matches_from_mut(args)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut program))
    }

    /// Does what was asked for; the exit code.
    pub fn run(self) -> Result<u8> {
        ranks::wait_for(self.timeout)?;
        match ranks::to_start(self.processes)? {
            Some(processes) => ranks::supervise(processes),
            None => self.work().and_then(|()| ranks::leave()).map(|()| 0),
        }
    }

    fn work(self) -> Result<()> {
        let output = Output::new(self.json);
        let terminal = Terminal::default();
        if self.licenses {
            return ui::print(LICENSES.as_bytes());
        }
        let Some(command) = self.command else { bail!("there is no command: `fewstep --help` lists them") };
        // before anything else: whoever fails says so to the others
        match command.is_shared() {
            true => drop(ranks::join()?),
            false => ranks::refuse()?,
        }
        match command {
            Command::Demo(args) => demo::run(args, output, &terminal),
            Command::Plan(args) => fit::plan(args, output, &terminal),
            Command::Tune(args) => fit::tune(args, output, &terminal),
            Command::Fit(args) => fit::both(args, output, &terminal),
            Command::Compare(args) => compare::run(args, output, &terminal),
            Command::Export(args) => export::run(args, output, &terminal),
            Command::Sample(args) => sample::run(args, output, &terminal),
            Command::Eval(args) => eval::run(args, output, &terminal),
            Command::Data(args) => data::run(args, output, &terminal),
            Command::Train(args) => train::run(args, output, &terminal),
            Command::Import(args) => import::run(args, output, &terminal),
            Command::Denoise(args) => denoise::run(args, output, &terminal),
            Command::Info(args) => info::run(args, output, &terminal),
            Command::Ref(args) => reference::run(args, output, &terminal),
            Command::Features(args) => features::run(args, output, &terminal),
            Command::Reproduce(args) => reproduce::run(args, output, &terminal),
            Command::Report(args) => report::run(args, output, &terminal),
            Command::Completions(args) => shell::completions(args, Self::command()),
            Command::Man(args) => shell::man(args, Self::command(), output),
        }
    }
}
