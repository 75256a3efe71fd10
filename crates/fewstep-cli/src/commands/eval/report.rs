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
        let Evaluated { ranges, sampled, images, .. } = &self.result;
        if ranges.len() < 2 {
            return String::new();
        }
        // latents of a file are known by their places in it
        let seeds = sampled.as_ref().is_some_and(|sampled| sampled.latents_sha256.is_none());
        let each = (images / ranges.len()) as u64;
        let ranges: Vec<String> = ranges.iter().map(|&ends| range_in_words(ends, each)).collect();
        format!(", {} {}", if seeds { "seeds" } else { "places" }, ranges.join(", "))
    }
}

/// So many numbers with this lowest and this highest: `5-14`, `5`, or `3 of 5-14` where others lie between.
fn range_in_words([lowest, highest]: [u64; 2], count: u64) -> String {
    match highest - lowest {
        0 => lowest.to_string(),
        between if between == count.saturating_sub(1) => format!("{lowest}-{highest}"),
        _ => format!("{count} of {lowest}-{highest}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn images_line(images: usize, ranges: &[[u64; 2]], latents_sha256: Option<&str>) -> String {
        let sampled = Sampled {
            model_sha256: "0".to_owned(),
            guidance: None,
            solver: "heun".to_owned(),
            nfe: 3,
            calls: 3,
            class: None,
            latents_sha256: latents_sha256.map(str::to_owned),
        };
        let result = Evaluated {
            metrics: Vec::new(),
            images,
            of: "model".to_owned(),
            ranges: ranges.to_vec(),
            protocol: None,
            networks: Vec::new(),
            sampled: Some(sampled),
        };
        Outcome { result, provenance: Provenance::now(&[]) }.in_words()
    }

    #[test]
    fn ranges_are_called_what_they_are() {
        let by = "of model by heun, 3 evaluations an image";
        let (halves, one_each) = ([[0, 4], [5, 9]], [[5, 5], [0, 0]]);
        assert_eq!(images_line(10, &halves, None), format!("images     10 {by}, seeds 0-4, 5-9"));
        assert_eq!(images_line(10, &halves, Some("1")), format!("images     10 {by}, places 0-4, 5-9"));
        assert_eq!(images_line(4, &halves, None), format!("images     4 {by}, seeds 2 of 0-4, 2 of 5-9"));
        assert_eq!(images_line(2, &one_each, None), format!("images     2 {by}, seeds 5, 0"));
        assert_eq!(images_line(2, &[[0, 5]], None), format!("images     2 {by}"));
    }
}
