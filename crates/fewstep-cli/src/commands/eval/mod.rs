//! `fewstep eval`: how far images are from a reference, by any of the metrics.

mod report;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fewstep::data::{has_extension, open_data};
use fewstep::evaluate::{Against, Division, EvalSettings, Evaluation, MetricSettings, Source, parse_metrics};
use fewstep::features::FeatureOptions;
use fewstep::models::is_model;
use fewstep::provenance::Provenance;
use fewstep::reference::{can_be_padded, references_of};

use crate::inputs::{LatentArgs, ModelArgs, Numbers, PlanArgs, SAMPLER_SETTINGS, SettingsArgs, Typed, feature_options};
use crate::repeat::command;
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep eval`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep eval samples/ --ref cifar10-32x32.npz --features pt_inception-2015-12-05-6726825d.pth\n  fewstep eval edm.pkl --protocol edm --ref ref.npz --features inception.safetensors\n  fewstep eval samples/ --ref cifar10.zip --features inception.safetensors --metrics fid,kid\n  fewstep eval fashion-mnist --steps 8 --solver ipndm4 --seeds 0-14999 --set ranges=3"
)]
pub struct Args {
    #[command(flatten)]
    pub typed: Typed,
    /// Images (a folder, zip or npz file, any data set), or a model that makes them (a file, a built-in one)
    #[arg(value_name = "IMAGES|MODEL")]
    pub what: String,
    #[command(flatten)]
    pub measure: MeasureArgs,
    #[command(flatten)]
    pub latents: LatentArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// What is measured against what.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Measure")]
pub struct MeasureArgs {
    /// A data set to compare with, or statistics (.npz with mu and sigma) of each feature network [default: Fashion-MNIST]
    #[arg(long = "ref", value_name = "LIST", value_delimiter = ',')]
    pub references: Vec<PathBuf>,
    /// Feature networks: .safetensors, Inception's .pth; PROGRAM@bytes[+return_features] runs TorchScript [default: Fashion-MNIST's]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
    /// fid, fid-infinity, kid, inception-score, precision-recall, density-coverage, sliced-wasserstein
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "fid")]
    pub metrics: Vec<String>,
    /// edm (least FID of 3 x 50,000 images), edm-once (seeds 0-49999) or pytorch-fid (its resize)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seeds", "latents", "class"])]
    pub protocol: Option<String>,
    /// Print what would be measured and its cost, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Measures.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    let provenance = Provenance::now(&command());
    let settings = args.settings.resolve(&EvalSettings::default())?;
    if args.settings.printed(&settings)? {
        return Ok(());
    }
    args.check(&settings)?;
    let MeasureArgs { references, features, metrics, protocol, dry_run } = args.measure.clone();
    let EvalSettings { ranges, reduced, resize, data, metrics: of_metrics, .. } = settings.clone();
    let [pad_to, max_images] = [data.pad_to, data.max_images].map(|number| (number > 0).then_some(number));
    let networks = match features.as_slice() {
        [] => vec![FeatureOptions { convention: resize, ..FeatureOptions::file(None) }],
        names => feature_options(names, resize),
    };
    let of_each = references_of(&references, networks.len())?;
    let against = networks.into_iter().zip(of_each);
    let metrics = parse_metrics(&metrics)?;
    MetricSettings::refuse_idle(&metrics, args.settings.names())?;
    let evaluation = Evaluation {
        metrics,
        settings: of_metrics,
        division: match &protocol {
            Some(name) => Division::of_protocol(name, (reduced > 0).then_some(reduced))?,
            None => Division::Ranges(ranges),
        },
        against: against.map(|(features, reference)| Against { reference, pad_to, features }).collect(),
        batch: args.latents.batch,
        device: args.model.compute.place.resolve()?,
        ranks: args.model.ranks()?,
    };
    let measure = |source: &Source| -> Result<()> {
        if dry_run {
            return output.forecast(&evaluation.forecast(source)?);
        }
        let result = report::Outcome { result: evaluation.run(source, terminal)?, provenance };
        output.result(&result, || result.in_words())
    };
    if !is_model(&args.what) {
        let path = Path::new(&args.what);
        ensure!(path.exists(), "there is neither a data set nor a model {}: check the path", args.what);
        args.refuse_of_models(&settings)?;
        // arrays are used as they are, and what is padded may be the reference alone
        let padded =
            pad_to.filter(|_| !has_extension(path, "npz") || !references.iter().any(|path| can_be_padded(path)));
        return measure(&Source::Stored { dataset: &open_data(path, padded, max_images)?, place: &args.what });
    }
    let why = "is for stored images: with a model, --seeds says how many";
    args.settings.refuse(&settings, &["data.max_images"], why)?;
    if !references.iter().any(|path| can_be_padded(path)) {
        args.settings.refuse(&settings, &["data.pad_to"], "is for images of a data set: name one with --ref")?;
    }
    let opened = args.model.open(&args.what, args.latents.batch)?;
    let plan = args.plan.resolve(&opened, &settings.sampler)?;
    let mut latents = args.latents.clone();
    if let Some(seeds) = evaluation.division.seeds() {
        latents.seeds = Numbers(seeds);
    }
    measure(&Source::Sampled { opened: &opened, plan: &plan, latents: &latents.resolve(&opened)? })
}

impl Args {
    /// Refuses settings that the options overrule, or that lack what they are for.
    fn check(&self, settings: &EvalSettings) -> Result<()> {
        ensure!(self.latents.batch > 0, "--batch must be at least 1");
        let refuse = |names: &[&str], why: &str| self.settings.refuse(settings, names, why);
        match &self.measure.protocol {
            Some(name) => {
                let why = format!("cannot be used with --protocol {name}, which says it");
                refuse(&["ranges", "resize", "data.max_images"], &why)?;
            }
            None => refuse(&["reduced"], "is for a rehearsal of a protocol: name it with --protocol")?,
        }
        self.plan.check(&self.settings, settings)
    }

    /// Refuses what says how a model makes images, where they are stored.
    fn refuse_of_models(&self, settings: &EvalSettings) -> Result<()> {
        let why = format!("says how a model makes images, and those of {} are stored: leave it out", self.what);
        self.typed.refuse::<LatentArgs>(&["batch"], &why)?;
        self.typed.refuse::<PlanArgs>(&[], &why)?;
        self.typed.refuse::<ModelArgs>(&["device", "threads"], &why)?;
        self.settings.refuse(settings, &SAMPLER_SETTINGS, &why)
    }
}
