//! `dataset.json` of EDM's data-set tool: `{"labels": [["00000/img00000000.png", 6], ...]}`, or `null` labels.

use std::collections::HashMap;

use serde::Deserialize;

use super::FORMAT;
use crate::{Error, Result};

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
/// If the file does not parse, lacks an image, or has labels that are not class numbers.
pub(super) fn parse<'a>(json: &[u8], images: impl Iterator<Item = &'a str>, place: &str) -> Result<Option<Vec<u32>>> {
    let wrong = |reason: String| Error::format(FORMAT, place, format!("its {FILE} {reason}"));
    let parsed: DatasetJson = serde_json::from_slice(json).map_err(|e| wrong(format!("does not parse: {e}")))?;
    let Some(listed) = parsed.labels else {
        return Ok(None);
    };
    let mut by_name = HashMap::with_capacity(listed.len());
    for (name, label) in listed {
        // Class counts follow from the largest label, so a wild one would make an absurd network.
        let label = label.as_u64().and_then(|label| u32::try_from(label).ok()).filter(|&label| label < 1_000_000);
        let label = label.ok_or_else(|| wrong(format!("gives {name:?} a label that is no class number from 0 on")))?;
        // Python on Windows wrote backslashes.
        by_name.insert(name.replace('\\', "/"), label);
    }
    let label_of = |name: &str| by_name.get(name).copied().ok_or_else(|| wrong(format!("has no label for {name:?}")));
    images.map(label_of).collect::<Result<Vec<_>>>().map(Some)
}
