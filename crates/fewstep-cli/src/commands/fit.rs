//! `fewstep plan`, `fewstep tune` and `fewstep fit`: plans are found, the network is tuned for them, or both in turn.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep::data::{DataId, DataSettings};
use fewstep::fitting::settings::TuneLoss;
use fewstep::fitting::{
    FitInputs, FitRun, FitSettings, FitTask, Phases, PlanSource, cross_plan_table, fit, forecast, interpolations,
    level_interpolations, open_inputs, open_plans, table,
};
use fewstep::reference::{ImageReference, can_be_padded};
use fewstep::runs::{REPORT, Task, check_free, read_file};
use fewstep_eval::features::Convention;
use fewstep_io::RunFolder;
use fewstep_io::dataset::Dataset;
use fewstep_nn::Ranks;
use fewstep_nn::data::Images;

use crate::inputs::{ModelArgs, Numbers, SettingsArgs, feature_options};
use crate::interrupt;
use crate::repeat::{RunArgs, warn_of_changes};
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep plan`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep plan edm-cifar10.pkl --steps 3,4,5,6,8,10 --out runs/plans")]
pub struct PlanArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments of `fewstep tune`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep tune edm-cifar10.pkl --plan runs/plans --out runs/tuned")]
pub struct TuneArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Plans to tune for, or the folder of `fewstep plan`, in place of --steps and --method [default: finds them first]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["steps", "method"], help_heading = "Tuning")]
    pub plan: Vec<PathBuf>,
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Arguments of `fewstep fit`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fewstep fit edm-cifar10.pkl --data cifar10-32x32.zip --rounds 2 --out runs/cifar10"
)]
pub struct FitArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// How often both phases take turns
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rounds: usize,
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Arguments of all three.
#[derive(Debug, clap::Args)]
pub struct CommonArgs {
    /// Model: .safetensors, EDM's .pkl, or fashion-mnist, gaussian-mixture, gaussian-mixture-classes
    #[arg(value_name = "MODEL")]
    pub name: String,
    #[command(flatten)]
    pub run: RunArgs,
    /// Numbers of network evaluations: one search for all, each tuned on its own
    #[arg(long, value_name = "LIST", default_value = "5,8")]
    pub steps: Numbers,
    /// How plans are found: a method of `fewstep compare`, or paper
    #[arg(long, value_name = "NAME", default_value_t = PlanSource::default())]
    pub method: PlanSource,
    #[command(flatten)]
    pub data: TrainingImages,
    /// Feature networks that score images, or that of distances of features, as for `eval`
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Data")]
    pub features: Vec<String>,
    /// What images should be, to choose among tuned weights, or levels of the method paper: a data set, or statistics
    #[arg(long = "ref", value_name = "LIST", value_delimiter = ',', requires = "features", help_heading = "Data")]
    pub references: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Refuses a folder that a run cannot have, before much is done for it: a feature network may have to see a whole data set first. (The run
/// looks again, and locks it.)
pub fn check_folder<T: Task>(run: &RunArgs, ranks: &Ranks) -> Result<()> {
    // the first process makes the folder, which may be there when others come to this
    if run.repeat.dry_run || !ranks.is_first() {
        return Ok(());
    }
    if run.resume {
        read_file::<T>(&RunFolder::open_to_read(&run.out)?)?;
        return Ok(());
    }
    Ok(check_free(&run.out)?)
}

/// Training images, which not every fit needs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Data")]
#[command(group = clap::ArgGroup::new("padded").args(["data", "references"]).multiple(true))]
pub struct TrainingImages {
    /// Training images: EDM zip, image folder, IDX file or folder, CIFAR-10 archive, npz
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Pad images with zeros to squares of this size (Fashion-MNIST: 32)
    #[arg(long, value_name = "PIXELS", requires = "padded")]
    pub pad_to: Option<usize>,
}

impl TrainingImages {
    /// Refuses padding where neither training images nor these references hold any images that could be padded.
    pub fn check_padding(&self, references: &[PathBuf]) -> Result<()> {
        ensure!(
            self.pad_to.is_none() || self.data.is_some() || references.iter().any(|path| can_be_padded(path)),
            "--pad-to is for images of a data set: name one with --data or --ref"
        );
        Ok(())
    }

    /// Opens the data set, if there is one.
    pub fn open(&self, settings: &DataSettings) -> Result<Option<Dataset>> {
        Ok(self.data.as_ref().map(|path| settings.open(path, self.pad_to)).transpose()?)
    }
}

/// What tuning may be told.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Tuning")]
pub struct TuningArgs {
    /// What tuning minimises: rollout, bound (the paper's), or edm [default: rollout]
    #[arg(long, value_name = "NAME")]
    pub loss: Option<TuneLoss>,
    /// Updates of the network at most [default: 1000]
    #[arg(long, value_name = "N")]
    pub updates: Option<u64>,
    /// Learning rate [default: 5e-4 for rollout, 1e-4 for the others]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
}

impl TuningArgs {
    /// The settings that were given as options.
    fn names(&self) -> impl Iterator<Item = &str> {
        let given = [
            ("tune.loss", self.loss.is_some()),
            ("tune.updates", self.updates.is_some()),
            ("tune.learning_rate", self.lr.is_some()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name))
    }
}

/// `fewstep plan`.
pub fn plan(args: PlanArgs, output: Output, terminal: &Terminal) -> Result<()> {
    run(Phases::Plan, args.common, TuningArgs::default(), &[], 1, output, terminal)
}

/// `fewstep tune`.
pub fn tune(args: TuneArgs, output: Output, terminal: &Terminal) -> Result<()> {
    run(Phases::Tune, args.common, args.tuning, &args.plan, 1, output, terminal)
}

/// `fewstep fit`.
pub fn both(args: FitArgs, output: Output, terminal: &Terminal) -> Result<()> {
    run(Phases::Fit, args.common, args.tuning, &[], args.rounds, output, terminal)
}

fn run(
    phases: Phases,
    args: CommonArgs,
    tuning: TuningArgs,
    plans: &[PathBuf],
    rounds: usize,
    output: Output,
    terminal: &Terminal,
) -> Result<()> {
    let settings = settings(&args.settings, &tuning)?;
    if args.settings.printed(&settings)? {
        return Ok(());
    }
    args.data.check_padding(&args.references)?;
    let opened = args.model.open(&args.name, settings.batch)?;
    let (files, plans): (Vec<_>, Vec<_>) = open_plans(plans, &opened)?.into_iter().unzip();
    let dataset = args.data.open(&settings.data)?;
    let task = FitTask {
        phases,
        model: opened.id(&args.model.compute.precision),
        data: dataset.as_ref().map(DataId::of).transpose()?,
        features: None,
        references: Vec::new(),
        method: args.method,
        steps: match files.is_empty() {
            true => args.steps.counts(),
            false => plans.iter().map(fewstep_core::plan::Plan::nfe).collect(),
        },
        plans: files,
        rounds,
        settings,
    };
    // where weights cannot be had, what tuning would use is told, and not refused
    let as_typed = task.clone();
    let mut task = task.for_model(&opened, terminal);
    task.refuse_idle(args.settings.names().chain(tuning.names()))?;
    task.check(&opened, dataset.as_ref().map(Dataset::len))?;
    as_typed.refuse_idle_images()?;
    check_folder::<FitTask>(&args.run, &args.model.ranks()?)?;
    let named = feature_options(&args.features, Convention::default());
    let scored_by = (args.references.as_slice(), args.data.pad_to);
    let (features, references) = open_inputs(&task, &opened, &named, scored_by, terminal)?;
    task.features = features.as_ref().map(|network| network.id().clone());
    task.references = references.iter().map(ImageReference::id).collect();
    if args.run.repeat.dry_run {
        return output.forecast(&forecast(&task, &opened)?.timed(opened.denoiser(), task.settings.batch)?);
    }
    if !args.run.resume {
        warn_of_changes(&task)?;
    }
    let images = match dataset {
        Some(data) => Some(Images::for_model(data.load_all()?, opened.denoiser())?),
        None => None,
    };
    interrupt::resumable();
    let inputs = FitInputs {
        model: &opened,
        images: images.as_ref(),
        features: features.as_deref(),
        references: &references,
        plans: &plans,
    };
    let done = fit(task, &inputs, &args.run.options(args.model.ranks()?), terminal)?;
    print(&done, &opened.name, output)
}

/// The settings, with what has an option of its own.
fn settings(args: &SettingsArgs, tuning: &TuningArgs) -> Result<FitSettings> {
    let mut settings = args.resolve(&FitSettings::default())?;
    let tune = &mut settings.tune;
    tune.loss = tuning.loss.unwrap_or(tune.loss);
    tune.updates = tuning.updates.unwrap_or(tune.updates);
    tune.learning_rate = tuning.lr.unwrap_or(tune.learning_rate);
    Ok(settings)
}

fn print(done: &FitRun, model: &str, output: Output) -> Result<()> {
    let outcomes = done.outcomes.as_slice();
    output.result(&outcomes, || {
        let tables = [
            Some(table(outcomes)),
            level_interpolations(outcomes),
            interpolations(outcomes),
            cross_plan_table(outcomes),
        ];
        let tables: Vec<String> =
            tables.into_iter().flatten().map(|table| table.to_terminal(output.colour())).collect();
        format!(
            "{}\nmodel {model}; all files, {REPORT} among them, are in {}",
            tables.join("\n"),
            done.folder.display()
        )
    })
}
