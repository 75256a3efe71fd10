//! `dataset.json` of EDM's data-set tool: `{"labels": [["00000/img00000000.png", 6], ...]}`, or `null` labels.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{FORMAT, unusable};
use crate::{Error, Result, json};

/// Name of the label file.
pub(super) const FILE: &str = "dataset.json";
/// Largest label file read; ImageNet's is 50 MB.
pub(super) const MAX_FILE: u64 = 256 << 20;

/// Borrowed from the document, as there may be millions of names.
#[derive(Deserialize)]
struct DatasetJson<'a> {
    #[serde(default, borrow)]
    labels: Option<Vec<(Name<'a>, Label)>>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Number(u64),
    Other(IgnoredAny),
}

/// Labels of `images` in their order.
///
/// # Errors
/// If the file does not parse, lacks images, or has labels that are not class numbers: all such are counted.
pub(super) fn parse<'a>(file: &[u8], images: impl Iterator<Item = &'a str>, place: &str) -> Result<Option<Vec<u32>>> {
    let wrong = |reason: String| Error::format(FORMAT, place, format!("its {FILE} {reason}"));
    let does_not_parse = |reason: String| wrong(format!("does not parse: {reason}"));
    let text = json::text(file).map_err(does_not_parse)?;
    let parsed: DatasetJson = serde_json::from_str(&text).map_err(|error| does_not_parse(error.to_string()))?;
    let Some(listed) = parsed.labels else {
        return Ok(None);
    };
    let (mut by_name, mut bad) = (Vec::with_capacity(listed.len()), Vec::new());
    for (Name(name), label) in listed {
        // Class counts follow from the largest label, so a wild one would make an absurd network.
        match label {
            Label::Number(label @ 0..1_000_000) => {
                // Python on Windows wrote backslashes.
                let name = if name.contains('\\') { Cow::Owned(name.replace('\\', "/")) } else { name };
                by_name.push((name, label as u32));
            }
            Label::Number(_) | Label::Other(_) => bad.push(format!("{name:?}")),
        }
    }
    if !bad.is_empty() {
        let reason =
            format!("gives {} images a label that is no class number from 0 on: {}", bad.len(), unusable::listed(&bad));
        return Err(wrong(reason));
    }
    by_name.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (mut labels, mut lacking) = (Vec::with_capacity(by_name.len()), Vec::new());
    for name in images {
        // of a name that is listed twice, the last counts
        let before = by_name.partition_point(|(listed, _)| listed.as_ref() <= name);
        match before.checked_sub(1).and_then(|place| by_name.get(place)).filter(|(listed, _)| listed == name) {
            Some((_, label)) => labels.push(*label),
            None => lacking.push(format!("{name:?}")),
        }
    }
    if !lacking.is_empty() {
        return Err(wrong(format!("has no label for {} images: {}", lacking.len(), unusable::listed(&lacking))));
    }
    Ok(Some(labels))
}
