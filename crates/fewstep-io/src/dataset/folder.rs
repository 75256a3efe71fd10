//! Folders of images, searched recursively.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::decode::{self, Raw};
use super::images::count_classes;
use super::{FORMAT, Format, Opened, Source, labels, member, unusable};
use crate::{Error, Result};

/// The images of a folder, sorted by relative name.
#[derive(Debug)]
pub(super) struct Folder {
    place: String,
    /// Relative name, with `/`, and path.
    images: Vec<(String, PathBuf)>,
}

pub(super) fn open(path: &Path) -> Result<Opened> {
    let place = path.display().to_string();
    let mut images = Vec::new();
    let mut foreign = Vec::new();
    walk(path, "", &mut HashSet::new(), &mut images, &mut foreign)?;
    images.sort();
    member::refuse_foreign(&mut foreign, &place)?;
    if images.is_empty() {
        let reason = "the folder holds no PNG or JPEG images, no IDX files and no CIFAR-10 batches";
        return Err(Error::format(FORMAT, place, reason));
    }
    let mut files = images.clone();
    let (labels, num_classes) = match read_json(path)? {
        Some(json) => {
            files.push((labels::FILE.into(), path.join(labels::FILE)));
            let labels = labels::parse(&json, images.len(), |at| &images[at].0, &place)?;
            let num_classes = labels.as_deref().map_or(0, count_classes);
            (labels, num_classes)
        }
        None => from_subfolders(&images, &place)?,
    };
    Ok(Opened {
        format: Format::Folder,
        len: images.len(),
        labels,
        num_classes,
        stored: None,
        source: Source::Folder(Folder { place, images }),
        files,
    })
}

impl Folder {
    pub fn image(&self, index: usize) -> Result<Raw> {
        decode::decode(&self.file(index)?).map_err(|reason| self.failed(index, reason))
    }

    /// The bytes of an image's file.
    pub fn file(&self, index: usize) -> Result<Vec<u8>> {
        let (_, path) = self.images.get(index).ok_or_else(|| Error::ImageIndex {
            dataset: self.place.clone(),
            index,
            len: self.images.len(),
        })?;
        let size = fs::metadata(path).map_err(|e| self.failed(index, e.to_string()))?.len();
        if size > decode::MAX_FILE {
            let reason = format!("the image file has {size} bytes, more than the {} allowed", decode::MAX_FILE);
            return Err(self.failed(index, reason));
        }
        fs::read(path).map_err(|e| self.failed(index, e.to_string()))
    }

    /// Names of the subfolders, which are the classes in their order.
    pub fn classes(&self) -> Vec<String> {
        let shared = shared_folders(&self.images);
        let first = self
            .images
            .iter()
            .filter_map(|(name, _)| name[shared..].split_once('/').map(|(class, _)| class.to_owned()));
        first.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What is wrong with one image.
    pub fn failed(&self, index: usize, reason: String) -> Error {
        Error::image(&self.place, &self.member(index), reason)
    }

    pub fn member(&self, index: usize) -> String {
        self.images.get(index).map_or_else(String::new, |(name, _)| name.clone())
    }
}

/// Collects images below `folder`, and the names of those of kinds that are not read; links are followed, but no folder is entered twice.
fn walk(
    folder: &Path,
    prefix: &str,
    entered: &mut HashSet<PathBuf>,
    images: &mut Vec<(String, PathBuf)>,
    foreign: &mut Vec<String>,
) -> Result<()> {
    let real = folder.canonicalize().map_err(|e| Error::read(folder, e))?;
    if !entered.insert(real) {
        return Ok(());
    }
    let entries: std::io::Result<Vec<_>> = fs::read_dir(folder).and_then(Iterator::collect);
    let mut entries = entries.map_err(|e| Error::read(folder, e))?;
    // Sorted, so that of two links to one folder always the same one counts.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, file_name) = (entry.path(), entry.file_name());
        let name = format!("{prefix}{}", file_name.to_string_lossy());
        if member::is_clutter(&name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, &format!("{name}/"), entered, images, foreign)?;
        } else if decode::is_image(&name) {
            images.push((name, path));
        } else if member::is_foreign_image(&name) {
            foreign.push(name);
        }
    }
    Ok(())
}

fn read_json(folder: &Path) -> Result<Option<Vec<u8>>> {
    let path = folder.join(labels::FILE);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > labels::MAX_FILE => {
            Err(Error::format(FORMAT, path.display().to_string(), "the label file is unreasonably large"))
        }
        Ok(_) => fs::read(&path).map(Some).map_err(|e| Error::read(&path, e)),
        Err(_) => Ok(None),
    }
}

/// Length of the part of all names that folders around all images make, as an unpacked archive has them.
fn shared_folders(images: &[(String, PathBuf)]) -> usize {
    let Some((first, _)) = images.first() else { return 0 };
    let ends = first.match_indices('/').map(|(at, _)| at + 1);
    ends.take_while(|&end| images.iter().all(|(name, _)| name.starts_with(&first[..end]))).last().unwrap_or(0)
}

/// The first folder of each name, below those around all images, is its class. Images all in one folder have none.
fn from_subfolders(images: &[(String, PathBuf)], place: &str) -> Result<(Option<Vec<u32>>, usize)> {
    let shared = shared_folders(images);
    let class_of = |name: &str| name[shared..].split_once('/').map(|(class, _)| class.to_owned());
    let of_each: Vec<Option<String>> = images.iter().map(|(name, _)| class_of(name)).collect();
    let classes: BTreeSet<&String> = of_each.iter().flatten().collect();
    if classes.len() < 2 {
        return Ok((None, 0));
    }
    let classes: Vec<&String> = classes.into_iter().collect();
    let (mut labels, mut stray) = (Vec::with_capacity(images.len()), Vec::new());
    for (class, (name, _)) in of_each.iter().zip(images) {
        let found = class.as_ref().and_then(|class| classes.binary_search(&class).ok());
        match found.and_then(|index| u32::try_from(index).ok()) {
            Some(label) => labels.push(label),
            None => stray.push(name.clone()),
        }
    }
    if !stray.is_empty() {
        let reason = format!(
            "{} of its images lie beside class subfolders: move them into one, or add a {}: {}",
            stray.len(),
            labels::FILE,
            unusable::listed(&stray)
        );
        return Err(Error::format(FORMAT, place, reason));
    }
    Ok((Some(labels), classes.len()))
}
