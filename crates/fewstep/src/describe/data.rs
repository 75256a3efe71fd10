//! Data sets.

use std::path::Path;

use fewstep_io::dataset::{Dataset, Format};
use fewstep_report::Format as Number;
use serde_json::json;

use super::Description;
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
    let mut counts = vec![0usize; dataset.num_classes()];
    for &label in dataset.labels().unwrap_or_default() {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    let labels = match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if least == most => format!("{} classes of {least} images", counts.len()),
        (Some(least), Some(most)) => format!("{} classes of {least} to {most} images", counts.len()),
        _ => "none".to_owned(),
    };
    Ok(Description::new("data set")
        .fact("format", format)
        .told("images", dataset.len(), Number::Integer.write(dataset.len() as f64))
        .told("size", json!(shape), pixels::words(shape))
        .told("labels", json!(dataset.labels().map(|_| counts)), labels)
        .fact("fingerprint", dataset.fingerprint()?))
}
