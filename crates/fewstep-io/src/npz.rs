//! NumPy `.npz` archives: named arrays in and out, as [`TensorMap`].

use std::io::{Cursor, Read, Seek};
use std::path::Path;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::tensors::{TensorData, TensorMap};
use crate::{Error, Result, atomic, npy};

const FORMAT: &str = "npz archive";

/// Reads all arrays of a file.
///
/// # Errors
/// If it cannot be read, is no npz archive, or holds an array that is not of plain numbers; [`read_some`] skips those.
pub fn read(path: impl AsRef<Path>) -> Result<TensorMap> {
    read_filtered(path.as_ref(), |_| true)
}

/// Reads the named arrays of a file, others are not even looked at.
///
/// # Errors
/// As [`read`], and if a named array is missing.
pub fn read_some(path: impl AsRef<Path>, names: &[&str]) -> Result<TensorMap> {
    let path = path.as_ref();
    let arrays = read_filtered(path, |name| names.contains(&name))?;
    match names.iter().find(|name| !arrays.contains_key(**name)) {
        Some(missing) => {
            Err(Error::format(FORMAT, path.display().to_string(), format!("it has no array named `{missing}`")))
        }
        None => Ok(arrays),
    }
}

/// Reads all arrays of an archive in memory; `place` names it in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], place: &str) -> Result<TensorMap> {
    read_archive(Cursor::new(bytes), bytes.len() as u64, place, |_| true)
}

fn read_filtered(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<TensorMap> {
    let file = std::fs::File::open(path).map_err(|e| Error::read(path, e))?;
    let len = file.metadata().map_err(|e| Error::read(path, e))?.len();
    read_archive(std::io::BufReader::new(file), len, &path.display().to_string(), wanted)
}

fn read_archive(file: impl Read + Seek, len: u64, place: &str, wanted: impl Fn(&str) -> bool) -> Result<TensorMap> {
    let damaged = |e: ZipError| Error::format(FORMAT, place, format!("the zip archive is damaged: {e}"));
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    // Room for arrays that compress well, but not for a zip bomb.
    let mut left = len.saturating_mul(64).saturating_add(256 << 20);
    let mut arrays = TensorMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(damaged)?;
        let Some(name) = member.name().strip_suffix(".npy").map(str::to_owned) else {
            continue;
        };
        if !wanted(&name) {
            continue;
        }
        let size = member.size();
        left = left.checked_sub(size).ok_or_else(|| {
            Error::format(
                FORMAT,
                place,
                format!("its array `{name}` declares {size} bytes, out of all proportion to the file"),
            )
        })?;
        // Grows with what is really there, not with what is declared.
        let mut bytes = Vec::new();
        let read = member.take(size).read_to_end(&mut bytes);
        read.map_err(|e| Error::format(FORMAT, place, format!("its array `{name}` is damaged: {e}")))?;
        let array = npy::parse(&bytes)
            .map_err(|reason| Error::format(FORMAT, place, format!("its array `{name}` cannot be read: {reason}")))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

/// Writes arrays uncompressed, as `numpy.savez` does; the file appears whole or not at all.
///
/// # Errors
/// [`Error::Tensor`] if an array's bytes do not fit its shape or its dtype is bfloat16, which NumPy lacks (cast it
/// first); otherwise as [`atomic::write_with`].
pub fn write(path: impl AsRef<Path>, arrays: &TensorMap) -> Result<()> {
    let mut headers = Vec::with_capacity(arrays.len());
    for (name, array) in arrays {
        headers.push(checked_header(name, array)?);
    }
    atomic::write_with(path, |out| {
        let mut archive = ZipWriter::new(out);
        for ((name, array), header) in arrays.iter().zip(&headers) {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(array.bytes.len() > 1 << 31);
            archive.start_file(format!("{name}.npy"), options)?;
            std::io::Write::write_all(&mut archive, header)?;
            std::io::Write::write_all(&mut archive, &array.bytes)?;
        }
        archive.finish()?;
        Ok(())
    })
}

fn checked_header(name: &str, array: &TensorData) -> Result<Vec<u8>> {
    array.check_length(name)?;
    npy::header(array).ok_or_else(|| Error::tensor(name, "NumPy has no bfloat16: cast it to F32 first"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Dtype;

    fn sample() -> TensorMap {
        let mut arrays = TensorMap::new();
        arrays.insert("x".into(), TensorData::from_f32(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap());
        arrays.insert("sigma".into(), TensorData::from_f64(&[2], &[80.0, 0.002]).unwrap());
        arrays.insert("labels".into(), TensorData::from_i64(&[], &[7]).unwrap());
        arrays.insert("images".into(), TensorData::from_u8(&[1, 4], &[0, 127, 128, 255]).unwrap());
        arrays
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, &sample()).unwrap();
        assert_eq!(read(&path).unwrap(), sample());
        assert_eq!(read_some(&path, &["sigma"]).unwrap().len(), 1);
        let message = read_some(&path, &["sigma", "y"]).unwrap_err().to_string();
        assert!(message.contains("no array named `y`"), "{message}");
    }

    #[test]
    fn bfloat16_is_refused_with_a_remedy() {
        let mut arrays = sample();
        let bf16 = arrays["x"].cast(Dtype::BF16).unwrap();
        arrays.insert("x".into(), bf16);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        assert!(write(&path, &arrays).unwrap_err().to_string().contains("cast it to F32"));
        assert!(!path.exists());
    }

    #[test]
    fn truncated_and_damaged_archives_never_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, &sample()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            assert!(read_bytes(&bytes[..len], "cut").is_err(), "{len}");
        }
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let _ = read_bytes(&damaged, "damaged");
            }
        }
    }
}
