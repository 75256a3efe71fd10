//! Safetensors: named tensors with text metadata, our own checkpoint format.
//!
//! Reading and validating is the `safetensors` crate's. Writing is ours, because the crate keeps metadata in a hash map
//! and so writes the same checkpoint with different bytes each time; here equal contents give equal files, which lets
//! runs name a checkpoint by its hash.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;
use safetensors::tensor::Metadata as StMetadata;
use safetensors::{Dtype as StDtype, SafeTensors};
use serde::Serialize;

use crate::tensors::{Dtype, TensorData, TensorMap};
use crate::{Error, FileKind, Result, atomic};

const FORMAT: &str = "safetensors file";

/// Longest header read, the same bound that the `safetensors` crate sets.
const MAX_HEADER: u64 = 100_000_000;

/// Text metadata of a file, sorted by key.
pub type Metadata = BTreeMap<String, String>;

/// The contents of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Tensors in the order of the file.
    pub tensors: TensorMap,
    /// Text metadata.
    pub metadata: Metadata,
}

/// Reads a file.
///
/// # Errors
/// If it cannot be read or is not a well-formed safetensors file of dtypes that [`Dtype`] has.
pub fn read(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    read_bytes(&bytes, &path.display().to_string())
}

/// As [`read`], from memory; `place` names the file in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], place: &str) -> Result<File> {
    let damaged = |e| Error::format(FORMAT, place, format!("{e}; it is damaged or cut off"));
    check_kind(bytes, place)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let mut tensors = TensorMap::new();
    for name in header.offset_keys() {
        let view = file.tensor(&name).map_err(damaged)?;
        let dtype = from_st(view.dtype()).ok_or_else(|| {
            Error::format(FORMAT, place, format!("its tensor `{name}` is {:?}, which is not read", view.dtype()))
        })?;
        let tensor = TensorData { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() };
        tensor.check_length(&name)?;
        tensors.insert(name, tensor);
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(File { tensors, metadata })
}

/// Refuses bytes that are those of another kind of file.
fn check_kind(bytes: &[u8], place: &str) -> Result<()> {
    match FileKind::of_bytes(bytes) {
        FileKind::Safetensors | FileKind::Unknown => Ok(()),
        found => Err(Error::OtherKind { format: FORMAT, place: place.to_owned(), found }),
    }
}

/// What a file says about itself before its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Element type and shape of each tensor, in the order of the file.
    pub tensors: IndexMap<String, (Dtype, Vec<usize>)>,
    /// Text metadata.
    pub metadata: Metadata,
}

/// Reads the header alone, without the tensors.
///
/// # Errors
/// As [`read`].
pub fn read_header(path: impl AsRef<Path>) -> Result<Header> {
    let path = path.as_ref();
    let mut file = std::fs::File::open(path).map_err(|e| Error::read(path, e))?;
    let (header, _) = header_of(&mut file, path)?;
    let mut tensors = IndexMap::new();
    for name in header.offset_keys() {
        let (dtype, shape, _) = described(&header, &name, path)?;
        tensors.insert(name, (dtype, shape));
    }
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(Header { tensors, metadata: metadata.into_iter().collect() })
}

/// Element type, shape and place (from the start of the data) of a tensor.
pub(crate) fn described(header: &StMetadata, name: &str, path: &Path) -> Result<(Dtype, Vec<usize>, usize)> {
    let place = path.display().to_string();
    let missing = || Error::format(FORMAT, &place, format!("it has no tensor `{name}`"));
    let info = header.info(name).ok_or_else(missing)?;
    let dtype = from_st(info.dtype).ok_or_else(|| {
        Error::format(FORMAT, &place, format!("its tensor `{name}` is {:?}, which is not read", info.dtype))
    })?;
    Ok((dtype, info.shape.clone(), info.data_offsets.0))
}

/// The header of an open file, and where its data start.
pub(crate) fn header_of(file: &mut std::fs::File, path: &Path) -> Result<(StMetadata, u64)> {
    use std::io::Read;
    let place = path.display().to_string();
    let cut_off = || Error::format(FORMAT, &place, "its header is cut off");
    let size = file.metadata().map_err(|e| Error::read(path, e))?.len();
    match FileKind::of_file(path)? {
        FileKind::Safetensors | FileKind::Unknown => {}
        found => return Err(Error::OtherKind { format: FORMAT, place, found }),
    }
    let mut bytes = vec![0; 8];
    file.read_exact(&mut bytes).map_err(|_| cut_off())?;
    let len = bytes.as_slice().try_into().map(u64::from_le_bytes).map_err(|_| cut_off())?;
    if len > MAX_HEADER || len.checked_add(8).is_none_or(|end| end > size) {
        return Err(cut_off());
    }
    bytes.clear();
    file.take(len).read_to_end(&mut bytes).map_err(|e| Error::read(path, e))?;
    let header: StMetadata = serde_json::from_slice(&bytes)
        .map_err(|e| Error::format(FORMAT, &place, format!("{e}; it is damaged or no safetensors file")))?;
    if header.data_len() as u64 != size - 8 - len {
        return Err(Error::format(
            FORMAT,
            &place,
            "it has fewer or more bytes than its tensors need; it is damaged or cut off",
        ));
    }
    Ok((header, 8 + len))
}

/// Writes tensors and metadata; the file appears whole or not at all, and equal contents give equal bytes.
///
/// # Errors
/// [`Error::Tensor`] if a tensor's bytes do not fit its shape, otherwise as [`atomic::write_with`].
pub fn write<'a>(file: impl Into<atomic::OutFile<'a>>, tensors: &TensorMap, metadata: &Metadata) -> Result<()> {
    let (header, order) = layout(tensors, metadata)?;
    atomic::write_with(file, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        order.iter().try_for_each(|tensor| out.write_all(&tensor.bytes))
    })
}

/// The bytes that [`write()`] writes.
///
/// # Errors
/// [`Error::Tensor`] if a tensor's bytes do not fit its shape.
pub fn to_bytes(tensors: &TensorMap, metadata: &Metadata) -> Result<Vec<u8>> {
    let (header, order) = layout(tensors, metadata)?;
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    order.iter().for_each(|tensor| out.extend(&tensor.bytes));
    Ok(out)
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: StDtype,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

#[derive(Serialize)]
#[serde(untagged)]
enum HeaderEntry<'a> {
    Metadata(&'a Metadata),
    Tensor(Entry<'a>),
}

/// The header's JSON, and the tensors in the order of their data: wider elements first, so that all are aligned,
/// otherwise as in the map.
fn layout<'a>(tensors: &'a TensorMap, metadata: &Metadata) -> Result<(Vec<u8>, Vec<&'a TensorData>)> {
    for (name, tensor) in tensors {
        tensor.check_length(name)?;
    }
    let shapes = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype, tensor.shape.as_slice()));
    let (header, order) = header_bytes(shapes.collect(), metadata)?;
    Ok((header, order.into_iter().map(|name| &tensors[name]).collect()))
}

/// The same of tensors that are still to come: their names in the order of their data.
pub(crate) fn header_bytes<'a>(
    mut order: Vec<(&'a str, Dtype, &[usize])>,
    metadata: &Metadata,
) -> Result<(Vec<u8>, Vec<&'a str>)> {
    order.sort_by_key(|(_, dtype, _)| std::cmp::Reverse(dtype.size()));
    // Sorted, and not through serde_json's own map, whose order depends on how the program was built.
    let mut header = BTreeMap::new();
    if !metadata.is_empty() {
        header.insert("__metadata__", HeaderEntry::Metadata(metadata));
    }
    let mut at = 0;
    for &(name, dtype, shape) in &order {
        if name == "__metadata__" {
            return Err(Error::tensor(name, "this name is reserved in safetensors files"));
        }
        let end = at + shape.iter().product::<usize>() * dtype.size();
        let entry = Entry { dtype: to_st(dtype), shape, data_offsets: [at, end] };
        header.insert(name, HeaderEntry::Tensor(entry));
        at = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| Error::tensor("", e.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok((header, order.into_iter().map(|(name, ..)| name).collect()))
}

fn to_st(dtype: Dtype) -> StDtype {
    match dtype {
        Dtype::Bool => StDtype::BOOL,
        Dtype::U8 => StDtype::U8,
        Dtype::I8 => StDtype::I8,
        Dtype::I16 => StDtype::I16,
        Dtype::I32 => StDtype::I32,
        Dtype::I64 => StDtype::I64,
        Dtype::F16 => StDtype::F16,
        Dtype::BF16 => StDtype::BF16,
        Dtype::F32 => StDtype::F32,
        Dtype::F64 => StDtype::F64,
    }
}

fn from_st(dtype: StDtype) -> Option<Dtype> {
    Some(match dtype {
        StDtype::BOOL => Dtype::Bool,
        StDtype::U8 => Dtype::U8,
        StDtype::I8 => Dtype::I8,
        StDtype::I16 => Dtype::I16,
        StDtype::I32 => Dtype::I32,
        StDtype::I64 => Dtype::I64,
        StDtype::F16 => Dtype::F16,
        StDtype::BF16 => Dtype::BF16,
        StDtype::F32 => Dtype::F32,
        StDtype::F64 => Dtype::F64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (TensorMap, Metadata) {
        let mut tensors = TensorMap::new();
        tensors.insert("flag".into(), TensorData::new(Dtype::Bool, vec![3], vec![1, 0, 1]).unwrap());
        tensors.insert("model.w".into(), TensorData::from_f32(&[2, 2], &[1.0, -2.0, 3.5, 0.0]).unwrap());
        tensors.insert("half".into(), tensors["model.w"].cast(Dtype::F16).unwrap());
        tensors.insert("scalar".into(), TensorData::from_f64(&[], &[0.5]).unwrap());
        let metadata = [("arch", "{\"a\": 1}"), ("format", "pt")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        (tensors, metadata.into())
    }

    #[test]
    fn what_is_written_is_read_back_and_equal_bytes_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let (tensors, metadata) = sample();
        write(&path, &tensors, &metadata).unwrap();
        let file = read(&path).unwrap();
        assert_eq!(file.tensors, tensors);
        assert_eq!(file.metadata, metadata);
        assert_eq!(std::fs::read(&path).unwrap(), to_bytes(&tensors, &metadata).unwrap());
        let header = read_header(&path).unwrap();
        assert_eq!(header.tensors["model.w"], (Dtype::F32, vec![2, 2]));
        assert_eq!((header.tensors.len(), header.metadata), (4, metadata));
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused_by_name() {
        let (mut tensors, metadata) = sample();
        tensors["model.w"].shape = vec![3, 3];
        let message = to_bytes(&tensors, &metadata).unwrap_err().to_string();
        assert!(message.contains("model.w"), "{message}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let (tensors, metadata) = sample();
        let bytes = to_bytes(&tensors, &metadata).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut");
        for len in 0..bytes.len() {
            assert!(read_bytes(&bytes[..len], "cut").is_err(), "{len}");
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(read_header(&path).is_err(), "{len}");
        }
        assert!(read_bytes(&[0xff; 16], "huge header").is_err());
    }

    proptest! {
        #[test]
        fn damaged_files_give_a_value_or_an_error(at in 0usize..400, byte: u8) {
            let (tensors, metadata) = sample();
            let mut bytes = to_bytes(&tensors, &metadata).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read_bytes(&bytes, "damaged");
        }
    }
}
