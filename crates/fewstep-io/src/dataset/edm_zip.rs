//! Zip archives in the layout of EDM's data-set tool: images and a `dataset.json`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use zip::ZipArchive;
use zip::result::ZipError;

use super::decode::{self, Raw};
use super::images::count_classes;
use super::{FORMAT, Format, Opened, Source, labels, member};
use crate::{Error, Result};

/// An archive with its images sorted by name, as EDM sorts them.
#[derive(Debug)]
pub(super) struct EdmZip {
    place: String,
    archive: Mutex<ZipArchive<BufReader<File>>>,
    /// Name and index in the archive.
    images: Vec<(String, usize)>,
}

pub(super) fn open(path: &Path) -> Result<Opened> {
    let place = path.display().to_string();
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&place, e))?;
    let (mut images, mut foreign) = (Vec::new(), Vec::new());
    for index in 0..archive.len() {
        let Some(name) = archive.name_for_index(index) else {
            continue;
        };
        member::check_name(name, &place)?;
        if decode::is_image(name) && !member::is_clutter(name) {
            images.push((name.to_owned(), index));
        } else if member::is_foreign_image(name) && !member::is_clutter(name) {
            foreign.push(name.to_owned());
        }
    }
    images.sort();
    member::refuse_foreign(&mut foreign, &place)?;
    if images.is_empty() {
        return Err(Error::format(FORMAT, place, "the archive holds no PNG or JPEG images"));
    }
    let labels = match archive.index_for_name(labels::FILE) {
        Some(index) => {
            let json = read_member(&mut archive, index, labels::MAX_FILE)
                .map_err(|reason| Error::format(FORMAT, &place, format!("its member {:?}: {reason}", labels::FILE)))?;
            labels::parse(&json, images.iter().map(|(name, _)| name.as_str()), &place)?
        }
        None => None,
    };
    Ok(Opened {
        format: Format::EdmZip,
        len: images.len(),
        num_classes: labels.as_deref().map_or(0, count_classes),
        labels,
        stored: None,
        source: Source::Zip(EdmZip { place, archive: Mutex::new(archive), images }),
        files: vec![(String::new(), path.to_owned())],
    })
}

impl EdmZip {
    pub fn image(&self, index: usize) -> Result<Raw> {
        let (name, archive_index) = self.images.get(index).ok_or_else(|| Error::ImageIndex {
            dataset: self.place.clone(),
            index,
            len: self.images.len(),
        })?;
        let failed = |reason: String| Error::image(&self.place, name, reason);
        let file = {
            // A panic in another thread leaves the archive usable: every read seeks first.
            let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
            read_member(&mut archive, *archive_index, decode::MAX_FILE).map_err(failed)?
        };
        decode::decode(&file).map_err(failed)
    }

    pub fn member(&self, index: usize) -> String {
        self.images.get(index).map_or_else(String::new, |(name, _)| name.clone())
    }
}

fn damaged(place: &str, e: ZipError) -> Error {
    Error::format(FORMAT, place, format!("the zip archive is damaged: {e}"))
}

/// Unpacks one member into memory; grows with what is really there, up to `limit`.
///
/// # Errors
/// A sentence if it is damaged or too large.
fn read_member(archive: &mut ZipArchive<BufReader<File>>, index: usize, limit: u64) -> Result<Vec<u8>, String> {
    let file = archive.by_index(index).map_err(|e| format!("the zip archive is damaged: {e}"))?;
    let size = file.size();
    if size > limit {
        return Err(format!("it declares {size} bytes, more than the {limit} allowed"));
    }
    let mut bytes = Vec::new();
    // One byte more than there may be: the checksum is compared at the end of the member.
    file.take(size + 1).read_to_end(&mut bytes).map_err(|e| format!("it is damaged: {e}"))?;
    if bytes.len() as u64 != size {
        return Err(format!("it is damaged: it declares {size} bytes and holds others"));
    }
    Ok(bytes)
}
