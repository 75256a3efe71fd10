//! `fewstep reproduce`: the paper's experiments on a model and data of one's own.

use anyhow::{Result, ensure};
use fewstep::data::DataId;
use fewstep::models::OpenModel;
use fewstep::reference::{ImageReference, ReferenceOptions};
use fewstep::reproduce::{
    Experiment, Preset, ReproduceInputs, ReproduceSettings, ReproduceTask, Reproduction, RowKind, forecast, reproduce,
};
use fewstep_io::dataset::Dataset;
use fewstep_nn::data::Images;

use super::fit::{TrainingImages, check_folder};
use crate::inputs::{ModelArgs, Numbers, ScoreArgs, SettingsArgs};
use crate::interrupt;
use crate::repeat::{RunArgs, warn_of_changes};
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep reproduce`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep reproduce fashion-mnist --data fashion-mnist/ --pad-to 32 --steps 8,20 --out runs/table1\n  fewstep reproduce edm-ffhq-64x64-uncond-vp.pkl --experiment fig2 --preset paper --data ffhq-64x64.zip \\\n      --ref ffhq-64x64.npz --features inception.safetensors --steps 6-20 --out runs/fig2"
)]
pub struct Args {
    /// Model: .safetensors, EDM's .pkl, or fashion-mnist, gaussian-mixture, gaussian-mixture-classes
    #[arg(value_name = "MODEL")]
    pub name: String,
    /// table1 (what each phase buys), fig2 (distance against steps), fig3 (levels), fig4 (weights), objectives (each minimised)
    #[arg(long, value_name = "NAME", default_value_t = Experiment::Table1)]
    pub experiment: Experiment,
    /// Numbers of steps
    #[arg(long, value_name = "LIST", default_value = "8,20")]
    pub steps: Numbers,
    /// Beside the paper's rows: our plan, and our plan with rollout tuning
    #[arg(long)]
    pub ours: bool,
    /// Only these rows: baseline, phase1, phase2, original, both, ours, ours-tuned [default: the paper's]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "ours")]
    pub rows: Vec<RowKind>,
    #[command(flatten)]
    pub run: RunArgs,

    #[command(flatten)]
    pub data: TrainingImages,
    #[command(flatten)]
    pub score: ScoreArgs,

    /// small (hours on two cores) or paper (its own: 50,000 updates, 50,000 images a distance)
    #[arg(long, value_name = "NAME", default_value = "small", help_heading = "Scale")]
    pub preset: Preset,
    /// Images a distance and range of seeds [default: 5000; paper: 50000]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub images: Option<u64>,
    /// Updates of every tuning [default: 1000; paper: 50000]
    #[arg(long, value_name = "N", help_heading = "Scale")]
    pub updates: Option<u64>,

    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Reproduces, or goes on with what an earlier run left undone.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let settings = args.settings()?;
    if args.settings.printed(&settings)? {
        return Ok(());
    }
    let opened = args.model.open(&args.name, settings.fit.batch)?;
    if args.data.data.is_none() {
        args.settings.refuse(&settings, &["fit.data.max_images"], "is for training images: name them with --data")?;
    }
    let dataset = args.data.open(&settings.fit.data)?;
    let task = ReproduceTask {
        experiment: args.experiment,
        steps: args.steps.counts(),
        ours: args.ours,
        only: args.rows.clone(),
        model: opened.id(&args.model.compute.precision),
        data: dataset.as_ref().map(DataId::of).transpose()?,
        references: Vec::new(),
        settings,
    };
    let mut task = task.for_model(&opened, terminal);
    ensure!(
        args.updates.is_none() || opened.network().is_some(),
        "--updates is for rows that tune the network, and {} has no weights",
        args.name
    );
    task.check(&opened, dataset.as_ref().map(Dataset::len))?;
    check_folder::<ReproduceTask>(&args.run, &args.model.ranks()?)?;
    let references = args.references(&opened, &task.settings, terminal)?;
    task.references = references.iter().map(ImageReference::id).collect();
    if args.run.repeat.dry_run {
        return output.forecast(&forecast(&task, opened.spec())?.timed(opened.denoiser(), task.settings.fit.batch)?);
    }
    if !args.run.resume {
        warn_of_changes(&task)?;
    }
    let images = match dataset {
        Some(data) if task.needs_images() => Some(Images::for_model(data.load_all()?, opened.denoiser())?),
        _ => None,
    };
    interrupt::resumable();
    let inputs = ReproduceInputs { model: &opened, images: images.as_ref(), references: &references };
    let done = reproduce(task, &inputs, &args.run.options(args.model.ranks()?), terminal)?;
    output.result(&done.rows, || text(&done, output.colour()))
}

impl Args {
    /// The preset, then what a file says, then what has an option of its own, then single settings.
    fn settings(&self) -> Result<ReproduceSettings> {
        let file = SettingsArgs { set: Vec::new(), ..self.settings.clone() };
        let mut settings = file.resolve(&ReproduceSettings::of(self.preset))?;
        settings.seeds.images = self.images.unwrap_or(settings.seeds.images);
        if let Some(updates) = self.updates {
            settings.set_updates(updates);
        }
        SettingsArgs { settings: None, ..self.settings.clone() }.resolve(&settings)
    }

    /// What scores images; nothing for figures of levels, and where samples are no images.
    fn references(
        &self,
        opened: &OpenModel,
        settings: &ReproduceSettings,
        terminal: &Terminal,
    ) -> Result<Vec<ImageReference>> {
        if !self.experiment.scores() || opened.denoiser().pixel_shape().is_none() {
            return Ok(Vec::new());
        }
        let options = ReferenceOptions { pad_to: self.data.pad_to, batch: settings.fit.batch };
        let (features, references) = (self.score.options(settings.resize), &self.score.references);
        Ok(ImageReference::open_all(opened, &features, references, options, terminal)?)
    }
}

/// What the terminal shows.
fn text(done: &Reproduction, colour: bool) -> String {
    let table = done.table().map_or_else(String::new, |table| table.to_terminal(colour));
    format!("{table}{}\nfigures and report: {}", done.headline(), done.folder.display())
}
