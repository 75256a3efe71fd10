//! What the metadata of our feature networks' safetensors files says.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_io::safetensors::{File, Metadata};

use crate::error::{Error, Result};

/// Value of `format` in the metadata.
const FORMAT: &str = "fewstep features 1";

/// The metadata of a network of this architecture, with `notes` beside it.
pub fn metadata(architecture: &str, notes: &BTreeMap<String, String>) -> Metadata {
    let own = [("format", FORMAT), ("architecture", architecture)];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    notes.clone().into_iter().chain(own).collect()
}

/// Whether a file says that one of our programs wrote it, as a feature network or as something else.
pub fn is_ours(metadata: &Metadata) -> bool {
    metadata.get("format").is_some_and(|format| format.starts_with("fewstep "))
}

/// The architecture that a file names.
///
/// # Errors
/// If the file is no feature network or one of a later version.
pub fn architecture<'a>(path: &Path, file: &'a File) -> Result<&'a str> {
    let metadata = |key: &str| file.metadata.get(key).map(String::as_str);
    match metadata("format") {
        Some(FORMAT) => {
            metadata("architecture").ok_or_else(|| Error::network(path, "its metadata names no architecture"))
        }
        Some(other) if other.starts_with("fewstep features ") => Err(Error::network(
            path,
            format!("it is a '{other}' file, which this version ('{FORMAT}') cannot read; use a newer fewstep"),
        )),
        _ => Err(Error::network(path, format!("its metadata does not say '{FORMAT}', as a feature network's does"))),
    }
}

/// Checks that a file holds a network of this architecture.
///
/// # Errors
/// If it does not.
pub fn expect(path: &Path, file: &File, expected: &str) -> Result<()> {
    match architecture(path, file)? {
        found if found == expected => Ok(()),
        found => Err(Error::network(path, format!("it is a '{found}' network, not '{expected}'"))),
    }
}
