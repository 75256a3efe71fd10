//! `fewstep eval`: how far images are from a reference, by any of the metrics.

mod metrics;
mod ranges;
mod reference;
mod report;
mod source;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::metrics::keep;
use fewstep_eval::{MeasureOptions, Metric, Protocol, Reference, Summary, measure, summarise};
use fewstep_nn::tch::Device;
use serde_json::json;

use self::metrics::MetricArgs;
use self::ranges::{ProtocolArgs, Ranges};
use self::report::Outcome;
use self::source::Source;
use crate::forecast::Forecast;
use crate::inputs::{Compute, FeatureArgs, LatentArgs, PlanArgs};
use crate::provenance::Provenance;
use crate::ui::{self, Output, Progress};

/// Arguments of `fewstep eval`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep eval samples/ --ref cifar10-32x32.npz --features pt_inception-2015-12-05-6726825d.pth\n  fewstep eval --model edm.pkl --protocol edm --ref ref.npz --features inception.safetensors\n  fewstep eval samples/ --ref cifar10.zip --features inception.safetensors --metrics fid,kid\n  fewstep eval --model fashion-mnist --steps 8 --solver ipndm4 --seeds 0-14999 --ranges 3"
)]
pub struct Args {
    /// Images: a folder, zip or npz file, or any data set; or let --model make some
    #[arg(value_name = "IMAGES", required_unless_present = "model", conflicts_with = "model")]
    pub images: Option<PathBuf>,
    /// Measure images that this model makes: a file, or the name of the built-in one
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Compare with: statistics (.npz with mu and sigma) or a data set [default: the training images of Fashion-MNIST]
    #[arg(long = "ref", value_name = "PATH")]
    pub reference: Option<PathBuf>,
    /// Pad the images of data sets on both sides with zeros to squares of this size
    #[arg(long, value_name = "PIXELS")]
    pub pad_to: Option<usize>,
    /// Use at most so many of the images
    #[arg(long, value_name = "N")]
    pub max_images: Option<usize>,
    #[command(flatten)]
    pub metrics: MetricArgs,
    #[command(flatten)]
    pub protocol: ProtocolArgs,
    #[command(flatten)]
    pub features: FeatureArgs,
    #[command(flatten)]
    pub latents: LatentArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Print what would be measured and the cost in network evaluations, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub compute: Compute,
}

/// Measures.
pub fn run(args: Args, output: Output) -> Result<()> {
    let provenance = Provenance::now();
    let (device, kind) = args.compute.resolve()?;
    ensure!(args.latents.batch > 0, "--batch must be at least 1");
    let (metrics, options) = (args.metrics.list()?, args.metrics.options());
    let protocol = args.protocol.resolve()?;
    let source = Source::open(&args, protocol.as_ref(), device, kind)?;
    let ranges = args.protocol.divide(protocol.as_ref(), source.len(), source.place())?;
    args.metrics.check_counts(&metrics, ranges.each, None)?;
    if args.dry_run {
        let metrics: Vec<&str> = metrics.iter().map(|metric| metric.name()).collect();
        let settings = json!({
            "images": source.len(), "of": source.place(), "metrics": metrics, "sampled": source.sampled_by(),
        });
        let cost = source.sampled_by().map_or(0, |sampled| source.len() * sampled.nfe);
        return Forecast::new(&settings)?.part("images", cost as u64).print(output);
    }
    let network = open_features(&args.features, protocol.as_ref(), source.shape(), device)?;
    // The reference first: it is the side that can be wrong.
    let (_, need) = keep(&metrics, &options);
    let (reference, place) = reference::open(&args, network.as_ref(), source.shape(), need)?;
    args.metrics.check_counts(&metrics, ranges.each, reference.num_images().map(|n| n as usize))?;
    let job = Job { metrics, options, batch: args.latents.batch };
    let summaries = job.run(&source, &ranges, network.as_ref(), &reference)?;
    reference::remark(&reference, &place, network.as_ref());
    let outcome = Outcome {
        metrics: summaries,
        images: source.len(),
        of: source.place().to_owned(),
        ranges: ranges.parts.iter().map(|range| source.numbers(range)).collect(),
        protocol: ranges.title,
        reference: place,
        reference_images: reference.num_images(),
        features: network.id().name.clone(),
        features_sha256: network.id().sha256.clone(),
        dimensions: reference.statistics.dim(),
        sampled: source.sampled_by(),
        provenance,
    };
    output.result(&outcome, || outcome.in_words())
}

/// The feature network, under the protocol's input convention if there is one.
fn open_features(
    args: &FeatureArgs,
    protocol: Option<&Protocol>,
    shape: [usize; 3],
    device: Device,
) -> Result<Box<dyn FeatureNetwork>> {
    let Some(protocol) = protocol else { return args.open(shape, device) };
    let args = FeatureArgs { resize: protocol.convention.name().to_owned(), ..args.clone() };
    let network = args.open(shape, device)?;
    ranges::check_features(protocol, network.as_ref())?;
    Ok(network)
}

/// What is to be measured.
struct Job {
    metrics: Vec<Metric>,
    options: MeasureOptions,
    batch: usize,
}

impl Job {
    /// Measures the ranges one by one; only one range's features are in memory at a time.
    fn run(
        &self,
        source: &Source,
        ranges: &Ranges,
        network: &dyn FeatureNetwork,
        reference: &Reference,
    ) -> Result<Vec<Summary>> {
        let (kept, _) = keep(&self.metrics, &self.options);
        let mut found = Vec::new();
        for (index, range) in ranges.parts.iter().enumerate() {
            let name = match ranges.parts.len() {
                1 => "images".to_owned(),
                count => format!("images {}/{count}", index + 1),
            };
            let collected = source.collect(range.clone(), network, kept, self.batch, &name)?;
            let mut bar = Bar::default();
            let mut watch = |what: &str, done, total| bar.set(what, done, total);
            found.push(measure(&self.metrics, &collected, reference, &self.options, &mut watch)?);
        }
        let summaries = summarise(found, ranges.aggregate)?;
        for warning in summaries.iter().flat_map(|summary| &summary.measurement.warnings) {
            ui::note(format!("warning: {warning}"));
        }
        Ok(summaries)
    }
}

/// One progress bar after another, each for what is being computed.
#[derive(Default)]
struct Bar(Option<(String, Progress)>);

impl Bar {
    fn set(&mut self, what: &str, done: u64, total: u64) {
        if self.0.as_ref().is_none_or(|(name, _)| name != what) {
            self.0 = Some((what.to_owned(), Progress::new(what, "parts", total, 0)));
        }
        if let Some((_, progress)) = &mut self.0 {
            progress.set(done, "");
        }
        if done >= total
            && let Some((_, progress)) = self.0.take()
        {
            progress.finish();
        }
    }
}
