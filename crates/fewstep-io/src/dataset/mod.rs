//! Data sets of images, as u8 `[channels, height, width]` with optional class labels.
//!
//! [`Dataset::open`] finds out by itself which of these it was given:
//!
//! | what | labels |
//! |---|---|
//! | EDM zip: PNG or JPEG members | `dataset.json` in it |
//! | image folder, searched recursively | `dataset.json` in it, otherwise its subfolders sorted by name |
//! | IDX (`*-images-idx3-ubyte[.gz]`), the file or a folder with it (the training part is preferred) | the IDX file of labels beside it |
//! | CIFAR-10 binary (`data_batch_*.bin`): a file, the folder, or the `.tar.gz` | in the records |
//! | CIFAR-10 for Python (`data_batch_*`): the folder or the `.tar.gz` | in the batches |
//!
//! Zip and folder images are decoded when asked for; the others are held in memory. Nothing is ever unpacked to disk.

mod cifar;
mod decode;
mod edm_zip;
mod fingerprint;
mod folder;
mod idx;
mod images;
mod labels;
mod member;
mod open;
mod pad;
mod prepare;
mod subset;
mod unusable;
mod whole;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

pub use images::Images;
pub use prepare::{PrepareOptions, Prepared, prepare};

use crate::{Error, Result};
use decode::Raw;

/// How to open a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatasetOptions {
    /// Pad images with zeros (black), centred, to a square of this size; for Fashion-MNIST 28 to 32.
    pub pad_to: Option<usize>,
    /// Use at most this many images: a random but fixed subset, in the original order.
    pub max_size: Option<usize>,
    /// Seed of that subset.
    pub subset_seed: u64,
}

/// Format in which a data set is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    EdmZip,
    Folder,
    Idx,
    CifarBinary,
    CifarPython,
    Memory,
}

/// An opened data set.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    path: PathBuf,
    format: Format,
    /// Channels, height and width of the images as stored.
    stored: [usize; 3],
    pad_to: Option<usize>,
    num_classes: usize,
    labels: Option<Vec<u32>>,
    /// For each image its index in the source.
    indices: Vec<usize>,
    source: Source,
    /// Files that hold the data, with the names under which the fingerprint counts them.
    files: Vec<(String, PathBuf)>,
}

#[derive(Debug)]
enum Source {
    Zip(edm_zip::EdmZip),
    Folder(folder::Folder),
    Memory(Vec<u8>),
}

/// What the reader of a format gives.
struct Opened {
    format: Format,
    source: Source,
    len: usize,
    labels: Option<Vec<u32>>,
    num_classes: usize,
    /// Known for formats held in memory; otherwise the first image tells.
    stored: Option<[usize; 3]>,
    files: Vec<(String, PathBuf)>,
}

impl Dataset {
    /// Opens a data set as it is.
    ///
    /// # Errors
    /// If there is nothing at `path`, if it is none of the known formats, or if it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &DatasetOptions::default())
    }

    /// Opens a data set with padding or a size limit.
    ///
    /// # Errors
    /// As [`Dataset::open`], or if images are larger than `pad_to`, or if `max_size` is 0.
    pub fn open_with(path: impl AsRef<Path>, options: &DatasetOptions) -> Result<Self> {
        let path = path.as_ref();
        let opened = open::detect(path)?;
        let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let name = stem.map_or_else(|| path.display().to_string(), |stem| stem.to_string_lossy().into_owned());
        Self::assemble(name, path.to_owned(), opened, options)
    }

    /// A data set of images in memory, for example generated ones.
    ///
    /// # Errors
    /// If there are no images.
    pub fn from_images(name: &str, images: Images) -> Result<Self> {
        let opened = Opened {
            format: Format::Memory,
            len: images.len(),
            num_classes: images.num_classes,
            stored: Some([images.channels, images.height, images.width]),
            labels: images.labels,
            source: Source::Memory(images.data),
            files: Vec::new(),
        };
        Self::assemble(name.to_owned(), PathBuf::from(name), opened, &DatasetOptions::default())
    }

    /// A data set of IDX images and their labels in memory, gzipped or not: of files that come with a program.
    ///
    /// # Errors
    /// As [`Dataset::open_with`].
    pub fn from_idx(name: &str, images: &[u8], labels: &[u8], options: &DatasetOptions) -> Result<Self> {
        Self::assemble(name.to_owned(), PathBuf::from(name), idx::of_bytes(images, labels, name)?, options)
    }

    fn assemble(name: String, path: PathBuf, opened: Opened, options: &DatasetOptions) -> Result<Self> {
        let Opened { format, source, len, labels, num_classes, stored, files } = opened;
        let place = path.display().to_string();
        if len == 0 {
            return Err(Error::format(FORMAT, place, "it holds no images"));
        }
        if labels.as_ref().is_some_and(|labels| labels.len() != len) {
            let count = labels.map_or(0, |labels| labels.len());
            return Err(Error::format(FORMAT, place, format!("it has {len} images but {count} labels")));
        }
        let indices = match options.max_size {
            Some(0) => {
                return Err(Error::format(FORMAT, place, "a subset of 0 images was asked for"));
            }
            Some(max_size) => subset::fixed_subset(len, max_size, options.subset_seed),
            None => (0..len).collect(),
        };
        let labels = labels.map(|all| indices.iter().filter_map(|&i| all.get(i).copied()).collect());
        let mut dataset = Dataset {
            name,
            path,
            format,
            stored: stored.unwrap_or_default(),
            pad_to: None,
            num_classes,
            labels,
            indices,
            source,
            files,
        };
        if stored.is_none() {
            // The first image of the whole set, so that a subset sees the same sizes. One that cannot be read is counted
            // with the others when they are loaded; here it only must not hide them.
            let first = (0..len).find_map(|index| dataset.raw(index).ok());
            dataset.stored = first.map_or_else(|| dataset.raw(0).map(|raw| raw.sizes()), |raw| Ok(raw.sizes()))?;
        }
        dataset.pad_to = options.pad_to;
        if let Some(to) = options.pad_to {
            pad::check(dataset.stored, to, &dataset.path)?;
        }
        Ok(dataset)
    }

    /// Name of the file or folder, without its extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Format in which it is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Never true: a data set without images cannot be opened.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Height and width of the images, after padding.
    pub fn resolution(&self) -> (usize, usize) {
        match self.pad_to {
            Some(to) => (to, to),
            None => (self.stored[1], self.stored[2]),
        }
    }

    /// Channels of the images: 1 or 3.
    pub fn channels(&self) -> usize {
        self.stored[0]
    }

    /// Number of classes; 0 without labels.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Class of an image, below [`Dataset::num_classes`]; `None` without labels or past the end.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.labels.as_ref()?.get(index).copied()
    }

    /// Number of images of each class, [`Dataset::num_classes`] of them; empty without labels.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.num_classes];
        for &label in self.labels().unwrap_or_default() {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// Classes without a single image, as labels that skip a number leave them; a network learns nothing of them.
    pub fn empty_classes(&self) -> Vec<usize> {
        self.class_counts().iter().enumerate().filter(|(_, count)| **count == 0).map(|(class, _)| class).collect()
    }

    /// Classes of all images; `None` without labels.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// One image, u8 `[channels, height, width]`.
    ///
    /// # Errors
    /// If the index is past the end, or if the image cannot be decoded or differs from the others in size or channels.
    pub fn image(&self, index: usize) -> Result<Vec<u8>> {
        let source_index = *self.indices.get(index).ok_or_else(|| Error::ImageIndex {
            dataset: self.place(),
            index,
            len: self.len(),
        })?;
        let raw = self.raw(source_index)?;
        if raw.sizes() != self.stored {
            return Err(Error::MixedImages {
                dataset: self.place(),
                member: self.member(source_index),
                found: describe(raw.sizes()),
                expected: describe(self.stored),
            });
        }
        Ok(match self.pad_to {
            Some(to) => pad::pad(&raw.chw, self.stored, to),
            None => raw.chw,
        })
    }

    /// All images in memory.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn load_all(&self) -> Result<Images> {
        self.load(0..self.len())
    }

    /// The images of a range in memory, decoded on all cores.
    ///
    /// # Errors
    /// If the range ends past the end, if there is not enough memory, or, with all that cannot be used counted and the first
    /// twenty named, if an image cannot be decoded or differs from the others in size or channels.
    pub fn load(&self, range: Range<usize>) -> Result<Images> {
        let (height, width) = self.resolution();
        let size = self.channels() * height * width;
        let too_large = || Error::format(FORMAT, self.place(), "it does not fit into memory: use a subset");
        let total = size.checked_mul(range.len()).ok_or_else(too_large)?;
        let mut data = Vec::new();
        data.try_reserve_exact(total).map_err(|_| too_large())?;
        data.resize(total, 0);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = range.len().div_ceil(threads);
        let first = range.start;
        let loaded: Result<()> = thread::scope(|scope| {
            let workers: Vec<_> = data
                .chunks_mut((share * size).max(1))
                .enumerate()
                .map(|(worker, part)| scope.spawn(move || self.load_part(first + worker * share, size, part)))
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(too_large())))
        });
        loaded.map_err(|error| unusable::all(self, error))?;
        let labels = self.labels.as_ref().map(|labels| labels.get(range).unwrap_or_default().to_vec());
        let images = Images::new(data, self.channels(), height, width, labels)?;
        Ok(Images { num_classes: self.num_classes, ..images })
    }

    fn load_part(&self, first: usize, size: usize, part: &mut [u8]) -> Result<()> {
        for (offset, to) in part.chunks_exact_mut(size.max(1)).enumerate() {
            to.copy_from_slice(&self.image(first + offset)?);
        }
        Ok(())
    }

    /// Identifies the stored data, whatever the options: `sha256:` and the hash of the file, or, for several files, of
    /// their names, sizes and contents; beyond 1 GiB `sha256-names:` and the hash of names and sizes alone. Of images in memory, the
    /// hash of their shape, labels and pixels.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        match &self.source {
            Source::Memory(data) if self.files.is_empty() => {
                Ok(fingerprint::of_memory(data, self.stored, self.labels(), self.num_classes))
            }
            _ => fingerprint::fingerprint(&self.files),
        }
    }

    fn raw(&self, source_index: usize) -> Result<Raw> {
        match &self.source {
            Source::Zip(zip) => zip.image(source_index),
            Source::Folder(folder) => folder.image(source_index),
            Source::Memory(data) => {
                let size = self.stored.iter().product::<usize>();
                let chw = data.get(source_index * size..(source_index + 1) * size).unwrap_or_default().to_vec();
                let [channels, height, width] = self.stored;
                Ok(Raw { channels, height, width, chw })
            }
        }
    }

    fn member(&self, source_index: usize) -> String {
        match &self.source {
            Source::Zip(zip) => zip.member(source_index),
            Source::Folder(folder) => folder.member(source_index),
            Source::Memory(_) => format!("image {source_index}"),
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

const FORMAT: &str = "data set";

fn describe([channels, height, width]: [usize; 3]) -> String {
    let kind = if channels == 1 { "grey" } else { "colour" };
    format!("{width}x{height} {kind}")
}
