//! Zip archives in the layout of EDM's data-set tool: images and a `dataset.json`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use zip::ZipArchive;

use super::decode::{self, Raw};
use super::images::count_classes;
use super::{FORMAT, Format, Opened, Source, labels, member};
use crate::archive::{self, Buffered};
use crate::{Error, Result};

/// An archive with its images sorted by name, as EDM sorts them.
#[derive(Debug)]
pub(super) struct EdmZip {
    place: String,
    archive: Mutex<ZipArchive<Buffered<File>>>,
    /// Indices in the archive, which has the names: there may be millions.
    images: Vec<usize>,
}

/// What is in the archive at `path`.
pub(super) fn open(path: &Path, mut archive: ZipArchive<Buffered<File>>) -> Result<Opened> {
    let place = path.display().to_string();
    let (mut images, mut foreign) = (Vec::new(), Vec::new());
    for index in 0..archive.len() {
        let Some(name) = archive.name_for_index(index) else {
            continue;
        };
        member::check_name(name, &place)?;
        if decode::is_image(name) && !member::is_clutter(name) {
            images.push(index);
        } else if member::is_foreign_image(name) && !member::is_clutter(name) {
            foreign.push(name.to_owned());
        }
    }
    let name = |index: &usize| archive.name_for_index(*index).unwrap_or_default();
    images.sort_by(|a, b| name(a).cmp(name(b)));
    member::refuse_foreign(&mut foreign, &place)?;
    if images.is_empty() {
        return Err(Error::format(FORMAT, place, "the archive holds no PNG or JPEG images"));
    }
    let labels = match archive.index_for_name(labels::FILE) {
        Some(index) => {
            let len = path.metadata().map_err(|e| Error::read(path, e))?.len();
            let json = read_member(&mut archive, index, labels::max_member(len))
                .map_err(|reason| Error::format(FORMAT, &place, format!("its member {:?}: {reason}", labels::FILE)))?;
            labels::parse(&json, images.len(), |at| archive.name_for_index(images[at]).unwrap_or_default(), &place)?
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
        let archive_index = *self.images.get(index).ok_or_else(|| Error::ImageIndex {
            dataset: self.place.clone(),
            index,
            len: self.images.len(),
        })?;
        let failed = |reason: String| Error::image(&self.place, &self.member(index), reason);
        let file = {
            // A panic in another thread leaves the archive usable: every read seeks first.
            let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
            read_member(&mut archive, archive_index, decode::MAX_FILE)
        };
        file.and_then(|file| decode::decode(&file)).map_err(failed)
    }

    pub fn member(&self, index: usize) -> String {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        self.images.get(index).and_then(|index| archive.name_for_index(*index)).unwrap_or_default().to_owned()
    }
}

/// Unpacks one member into memory; grows with what is really there, up to `limit`.
///
/// # Errors
/// A sentence if it is damaged or too large.
fn read_member(archive: &mut ZipArchive<Buffered<File>>, index: usize, limit: u64) -> Result<Vec<u8>, String> {
    let file = archive.by_index(index).map_err(|e| format!("the zip archive is damaged: {}", archive::reason(&e)))?;
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
