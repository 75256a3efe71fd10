//! Data sets.

use std::path::Path;

use fewstep_io::dataset::{Dataset, Format};
use fewstep_report::Format as Number;
use serde_json::json;

use super::Description;
use crate::data::few;
use crate::error::Result;
use crate::pixels;

/// A data set's images and labels.
pub fn describe(path: &Path) -> Result<Description> {
    let dataset = Dataset::open(path)?;
    let (height, width) = dataset.resolution();
    let shape = [dataset.channels(), height, width];
    let format = match dataset.format() {
        Format::EdmZip => "zip of images",
        Format::Folder => "folder of images",
        Format::Idx => "IDX",
        Format::CifarBinary => "CIFAR-10, binary",
        Format::CifarPython => "CIFAR-10, Python",
        Format::Memory => "images in memory",
    };
    let (counts, empty) = (dataset.class_counts(), dataset.empty_classes());
    let filled = || counts.iter().filter(|count| **count > 0);
    let labels = match (filled().min(), filled().max()) {
        (Some(least), Some(most)) if least == most => format!("{} classes of {least} images", filled().count()),
        (Some(least), Some(most)) => format!("{} classes of {least} to {most} images", filled().count()),
        _ => "none".to_owned(),
    };
    let labels = if empty.is_empty() { labels } else { format!("{labels}; without images: {}", few(&empty)) };
    Ok(Description::new("data set")
        .fact("format", format)
        .told("images", dataset.len(), Number::Integer.write(dataset.len() as f64))
        .told("size", json!(shape), pixels::words(shape))
        .told("labels", json!(dataset.labels().map(|_| counts)), labels)
        .fact("fingerprint", dataset.fingerprint()?))
}
