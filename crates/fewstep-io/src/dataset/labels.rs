//! `dataset.json` of EDM's data-set tool: `{"labels": [["00000/img00000000.png", 6], ...]}`, or `null` labels.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::{FORMAT, unusable};
use crate::{Error, Result, json};

/// Name of the label file.
pub(super) const FILE: &str = "dataset.json";
/// Largest label file read; ImageNet's is 50 MB.
pub(super) const MAX_FILE: u64 = 256 << 20;

/// Largest label file read from an archive of `len` bytes: there may be many labels for each image, and none of them compresses to nothing.
pub(super) fn max_member(len: u64) -> u64 {
    len.saturating_mul(64).saturating_add(1 << 20).min(MAX_FILE)
}

/// Labels of images in their order, which is that of their names.
///
/// # Errors
/// If the file does not parse, lacks images, or has labels that are not class numbers: all such are counted.
pub(super) fn parse<'n>(
    file: &[u8],
    images: usize,
    name: impl Fn(usize) -> &'n str,
    place: &str,
) -> Result<Option<Vec<u32>>> {
    let wrong = |reason: String| Error::format(FORMAT, place, format!("its {FILE} {reason}"));
    let does_not_parse = |reason: String| wrong(format!("does not parse: {reason}"));
    let text = json::text(file).map_err(does_not_parse)?;
    let mut found = Found { images, name: &name, labels: None, bad: unusable::Listed::default() };
    let mut document = serde_json::Deserializer::from_str(&text);
    let parsed = Document(&mut found).deserialize(&mut document).and_then(|()| document.end());
    parsed.map_err(|error| does_not_parse(error.to_string()))?;
    if found.bad.count() > 0 {
        let reason =
            format!("gives {} images a label that is no class number from 0 on: {}", found.bad.count(), found.bad);
        return Err(wrong(reason));
    }
    let Some(labels) = found.labels else { return Ok(None) };
    let mut lacking = unusable::Listed::default();
    for index in labels.iter().enumerate().filter(|(_, label)| label.is_none()).map(|(index, _)| index) {
        lacking.add(|| format!("{:?}", name(index)));
    }
    if lacking.count() > 0 {
        return Err(wrong(format!("has no label for {} images: {lacking}", lacking.count())));
    }
    Ok(Some(labels.into_iter().flatten().collect()))
}

/// What a document says of the images that are there. It is visited entry by entry and nothing else of it is kept: it may name others by
/// the million.
struct Found<'a, F> {
    images: usize,
    name: &'a F,
    /// None where it has no labels.
    labels: Option<Vec<Option<u32>>>,
    bad: unusable::Listed,
}

impl<'n, F: Fn(usize) -> &'n str> Found<'_, F> {
    fn add(&mut self, name: &str, label: Label) {
        // Class counts follow from the largest label, so a wild one would make an absurd network.
        let Label(Some(label @ 0..1_000_000)) = label else {
            return self.bad.add(|| format!("{name:?}"));
        };
        // Python on Windows wrote backslashes.
        let name = if name.contains('\\') { Cow::Owned(name.replace('\\', "/")) } else { Cow::Borrowed(name) };
        let first = self.first(&name);
        let labels = self.labels.get_or_insert_default();
        // of a name that is listed twice, the last counts
        for index in (first..self.images).take_while(|index| (self.name)(*index) == name) {
            labels[index] = Some(label as u32);
        }
    }

    /// Index of the first image whose name is not before this one.
    fn first(&self, name: &str) -> usize {
        let (mut low, mut high) = (0, self.images);
        while low < high {
            let middle = low + (high - low) / 2;
            if (self.name)(middle) < name { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// The whole document.
struct Document<'f, 'a, F>(&'f mut Found<'a, F>);

impl<'de, 'n, F: Fn(usize) -> &'n str> DeserializeSeed<'de> for Document<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, 'n, F: Fn(usize) -> &'n str> Visitor<'de> for Document<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with labels")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<(), M::Error> {
        let mut seen = false;
        while let Some(Text(field)) = fields.next_key()? {
            match field.as_ref() {
                "labels" if seen => return Err(M::Error::duplicate_field("labels")),
                "labels" => {
                    fields.next_value_seed(Listed(self.0))?;
                    seen = true;
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The pairs of a name and a label, or none.
struct Listed<'f, 'a, F>(&'f mut Found<'a, F>);

impl<'de, 'n, F: Fn(usize) -> &'n str> DeserializeSeed<'de> for Listed<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, 'n, F: Fn(usize) -> &'n str> Visitor<'de> for Listed<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names with their labels, or null")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut pairs: S) -> Result<(), S::Error> {
        self.0.labels = Some(vec![None; self.0.images]);
        while let Some((Text(name), label)) = pairs.next_element::<(Text<'_>, Label)>()? {
            self.0.add(&name, label);
        }
        Ok(())
    }
}

/// Borrowed from the document where it stands there as such.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A whole number from 0 on; none for anything else, of which nothing is kept.
struct Label(Option<u64>);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LabelVisitor)
    }
}

struct LabelVisitor;

impl<'de> Visitor<'de> for LabelVisitor {
    type Value = Label;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label")
    }

    fn visit_u64<E: de::Error>(self, label: u64) -> Result<Label, E> {
        Ok(Label(Some(label)))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Label, E> {
        Ok(Label(None))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Label, E> {
        Ok(Label(None))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Label, E> {
        Ok(Label(None))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Label, E> {
        Ok(Label(None))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Label, E> {
        Ok(Label(None))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Label, S::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Label(None))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<Label, M::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Label(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_names_and_is_not_there_leaves_nothing() {
        let names = ["a.png", "b.png"];
        let mut found =
            Found { images: 2, name: &|index: usize| names[index], labels: None, bad: unusable::Listed::default() };
        let text = format!(
            r#"{{"x": [1], "labels": [{} ["b.png", 3], ["a.png", 1]]}}"#,
            r#"["", 0], ["c", [[{}]]],"#.repeat(50_000)
        );
        Document(&mut found).deserialize(&mut serde_json::Deserializer::from_str(&text)).unwrap();
        assert_eq!(found.labels, Some(vec![Some(1), Some(3)]));
        assert_eq!(found.bad.count(), 50_000);
        assert!(found.bad.to_string().len() < 200, "{}", found.bad);
    }
}
