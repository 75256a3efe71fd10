//! Evaluation: how far images are from a reference, by any of the metrics.

mod against;
mod ranges;
mod settings;
mod source;

use fewstep_core::observe::{Event, Observer, Progress};
use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::metrics::keep;
use fewstep_eval::{Metric, Reference, Summary, measure, summarise};
use fewstep_nn::Ranks;
use fewstep_nn::tch::Device;
use serde::Serialize;
use serde_json::json;

pub use self::against::Against;
pub use self::ranges::{Division, Ranges};
pub use self::settings::{EvalData, EvalSettings, MetricSettings};
pub use self::source::{Sampled, Source};
use crate::error::{Result, ensure};
use crate::features::FeatureOptions;
use crate::forecast::{Forecast, product};
use crate::measure::few_images;

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The metrics, in the order in which they are reported; all come from one pass.
    pub metrics: Vec<Metric>,
    /// Their settings.
    pub settings: MetricSettings,
    /// How the images are divided.
    pub division: Division,
    /// What they are compared with, and by which feature networks; images are made once for all.
    pub against: Vec<Against>,
    /// Images at once.
    pub batch: usize,
    /// Where features are computed.
    pub device: Device,
    /// The processes that share the work.
    pub ranks: Ranks,
}

/// The result, with what it depends on.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluated {
    /// Every number.
    pub metrics: Vec<Summary>,
    /// Images of all ranges together.
    pub images: usize,
    /// Where they come from.
    pub of: String,
    /// First and last seed (or place in the order of names) of every range.
    pub ranges: Vec<[u64; 2]>,
    /// The protocol, if one was followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The feature networks, in the order of their metrics.
    pub networks: Vec<Compared>,
    /// How the images were made, if they were made now.
    #[serde(flatten)]
    pub sampled: Option<Sampled>,
}

/// What images were compared with under one feature network.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// What they were compared with.
    pub reference: String,
    /// How many images that is of, where it is known.
    pub reference_images: Option<u64>,
    /// The feature network.
    pub features: String,
    /// SHA-256 of its weights.
    pub features_sha256: String,
    /// Features an image.
    pub dimensions: usize,
}

/// The metrics of these names.
///
/// # Errors
/// If there is none of a name, or one is named twice.
pub fn parse_metrics<T: AsRef<str>>(names: &[T]) -> Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for name in names.iter().map(|name| name.as_ref().trim()) {
        let metric = Metric::parse(name)?;
        ensure!(!metrics.contains(&metric), "--metrics names {name} twice");
        metrics.push(metric);
    }
    Ok(metrics)
}

impl Evaluation {
    /// What it would do, and its cost.
    ///
    /// # Errors
    /// If the images are too few, or cannot be divided.
    pub fn forecast(&self, source: &Source) -> Result<Forecast> {
        self.divide(source)?;
        let metrics: Vec<&str> = self.metrics.iter().map(|metric| metric.name()).collect();
        let sampled = source.sampled_by();
        let settings = json!({
            "images": source.len(), "of": source.place(), "metrics": metrics, "sampled": sampled, "settings": self.settings,
        });
        let (nfe, calls) = sampled.map_or((0, 1), |sampled| (sampled.nfe, sampled.calls / sampled.nfe.max(1)));
        Ok(Forecast::new(&settings, calls)?.part("images", product([source.len() as u64, nfe as u64])))
    }

    fn divide(&self, source: &Source) -> Result<Ranges> {
        ensure!(self.batch > 0, "a batch must have at least 1 image");
        let ranges = self.division.divide(source.len(), source.place())?;
        self.settings.check_counts(&self.metrics, ranges.each, None)?;
        Ok(ranges)
    }

    /// Measures the images; only one range's features are in memory at a time.
    ///
    /// # Errors
    /// If images, reference and feature network do not fit each other or the metrics, images cannot be made or are not finite, or the
    /// observer asks for the end.
    pub fn run(&self, source: &Source, observer: &dyn Observer) -> Result<Evaluated> {
        let (ranges, shape) = (self.divide(source)?, source.shape()?);
        ensure!(!self.against.is_empty(), "there is no feature network to compare images by");
        let networks = self.against.iter().map(|against| self.features(against, shape)).collect::<Result<Vec<_>>>()?;
        // The references first: they are the side that can be wrong.
        let (_, need) = keep(&self.metrics, &self.settings.options());
        let (mut references, mut compared) = (Vec::new(), Vec::new());
        for (against, network) in self.against.iter().zip(&networks) {
            let (reference, place) =
                against.open(network.as_ref(), shape, (need, self.batch), (observer, &self.ranks))?;
            let count = reference.num_images().map(|count| count as usize);
            self.settings.check_counts(&self.metrics, ranges.each, count)?;
            compared.push(Compared {
                reference: place,
                reference_images: reference.num_images(),
                features: network.id().name.clone(),
                features_sha256: network.id().sha256.clone(),
                dimensions: reference.statistics.dim(),
            });
            references.push(reference);
        }
        let metrics = self.measure(source, &ranges, &networks, &references, observer)?;
        let compares = self.metrics.iter().any(|metric| metric.compares_features());
        for (reference, compared) in references.iter().zip(&compared).filter(|_| compares) {
            remark(reference, compared, observer);
        }
        Ok(Evaluated {
            metrics,
            images: source.len(),
            of: source.place().to_owned(),
            ranges: ranges.parts.iter().map(|range| source.numbers(range)).collect(),
            protocol: self.division.title(),
            networks: compared,
            sampled: source.sampled_by(),
        })
    }

    /// A feature network, under the protocol's input convention if there is one.
    fn features(&self, against: &Against, shape: [usize; 3]) -> Result<Box<dyn FeatureNetwork>> {
        let options = &against.features;
        let Some(protocol) = self.division.protocol() else { return options.open(shape, self.device) };
        let options = FeatureOptions { convention: protocol.convention, ..options.clone() };
        let network = options.open(shape, self.device)?;
        ranges::check_features(protocol, network.as_ref())?;
        Ok(network)
    }

    fn measure(
        &self,
        source: &Source,
        ranges: &Ranges,
        networks: &[Box<dyn FeatureNetwork>],
        references: &[Reference],
        observer: &dyn Observer,
    ) -> Result<Vec<Summary>> {
        let options = self.settings.options();
        let (kept, _) = keep(&self.metrics, &options);
        let mut found = Vec::new();
        for (index, range) in ranges.parts.iter().enumerate() {
            let name = match ranges.parts.len() {
                1 => "images".to_owned(),
                count => format!("images {}/{count}", index + 1),
            };
            let collected =
                source.collect(range.clone(), networks, kept, self.batch, (&name, observer, &self.ranks))?;
            let mut of_range = Vec::new();
            for (collected, reference) in collected.iter().zip(references) {
                let mut tasks = Tasks { observer, current: None };
                let mut watch = |what: &str, done, total| tasks.set(what, done, total);
                of_range.extend(measure(&self.metrics, collected, reference, &options, &mut watch)?);
            }
            found.push(of_range);
        }
        let summaries = summarise(found, ranges.aggregate)?;
        for warning in summaries.iter().flat_map(|summary| &summary.measurement.warnings) {
            observer.event(Event::Note(&format!("warning: {warning}")));
        }
        Ok(summaries)
    }
}

/// Tells what is to be known of the reference beside the result.
fn remark(reference: &Reference, compared: &Compared, observer: &dyn Observer) {
    if reference.statistics.features.is_none() {
        observer.event(Event::Note(&format!(
            "note: {} does not say which features it is of; that they are those of {} could be checked by their number only",
            compared.reference, compared.features
        )));
    }
    if let Some(warning) = few_images(&reference.statistics) {
        observer.event(Event::Note(&warning));
    }
}

/// One task after another, each named for what is being computed.
struct Tasks<'a> {
    observer: &'a dyn Observer,
    current: Option<(String, Progress<'a>)>,
}

impl Tasks<'_> {
    fn set(&mut self, what: &str, done: u64, total: u64) {
        if self.current.as_ref().is_none_or(|(name, _)| name != what) {
            self.current = None; // ended before the next begins
            self.current = Some((what.to_owned(), Progress::new(self.observer, what, "parts", total, 0)));
        }
        if let Some((_, progress)) = &mut self.current {
            progress.set(done, "");
        }
        if done >= total {
            self.current = None;
        }
    }
}
