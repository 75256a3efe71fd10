//! IDX files, the format of MNIST and its kin, plain or gzipped.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::images::count_classes;
use super::{FORMAT, Format, Opened, Source};
use crate::{Error, Result};

/// Two zero bytes, type u8, three dimensions: images.
pub(super) const IMAGES_MAGIC: [u8; 4] = [0, 0, 8, 3];
const LABELS_MAGIC: [u8; 4] = [0, 0, 8, 1];
/// Most bytes that a file may unpack to.
const MAX_BYTES: u64 = 2 << 30;

/// The images file to use in a folder of IDX files: the training part if it is there.
pub(super) fn find(folder: &Path) -> Option<PathBuf> {
    let parts = ["train", "t10k", "test"];
    let names = parts.iter().flat_map(|part| {
        ["images-idx3-ubyte", "images.idx3-ubyte"].into_iter().map(move |name| format!("{part}-{name}"))
    });
    names.flat_map(|name| [folder.join(format!("{name}.gz")), folder.join(name)]).find(|path| path.is_file())
}

pub(super) fn open(path: &Path) -> Result<Opened> {
    let (shape, data) = read(path, IMAGES_MAGIC)?;
    let mut files = vec![(file_name(path), path.to_owned())];
    let labels = match labels_beside(path) {
        Some(labels_path) => {
            let (_, labels) = read(&labels_path, LABELS_MAGIC)?;
            files.push((file_name(&labels_path), labels_path));
            Some(labels.into_iter().map(u32::from).collect::<Vec<_>>())
        }
        None => None,
    };
    opened(&shape, data, labels, files, &path.display().to_string())
}

fn opened(
    shape: &[usize],
    data: Vec<u8>,
    labels: Option<Vec<u32>>,
    files: Vec<(String, PathBuf)>,
    place: &str,
) -> Result<Opened> {
    let &[len, height, width] = shape else {
        return Err(Error::format(FORMAT, place, "it is no IDX file of images"));
    };
    if height == 0 || width == 0 {
        return Err(Error::format(FORMAT, place, "its images have no pixels"));
    }
    Ok(Opened {
        format: Format::Idx,
        source: Source::Memory(data),
        len,
        num_classes: labels.as_deref().map_or(0, count_classes),
        labels,
        stored: Some([1, height, width]),
        files,
    })
}

/// Images and their labels in memory, gzipped or not.
pub(super) fn of_bytes(images: &[u8], labels: &[u8], place: &str) -> Result<Opened> {
    let (shape, data) = parse(&mut unzipped(images), place, IMAGES_MAGIC)?;
    let (_, labels) = parse(&mut unzipped(labels), place, LABELS_MAGIC)?;
    let labels: Vec<u32> = labels.into_iter().map(u32::from).collect();
    opened(&shape, data, Some(labels), Vec::new(), place)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `train-labels-idx1-ubyte[.gz]` for `train-images-idx3-ubyte[.gz]`, whichever of the two is there.
fn labels_beside(path: &Path) -> Option<PathBuf> {
    let name = file_name(path);
    if !name.contains("images") {
        return None;
    }
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    let plain = labels.strip_suffix(".gz").unwrap_or(&labels);
    let candidates = [labels.clone(), plain.to_owned(), format!("{plain}.gz")];
    candidates.into_iter().map(|name| path.with_file_name(name)).find(|path| path.is_file())
}

/// Sizes and data of a file, which must hold exactly what its header declares.
fn read(path: &Path, magic: [u8; 4]) -> Result<(Vec<usize>, Vec<u8>)> {
    parse(&mut unpacked(path)?, &path.display().to_string(), magic)
}

fn parse(mut source: &mut dyn Read, place: &str, magic: [u8; 4]) -> Result<(Vec<usize>, Vec<u8>)> {
    let wrong = |reason: String| Error::format(FORMAT, place, reason);
    let failed = |e: std::io::Error| wrong(format!("the IDX file is damaged or cut off: {e}"));
    let mut found = [0; 4];
    source.read_exact(&mut found).map_err(failed)?;
    if found != magic {
        return Err(wrong(format!("it starts with {found:02x?} where an IDX file of this kind has {magic:02x?}")));
    }
    let mut shape = Vec::new();
    for _ in 0..magic[3] {
        let mut size = [0; 4];
        source.read_exact(&mut size).map_err(failed)?;
        shape.push(u32::from_be_bytes(size));
    }
    let declared = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size.into()));
    let declared = declared.filter(|&n| n <= MAX_BYTES).ok_or_else(|| wrong(format!("it declares sizes {shape:?}")))?;
    let mut data = Vec::new();
    (&mut source).take(declared).read_to_end(&mut data).map_err(failed)?;
    let more = source.read(&mut found).map_err(failed)?;
    if data.len() as u64 != declared || more != 0 {
        let relation = if more == 0 { "fewer" } else { "more" };
        return Err(wrong(format!("its header declares {declared} bytes, but there are {relation}")));
    }
    Ok((shape.into_iter().map(|size| size as usize).collect(), data))
}

/// What gzipped files start with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file's bytes, gunzipped where it is gzipped.
pub(super) fn unpacked(path: &Path) -> Result<Box<dyn Read>> {
    let read_error = |e| Error::read(path, e);
    let mut start = [0; 2];
    let mut file = File::open(path).map_err(read_error)?;
    let gzipped = file.read(&mut start).map_err(read_error)? == 2 && start == GZIP;
    let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(read_error)?);
    Ok(if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// The same of bytes in memory.
fn unzipped(bytes: &[u8]) -> Box<dyn Read + '_> {
    if bytes.starts_with(&GZIP) { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) }
}
