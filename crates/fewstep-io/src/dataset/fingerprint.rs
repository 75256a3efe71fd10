//! One short text that tells two data sets apart.

use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::{Error, Result, hash};

/// Up to this many bytes the contents are hashed, beyond it only names and sizes.
const CONTENT_LIMIT: u64 = 1 << 30;

/// Hash of images in memory. The same bytes are other images in another shape, and other data under other labels.
pub(super) fn of_memory(pixels: &[u8], shape: [usize; 3], labels: Option<&[u32]>, classes: usize) -> String {
    let [channels, height, width] = shape;
    let labelled = labels.map_or("none".to_owned(), |labels| format!("{} of {classes} classes", labels.len()));
    let mut hasher = Sha256::new();
    hasher.update(format!("{channels}x{height}x{width}\0labels: {labelled}\0"));
    labels.unwrap_or_default().iter().for_each(|label| hasher.update(label.to_le_bytes()));
    hasher.update(pixels);
    format!("sha256:{}", hash::hex(&hasher.finalize()))
}

/// Hash of the files, each with the name under which it counts.
pub(super) fn fingerprint(files: &[(String, PathBuf)]) -> Result<String> {
    let mut sizes = Vec::with_capacity(files.len());
    for (_, path) in files {
        sizes.push(fs::metadata(path).map_err(|e| Error::read(path, e))?.len());
    }
    let with_contents = sizes.iter().sum::<u64>() <= CONTENT_LIMIT;
    if let ([(_, path)], true) = (files, with_contents) {
        return Ok(format!("sha256:{}", hash::sha256_file(path)?));
    }
    let mut hasher = Sha256::new();
    for ((name, path), size) in files.iter().zip(sizes) {
        hasher.update(format!("{name}\0{size}\0"));
        if with_contents {
            hash::update_from_file(&mut hasher, path)?;
        }
    }
    let kind = if with_contents { "sha256" } else { "sha256-names" };
    Ok(format!("{kind}:{}", hash::hex(&hasher.finalize())))
}
