//! What `fewstep eval` prints.

use fewstep::evaluate::{Compared, Evaluated, Sampled};
use fewstep::provenance::Provenance;
use fewstep_eval::Summary;
use fewstep_eval::protocol::Aggregate;
use serde::Serialize;

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub result: Evaluated,
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl Outcome {
    /// The same in words.
    pub fn in_words(&self) -> String {
        let Evaluated { metrics, images, of, protocol, networks, .. } = &self.result;
        let width = metrics.iter().map(|summary| title(summary).len()).max().unwrap_or_default();
        let by = |summary: &Summary| match (&summary.measurement.features, networks.len()) {
            (Some(features), 2..) => format!(" ({features})"),
            _ => String::new(),
        };
        let mut lines: Vec<String> =
            metrics.iter().map(|summary| format!("{}{}", line(summary, width), by(summary))).collect();
        let sampled = self.result.sampled.as_ref().map_or_else(String::new, sampled_in_words);
        lines.push(format!("images     {images} of {of}{sampled}{}", self.ranges_in_words()));
        lines.extend(protocol.as_ref().map(|protocol| format!("protocol   {protocol}")));
        for Compared { reference, reference_images, features, features_sha256, dimensions } in networks {
            let count = reference_images.map_or(String::new(), |count| format!(" ({count} images)"));
            let short = features_sha256.get(..12).unwrap_or(features_sha256);
            lines.push(format!("reference  {reference}{count}"));
            lines.push(format!("features   {dimensions} of {features} (sha256 {short}...)"));
        }
        lines.join("\n")
    }

    fn ranges_in_words(&self) -> String {
        let Evaluated { ranges, sampled, .. } = &self.result;
        if ranges.len() < 2 {
            return String::new();
        }
        let what = if sampled.is_some() { "seeds" } else { "places" };
        let ranges: Vec<String> = ranges.iter().map(|[first, last]| format!("{first}-{last}")).collect();
        format!(", {what} {}", ranges.join(", "))
    }
}

/// ` by heun, 35 evaluations an image`, with the network calls where those are more.
fn sampled_in_words(sampled: &Sampled) -> String {
    let Sampled { solver, nfe, calls, guidance, .. } = sampled;
    let guided = guidance
        .as_ref()
        .map_or(String::new(), |guidance| format!(" ({calls} network calls) under guidance {}", guidance.weight));
    format!(" by {solver}, {nfe} evaluations an image{guided}")
}

/// `FID  4.2341, the least of 3 seed ranges: 4.3002, 4.2341, 4.2511`.
fn line(summary: &Summary, width: usize) -> String {
    let number = |value: f64| format!("{value:.*}", digits(&summary.measurement.metric));
    let title = title(summary);
    let mut line = format!("{title:width$}  {}", number(summary.measurement.value));
    let least = summary.aggregate == Some(Aggregate::Least);
    if let Some(uncertainty) = summary.measurement.uncertainty.as_ref().filter(|_| !least) {
        line += &format!(" \u{b1} {} ({})", number(uncertainty.value), uncertainty.source);
    }
    if let Some(aggregate) = summary.aggregate {
        let which = match aggregate {
            Aggregate::Least => "the least",
            Aggregate::Mean => "the mean",
        };
        let all: Vec<String> = summary.ranges.iter().map(|&value| number(value)).collect();
        line += &format!(", {which} of {} ranges: {}", all.len(), all.join(", "));
    }
    line
}

/// Published names stay as they are published.
fn title(summary: &Summary) -> &str {
    match summary.measurement.metric.as_str() {
        "fid" => "FID",
        "fid-infinity" => "FID, extrapolated",
        "frechet-distance" => "Frechet distance",
        "frechet-distance-infinity" => "Frechet distance, extrapolated",
        "kid" => "KID",
        "kernel-distance" => "Kernel distance",
        "inception-score" => "Inception score",
        "class-score" => "Class score",
        "precision" => "Precision",
        "recall" => "Recall",
        "density" => "Density",
        "coverage" => "Coverage",
        "sliced-wasserstein" => "Sliced Wasserstein distance",
        other => other,
    }
}

/// Kernel distances are small numbers.
fn digits(metric: &str) -> usize {
    if matches!(metric, "kid" | "kernel-distance") { 6 } else { 4 }
}
