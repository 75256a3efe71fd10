//! What `fewstep eval` prints.

use fewstep_eval::Summary;
use fewstep_eval::protocol::Aggregate;
use serde::Serialize;

use super::source::Sampled;
use crate::provenance::Provenance;

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Every number with what it depends on.
    pub metrics: Vec<Summary>,
    /// Images of all ranges together.
    pub images: usize,
    pub of: String,
    /// First and last seed (or place in the order of names) of every range.
    pub ranges: Vec<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    pub reference: String,
    pub reference_images: Option<u64>,
    pub features: String,
    pub features_sha256: String,
    pub dimensions: usize,
    #[serde(flatten)]
    pub sampled: Option<Sampled>,
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl Outcome {
    /// The same in words.
    pub fn in_words(&self) -> String {
        let width = self.metrics.iter().map(|summary| title(summary).len()).max().unwrap_or_default();
        let mut lines: Vec<String> = self.metrics.iter().map(|summary| line(summary, width)).collect();
        let sampled = self
            .sampled
            .as_ref()
            .map_or(String::new(), |Sampled { solver, nfe, .. }| format!(" by {solver}, {nfe} evaluations an image"));
        let count = self.reference_images.map_or(String::new(), |count| format!(" ({count} images)"));
        let short = self.features_sha256.get(..12).unwrap_or(&self.features_sha256);
        lines.push(format!("images     {} of {}{sampled}{}", self.images, self.of, self.ranges_in_words()));
        lines.extend(self.protocol.as_ref().map(|protocol| format!("protocol   {protocol}")));
        lines.push(format!("reference  {}{count}", self.reference));
        lines.push(format!("features   {} of {} (sha256 {short}...)", self.dimensions, self.features));
        lines.join("\n")
    }

    fn ranges_in_words(&self) -> String {
        if self.ranges.len() < 2 {
            return String::new();
        }
        let what = if self.sampled.is_some() { "seeds" } else { "places" };
        let ranges: Vec<String> = self.ranges.iter().map(|[first, last]| format!("{first}-{last}")).collect();
        format!(", {what} {}", ranges.join(", "))
    }
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
