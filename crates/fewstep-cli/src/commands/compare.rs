//! `fewstep compare`: models x methods x numbers of evaluations, all scored alike.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fewstep::assets;
use fewstep::compare::{
    CompareSettings, CompareTask, Comparison, PlanFile, Subject, check, compare, default_methods, forecast,
    refuse_empty, refuse_idle, runs_on,
};
use fewstep::data::open_data;
use fewstep::models::{BUILT_IN, OpenModel, is_built_in};
use fewstep::runs::REPORT;
use fewstep::search::Method;
use fewstep_eval::features::Convention;
use fewstep_io::dataset::Dataset;

use super::fit::check_folder;
use crate::inputs::{ModelArgs, Numbers, ScoreArgs, SettingsArgs};
use crate::interrupt;
use crate::repeat::{RunArgs, warn_of_changes};
use crate::ui::{Output, Terminal, note};

const AFTER_HELP: &str = "\
Methods:
  SOURCE/SOLVER, where the source is a schedule (karras, log_snr, vp, ve, iddpm, cosine,
  time_uniform), gits (gits@1.15 with a coefficient of your own), oss or bound; or least-squares,
  which fits a solver of its own. +gauss-newton, +rollout or +levels after any of them refines its
  plans, and +moments (of the teacher's samples) or +data-moments (of --data) at the end matches moments.
  ...+data-moments+nearest takes a solver's plan where its images are nearer to --data.

Examples:
  fewstep compare fashion-mnist --steps 4,5,6 --images 1000 --out runs/compare
  fewstep compare edm-cifar10.pkl --ref cifar10.npz --features inception.safetensors --steps 3-10 \\
      --methods least-squares+gauss-newton+moments,gits@1.15/ipndm4 --images 50000 --out runs/cifar";

/// Arguments of `fewstep compare`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Models: .safetensors files, EDM .pkl files, or built-in ones (fashion-mnist, gaussian-mixture)
    #[arg(value_name = "MODEL", required = true)]
    pub models: Vec<String>,
    /// Methods, written as below [default: ours and every rival]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub methods: Vec<Method>,
    /// Plans from files beside them, whatever --steps says: plan files, or folders of `fewstep plan`, tune or fit
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub plans: Vec<PathBuf>,
    /// Numbers of network evaluations a sample
    #[arg(long, value_name = "LIST", default_value = "3-10")]
    pub steps: Numbers,
    #[command(flatten)]
    pub run: RunArgs,

    #[command(flatten)]
    pub score: ScoreArgs,
    /// Images a cell [default: 5000]
    #[arg(long, value_name = "N", help_heading = "Score")]
    pub images: Option<u64>,

    /// Training images, for bound and +data-moments [default for fashion-mnist: its test images]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Pad images of data sets to squares of this size
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub pad_to: Option<usize>,

    #[command(flatten)]
    pub model: ModelArgs,
    /// Samples at once
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Compute")]
    pub batch: usize,

    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Compares, or goes on comparing.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let settings = args.compare_settings()?;
    if args.settings.printed(&settings)? {
        return Ok(());
    }
    // what can be told without a model, and whether there is a place for the run, before references are made
    let steps = args.steps.counts();
    args.check(&args.methods_on(&[], terminal)?, &steps, &settings)?;
    check_folder::<CompareTask>(&args.run, &args.model.ranks()?)?;
    let models: Vec<OpenModel> =
        args.models.iter().map(|name| args.model.open(name, args.batch)).collect::<Result<_>>()?;
    let methods = args.methods_on(&models, terminal)?;
    args.check(&methods, &steps, &settings)?;
    if args.plans.is_empty() {
        refuse_empty(&methods, &steps, &settings.search, &models)?;
    }
    let subjects = args.subjects(models, &methods, settings.resize, terminal)?;
    let plans: Vec<PlanFile> =
        args.plans.iter().map(|path| PlanFile::open(path, &subjects, terminal)).collect::<fewstep::Result<_>>()?;
    let task = CompareTask::new(&subjects, &methods, &plans, &steps, &settings)?;
    warn_of_changes(&task)?;
    if args.run.repeat.dry_run {
        let forecast = forecast(&task, &subjects)?;
        return output.forecast(&match subjects.as_slice() {
            [subject] => forecast.timed(subject.model.denoiser(), args.batch)?,
            _ => forecast, // models differ in speed
        });
    }
    interrupt::resumable();
    let comparison = compare(task, &subjects, &plans, &args.run.options(args.model.ranks()?), terminal)?;
    output.result(&comparison.rows, || args.text(&comparison, output.colour()))
}

impl Args {
    fn compare_settings(&self) -> Result<CompareSettings> {
        ensure!(self.batch >= 1, "--batch must be at least 1");
        let settings = self.settings.resolve(&CompareSettings::default())?;
        Ok(CompareSettings { images: self.images.unwrap_or(settings.images), ..settings })
    }

    /// Those that were named, or those that these models allow of the default ones.
    fn methods_on(&self, models: &[OpenModel], terminal: &Terminal) -> Result<Vec<Method>> {
        match self.methods.is_empty() {
            true => Ok(default_methods(models, terminal)?),
            false => Ok(self.methods.clone()),
        }
    }

    fn check(&self, methods: &[Method], steps: &[usize], settings: &CompareSettings) -> Result<()> {
        check(methods, steps, settings)?;
        Ok(refuse_idle(methods, self.settings.names())?)
    }

    /// Every model with what its samples are scored by.
    fn subjects(
        &self,
        models: Vec<OpenModel>,
        methods: &[Method],
        convention: Convention,
        terminal: &Terminal,
    ) -> Result<Vec<Subject>> {
        ensure!(
            self.pad_to.is_none() || self.data.is_some() || !self.score.references.is_empty(),
            "--pad-to is for images of a data set: name one with --data or --ref"
        );
        let needs_data = methods.iter().any(Method::needs_data);
        let with_data = |opened: OpenModel| {
            let data = needs_data.then(|| self.training_images(&opened)).transpose()?;
            runs_on(methods, &opened, data.is_some())?;
            Ok((opened, data))
        };
        // of all models, before references of the first are made
        let models = models.into_iter().map(with_data).collect::<Result<Vec<_>>>()?;
        models.into_iter().map(|(opened, data)| self.subject(opened, data, convention, terminal)).collect()
    }

    fn subject(
        &self,
        opened: OpenModel,
        data: Option<Dataset>,
        convention: Convention,
        terminal: &Terminal,
    ) -> Result<Subject> {
        let computing = (self.model.compute.precision.as_str(), self.batch);
        let subject = Subject::open(
            opened,
            computing,
            &self.score.options(convention),
            (&self.score.references, self.pad_to),
            terminal,
        )?;
        if let Some(text) = subject.note() {
            note(text);
        }
        Ok(match data {
            Some(data) => subject.with_data(&data)?,
            None => subject,
        })
    }

    /// Those of --data, or the images that the built-in model comes with.
    fn training_images(&self, opened: &OpenModel) -> Result<Dataset> {
        match &self.data {
            Some(path) => Ok(open_data(path, self.pad_to, None)?),
            None if opened.name == BUILT_IN && is_built_in(BUILT_IN) => Ok(assets::test_images()?),
            None => bail!("the methods bound and any with +data-moments need training images: name them with --data"),
        }
    }

    /// What the terminal shows: the tables of every model, and where the report is.
    fn text(&self, comparison: &Comparison, colour: bool) -> String {
        let of_model = |name: &str| {
            let tables = comparison.tables(name);
            let tables = tables.iter().map(|table| table.to_terminal(colour)).collect::<Vec<_>>();
            format!("{}\n{}", tables.join("\n"), comparison.headline(name))
        };
        let mut parts: Vec<String> = self.models.iter().map(|name| of_model(name)).collect();
        parts.push(format!("report: {}", self.run.out.join(REPORT).display()));
        parts.join("\n")
    }
}
