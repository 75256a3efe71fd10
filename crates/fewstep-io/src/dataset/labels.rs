//! `dataset.json` of EDM's data-set tool: `{"labels": [["00000/img00000000.png", 6], ...]}`, or `null` labels.

use std::collections::HashMap;

use serde::Deserialize;

use super::{FORMAT, unusable};
use crate::{Error, Result, json};

/// Name of the label file.
pub(super) const FILE: &str = "dataset.json";
/// Largest label file read; ImageNet's is 50 MB.
pub(super) const MAX_FILE: u64 = 256 << 20;

#[derive(Deserialize)]
struct DatasetJson {
    #[serde(default)]
    labels: Option<Vec<(String, serde_json::Value)>>,
}

/// Labels of `images` in their order.
///
/// # Errors
/// If the file does not parse, lacks images, or has labels that are not class numbers: all such are counted.
pub(super) fn parse<'a>(file: &[u8], images: impl Iterator<Item = &'a str>, place: &str) -> Result<Option<Vec<u32>>> {
    let wrong = |reason: String| Error::format(FORMAT, place, format!("its {FILE} {reason}"));
    let parsed: DatasetJson = json::parse(file).map_err(|reason| wrong(format!("does not parse: {reason}")))?;
    let Some(listed) = parsed.labels else {
        return Ok(None);
    };
    let (mut by_name, mut bad) = (HashMap::with_capacity(listed.len()), Vec::new());
    for (name, label) in listed {
        // Class counts follow from the largest label, so a wild one would make an absurd network.
        match label.as_u64().and_then(|label| u32::try_from(label).ok()).filter(|&label| label < 1_000_000) {
            // Python on Windows wrote backslashes.
            Some(label) => by_name.insert(name.replace('\\', "/"), label),
            None => {
                bad.push(format!("{name:?}"));
                None
            }
        };
    }
    if !bad.is_empty() {
        let reason =
            format!("gives {} images a label that is no class number from 0 on: {}", bad.len(), unusable::listed(&bad));
        return Err(wrong(reason));
    }
    let (mut labels, mut lacking) = (Vec::new(), Vec::new());
    for name in images {
        match by_name.get(name) {
            Some(&label) => labels.push(label),
            None => lacking.push(format!("{name:?}")),
        }
    }
    if !lacking.is_empty() {
        return Err(wrong(format!("has no label for {} images: {}", lacking.len(), unusable::listed(&lacking))));
    }
    Ok(Some(labels))
}
