//! Finds out which kind of data set a path is.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{FORMAT, Opened, cifar, edm_zip, folder, idx};
use crate::{Error, FileKind, Result, archive, kind};

const FORMATS: &str =
    "none of the formats read: a zip of images, a folder of images, IDX images (.gz or not), CIFAR-10 batches";
const NPZ: &str = "it is an npz archive: let its name end in .npz";

/// Opens whatever is at `path`, by its contents rather than its name.
pub(super) fn detect(path: &Path) -> Result<Opened> {
    if !path.exists() {
        return Err(Error::Missing { what: "data set", path: path.to_owned() });
    }
    if path.is_dir() {
        return match (idx::find(path), cifar::find(path)) {
            (Some(images), _) => idx::open(&images),
            (None, Some(batches)) => cifar::open_folder(&batches),
            (None, None) => folder::open(path),
        };
    }
    if let Some(opened) = archive_of(path)? {
        return Ok(opened);
    }
    let is_binary = is_binary(path);
    match FileKind::of_file(path)? {
        _ if is_binary => {}
        // Those that IDX and CIFAR-10 come in, and what has no mark of its own.
        FileKind::Gzip | FileKind::Tar | FileKind::Unknown | FileKind::Text => {}
        found @ FileKind::Picture(_) => {
            let reason = format!("it is {found}: give the folder that holds the pictures");
            return Err(Error::format(FORMAT, path.display().to_string(), reason));
        }
        found => return Err(other_kind(found, path)),
    }
    // 512 bytes are a tar header, which has its mark at 257; the IDX mark stands first.
    let mut start = Vec::new();
    let place = path.display().to_string();
    let peeked = idx::unpacked(path)?.take(512).read_to_end(&mut start);
    peeked.map_err(|e| Error::format(FORMAT, &place, format!("it is damaged: {e}")))?;
    if start.starts_with(&idx::IMAGES_MAGIC) {
        return idx::open(path);
    }
    if start.get(257..262) == Some(b"ustar") {
        return cifar::open_tar(path);
    }
    if is_binary {
        return cifar::open_file(path);
    }
    Err(Error::format(FORMAT, place, format!("it is {FORMATS}")))
}

/// What is in an archive; none where the file is none. It is opened once, as it may have millions of members.
fn archive_of(path: &Path) -> Result<Option<Opened>> {
    let mut file = File::open(path).map_err(|e| Error::read(path, e))?;
    let mut start = [0; 2];
    if file.read_exact(&mut start).is_err() || start != *b"PK" || is_binary(path) {
        return Ok(None);
    }
    let Ok(mut archive) = archive::open(file) else { return Err(other_kind(FileKind::CutZip, path)) };
    match kind::of_archive(&mut archive) {
        FileKind::ImageZip | FileKind::Zip => edm_zip::open(path, archive).map(Some),
        FileKind::Npz => Err(Error::format(FORMAT, path.display().to_string(), NPZ)),
        found => Err(other_kind(found, path)),
    }
}

fn other_kind(found: FileKind, path: &Path) -> Error {
    let advice = if found.advice().is_empty() { String::new() } else { format!("; {}", found.advice()) };
    Error::format(FORMAT, path.display().to_string(), format!("it is {found}, {FORMATS}{advice}"))
}

/// Records of bytes without a mark of their own, which may look like anything.
fn is_binary(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "bin")
}
