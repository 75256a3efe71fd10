//! What a run left, but for how and when it was run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::tables;

/// Files by their path, a file alone by no name.
pub type Contents = BTreeMap<String, Vec<u8>>;

/// Everything under a path.
pub fn contents(path: &Path) -> Result<Contents> {
    let mut found = Contents::new();
    walk(path, path, &mut found)?;
    Ok(found)
}

fn walk(root: &Path, path: &Path, found: &mut Contents) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            walk(root, &entry?.path(), found)?;
        }
        return Ok(());
    }
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = timeless(&name, bytes).with_context(|| format!("{name} is torn"))?;
    found.insert(name, bytes);
    Ok(())
}

/// A file without what differs from run to run: times, and where it was run.
fn timeless(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let lines = |text: &str| -> Result<Vec<u8>> {
        let lines = text.lines().map(|line| {
            let mut value = serde_json::from_str(line)?;
            strip(&mut value);
            Ok(value.to_string())
        });
        Ok(lines.collect::<Result<Vec<_>>>()?.join("\n").into_bytes())
    };
    Ok(match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => {
            let mut value = serde_json::from_slice(&bytes)?;
            strip(&mut value);
            value.to_string().into_bytes()
        }
        Some("jsonl") => lines(std::str::from_utf8(&bytes)?)?,
        Some("html") => tables::html(std::str::from_utf8(&bytes)?).into_bytes(),
        Some("md") => tables::markdown(std::str::from_utf8(&bytes)?).into_bytes(),
        Some("csv") => tables::csv(std::str::from_utf8(&bytes)?).into_bytes(),
        _ => bytes,
    })
}

/// Removes seconds and provenance.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.contains("second") && !name.contains("_rate") && name != "provenance");
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

/// In what two differ, in a sentence.
pub fn difference(found: &Contents, expected: &Contents) -> Option<String> {
    let missing = expected.keys().find(|name| !found.contains_key(*name)).map(|name| format!("{name} is missing"));
    let stray = || found.keys().find(|name| !expected.contains_key(*name)).map(|name| format!("{name} is there, too"));
    let other = || {
        found
            .iter()
            .find(|(name, bytes)| expected.get(*name) != Some(*bytes))
            .map(|(name, _)| format!("{name} is another"))
    };
    missing.or_else(stray).or_else(other)
}

/// Bytes under a path; 0 where there is nothing.
pub fn bytes(path: &Path) -> Result<u64> {
    if !path.exists() {
        return Ok(0);
    }
    if path.is_file() {
        return Ok(fs::metadata(path)?.len());
    }
    fs::read_dir(path)?.map(|entry| bytes(&entry?.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_count_and_all_else_does() {
        let of = |name: &str, text: &str| Contents::from([(name.to_owned(), timeless(name, text.into()).unwrap())]);
        let run = of("run.json", r#"{"a": 1, "provenance": {"host": "x"}, "rows": [{"seconds": 2.0, "b": 3}]}"#);
        assert_eq!(difference(&of("run.json", r#"{"a": 1, "rows": [{"search_seconds": 7, "b": 3}]}"#), &run), None);
        assert!(difference(&of("run.json", r#"{"a": 2, "rows": [{"b": 3}]}"#), &run).unwrap().contains("another"));
        assert!(difference(&of("other.json", "{}"), &run).unwrap().contains("missing"));
        assert_eq!(difference(&of("a.jsonl", "{\"b\": 1, \"seconds\": 3}\n"), &of("a.jsonl", "{\"b\": 1}\n")), None);
        assert!(timeless("run.json", b"{\"a\": ".to_vec()).is_err());
        let table = |nfe: u8, seconds: u8| of("t.csv", &format!("nfe,search seconds\n{nfe},{seconds}\n"));
        assert_eq!(difference(&table(3, 1), &table(3, 2)), None);
        assert!(difference(&table(3, 1), &table(4, 1)).unwrap().contains("another"));
        assert!(difference(&of("a.svg", "<svg/>"), &of("a.svg", "<svg></svg>")).is_some());
    }
}
