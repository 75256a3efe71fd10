//! `fewstep train`: the EDM recipe.

use anyhow::Result;
use fewstep::training::{self, Architecture, ParameterisationName, TrainOutcome, TrainSettings, TrainTask};

use crate::inputs::{Compute, DataArgs, SettingsArgs};
use crate::interrupt;
use crate::ranks;
use crate::repeat::{RunArgs, warn_of_changes};
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep train`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fewstep train --data fashion-mnist/ --pad-to 32 --out runs/fashion --channels 32 --channel-mult 1,2,2 --blocks 2 --attention 8 --images 500000 --set output.save_every=10000"
)]
pub struct Args {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub compute: Compute,
}

/// The network. (No defaults here: those are the settings'.)
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Architecture: ddpmpp, ncsnpp or adm [default: ddpmpp]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<Architecture>,
    /// Parameterisation: edm, vp, ve or iddpm [default: edm]
    #[arg(long = "precond", value_name = "NAME")]
    pub parameterisation: Option<ParameterisationName>,
    /// Class-conditional: the network is told each image's label
    #[arg(long)]
    pub cond: bool,
    /// Channels at the first level [default: 128]
    #[arg(long, value_name = "N")]
    pub channels: Option<i64>,
    /// Channel factor of each level [default: 2,2,2]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub channel_mult: Option<Vec<i64>>,
    /// Residual blocks a level [default: 4]
    #[arg(long, value_name = "N")]
    pub blocks: Option<i64>,
    /// Resolutions with self-attention [default: 16]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub attention: Option<Vec<i64>>,
}

/// The recipe.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingArgs {
    /// Training images to see in all [default: 200000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub images: Option<u64>,
    /// Images an update [default: 512]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Learning rate after the ramp [default: 0.001]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
    /// Probability of the non-leaky augmentations; 0 for none [default: 0.12]
    #[arg(long, value_name = "P")]
    pub augment: Option<f64>,
    /// Seed of weights, data order and noise [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Trains until the asked number of images has been seen.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let settings = args.settings()?;
    if args.settings.printed(&settings)? {
        return Ok(());
    }
    let device = args.compute.place.resolve()?;
    let dataset = settings.data.open(&args.data.data, args.data.pad_to)?;
    let task = TrainTask::new(&dataset, settings, &args.compute.precision)?;
    warn_of_changes(&task)?;
    if args.run.repeat.dry_run {
        return output.forecast(&task.forecast()?);
    }
    interrupt::resumable();
    let outcome = training::train(task, &dataset, device, &args.run.options(ranks::join()?), terminal)?;
    output.result(&outcome, || in_words(&outcome))
}

fn in_words(outcome: &TrainOutcome) -> String {
    let TrainOutcome { model, images_seen, iterations, loss, images_per_second } = outcome;
    if *iterations == 0 {
        return format!("{model}: it has seen its {images_seen} images already; more --images go on from there");
    }
    let loss = loss.map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
    format!("{model}: {images_seen} images, {iterations} iterations{loss}, {images_per_second:.1} img/s")
}

impl Args {
    /// The defaults, what the settings file and --set say, and what was typed.
    fn settings(&self) -> Result<TrainSettings> {
        let mut settings = self.settings.resolve(&TrainSettings::default())?;
        let TrainSettings { network, training, .. } = &mut settings;
        let NetworkArgs { arch, parameterisation, cond, channels, channel_mult, blocks, attention } =
            self.network.clone();
        put(&mut network.architecture, arch);
        put(&mut network.parameterisation, parameterisation);
        network.conditional |= cond;
        put(&mut network.channels, channels);
        put(&mut network.channel_mult, channel_mult);
        put(&mut network.blocks, blocks);
        put(&mut network.attention, attention);
        let TrainingArgs { images, batch, lr, augment, seed } = self.training.clone();
        put(&mut training.images, images);
        put(&mut training.batch, batch);
        put(&mut training.learning_rate, lr);
        put(&mut training.augment, augment);
        put(&mut training.seed, seed);
        Ok(settings)
    }
}

/// What was typed takes the place of a setting.
fn put<T>(setting: &mut T, typed: Option<T>) {
    if let Some(typed) = typed {
        *setting = typed;
    }
}
