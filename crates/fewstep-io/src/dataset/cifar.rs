//! CIFAR-10 as its authors publish it: the binary batches and the Python pickles, as a folder or a tar archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{FORMAT, Format, Opened, Source, idx, member};
use crate::pickle::{self, numpy};
use crate::tensors::Dtype;
use crate::{Error, Result};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;
/// One byte of label, then the red, green and blue planes.
const RECORD: usize = 1 + PIXELS;
const CLASSES: u32 = 10;
/// Largest batch file; the real ones have 31 MB.
const MAX_BATCH: u64 = 256 << 20;
/// Most bytes that a tar archive may unpack to; the real ones have 180 MB.
const MAX_TAR: u64 = 2 << 30;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Binary,
    Python,
}

/// Which training batch a file name means, if any.
fn training_batch(name: &str) -> Option<Kind> {
    let number = name.strip_prefix("data_batch_")?;
    match (number.strip_suffix(".bin"), number.parse::<u8>()) {
        (Some(number), _) if number.parse::<u8>().is_ok() => Some(Kind::Binary),
        (None, Ok(_)) => Some(Kind::Python),
        _ => None,
    }
}

/// The folder that holds the batches: `folder` or the one inside it that the archives unpack to.
pub(super) fn find(folder: &Path) -> Option<PathBuf> {
    let inside = ["", "cifar-10-batches-bin", "cifar-10-batches-py"].map(|name| folder.join(name));
    inside.into_iter().find(|f| f.join("data_batch_1.bin").is_file() || f.join("data_batch_1").is_file())
}

/// The training batches of a folder.
pub(super) fn open_folder(folder: &Path) -> Result<Opened> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::read(folder, e))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if training_batch(&name).is_some() {
            files.push((name, entry.path()));
        }
    }
    files.sort();
    let mut batches = BTreeMap::new();
    for (name, path) in &files {
        let file = fs::File::open(path).map_err(|e| Error::read(path, e))?;
        let place = path.display().to_string();
        batches.insert(name.clone(), read_capped(file, MAX_BATCH, &place)?);
    }
    assemble(&batches, files, &folder.display().to_string())
}

/// One binary batch as a data set of its own, for example `test_batch.bin`.
pub(super) fn open_file(path: &Path) -> Result<Opened> {
    let place = path.display().to_string();
    let file = fs::File::open(path).map_err(|e| Error::read(path, e))?;
    let batch = read_capped(file, MAX_BATCH, &place)?;
    let mut all = Batches::default();
    all.add_binary(&batch, &place)?;
    Ok(all.opened(Format::CifarBinary, vec![(String::new(), path.to_owned())]))
}

/// The training batches of a tar archive, gzipped or not.
pub(super) fn open_tar(path: &Path) -> Result<Opened> {
    let place = path.display().to_string();
    let damaged = |e: io::Error| Error::format(FORMAT, &place, format!("the tar archive is damaged: {e}"));
    let mut archive = tar::Archive::new(idx::unpacked(path)?.take(MAX_TAR));
    let mut batches = BTreeMap::new();
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        member::check_name(&name, &place)?;
        let file_name = name.rsplit('/').next().unwrap_or_default().to_owned();
        if entry.header().entry_type().is_file() && training_batch(&file_name).is_some() {
            let (declared, member) = (entry.size(), format!("{name} in {place}"));
            let batch = read_capped(entry, MAX_BATCH, &member)?;
            if batch.len() as u64 != declared {
                let reason =
                    format!("the archive is cut off: {declared} bytes are declared, {} are there", batch.len());
                return Err(Error::format(FORMAT, member, reason));
            }
            batches.insert(file_name, batch);
        }
    }
    // Read to the end, past the tar's own end mark, so that gzip's checksum vouches for every byte.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    assemble(&batches, vec![(String::new(), path.to_owned())], &place)
}

fn read_capped(source: impl Read, limit: u64, place: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = source.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::format(FORMAT, place, format!("it is damaged or cut off: {e}")))?;
    if bytes.len() as u64 > limit {
        return Err(Error::format(
            FORMAT,
            place,
            format!("it has more than {limit} bytes, too many for a CIFAR batch"),
        ));
    }
    Ok(bytes)
}

fn assemble(batches: &BTreeMap<String, Vec<u8>>, files: Vec<(String, PathBuf)>, place: &str) -> Result<Opened> {
    // Where both kinds lie side by side they are the same images; one is enough.
    let binary = batches.keys().any(|name| training_batch(name) == Some(Kind::Binary));
    let (kind, format) = if binary { (Kind::Binary, Format::CifarBinary) } else { (Kind::Python, Format::CifarPython) };
    let mut all = Batches::default();
    for (name, batch) in batches.iter().filter(|(name, _)| training_batch(name) == Some(kind)) {
        let place = format!("{name} in {place}");
        match kind {
            Kind::Binary => all.add_binary(batch, &place)?,
            Kind::Python => all.add_python(batch, &place)?,
        }
    }
    if all.labels.is_empty() {
        let reason = "it holds no CIFAR-10 training batches (data_batch_1 to data_batch_5)";
        return Err(Error::format(FORMAT, place, reason));
    }
    let files = files.into_iter().filter(|(name, _)| name.is_empty() || training_batch(name) == Some(kind)).collect();
    Ok(all.opened(format, files))
}

#[derive(Default)]
struct Batches {
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

impl Batches {
    fn add_binary(&mut self, batch: &[u8], place: &str) -> Result<()> {
        if !batch.len().is_multiple_of(RECORD) {
            let reason = format!("its {} bytes are no whole number of records of {RECORD} bytes", batch.len());
            return Err(Error::format(FORMAT, place, reason));
        }
        for record in batch.chunks_exact(RECORD) {
            if let Some((&label, pixels)) = record.split_first() {
                self.add_label(label.into(), place)?;
                self.pixels.extend(pixels);
            }
        }
        Ok(())
    }

    /// `{"data": uint8 [n, 3072], "labels": [n integers], ...}`, written by Python 2.
    fn add_python(&mut self, batch: &[u8], place: &str) -> Result<()> {
        let wrong = |reason: &str| Error::format(FORMAT, place, reason);
        let graph = pickle::load(batch).map_err(|source| Error::Pickle { place: place.to_owned(), source })?;
        let data = graph.lookup(graph.root(), "data").ok_or_else(|| wrong("the batch has no `data`"))?;
        let data = numpy::array(&graph, data).map_err(|e| wrong(&format!("in `data`, {e}")))?;
        if data.dtype != Dtype::U8 || !matches!(data.shape.as_slice(), [_, PIXELS]) {
            let reason = format!("its `data` is {:?} {:?}, not bytes of [n, {PIXELS}]", data.dtype, data.shape);
            return Err(wrong(&reason));
        }
        let labels = graph.lookup(graph.root(), "labels").and_then(|labels| graph.sequence(labels));
        let labels = labels.ok_or_else(|| wrong("the batch has no `labels`"))?;
        if labels.len() * PIXELS != data.bytes.len() {
            return Err(wrong("it does not have one label for each image"));
        }
        for &label in labels {
            self.add_label(graph.int(label).ok_or_else(|| wrong("a label is no integer"))?, place)?;
        }
        self.pixels.extend(data.bytes);
        Ok(())
    }

    fn add_label(&mut self, label: i64, place: &str) -> Result<()> {
        match u32::try_from(label).ok().filter(|&label| label < CLASSES) {
            Some(label) => self.labels.push(label),
            None => {
                return Err(Error::format(FORMAT, place, format!("a label is {label}, but CIFAR-10 has 0 to 9")));
            }
        }
        Ok(())
    }

    fn opened(self, format: Format, files: Vec<(String, PathBuf)>) -> Opened {
        Opened {
            format,
            source: Source::Memory(self.pixels),
            len: self.labels.len(),
            labels: Some(self.labels),
            num_classes: CLASSES as usize,
            stored: Some([3, SIDE, SIDE]),
            files,
        }
    }
}
