//! NumPy `.npz` archives: named arrays in and out, as [`TensorMap`].

use std::io::{Cursor, Read, Seek};
use std::path::Path;

use indexmap::IndexMap;
use zip::read::ZipFile;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::tensors::{TensorData, TensorMap};
use crate::{Error, FileKind, Result, archive, atomic, npy};

const FORMAT: &str = "npz archive";

/// The arrays of a file: those of plain numbers, and why each of the others is not read.
///
/// Text and Python objects stand in many files beside what is needed. Objects are pickles, which are left alone.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The file.
    place: String,
    /// Arrays of numbers.
    pub arrays: TensorMap,
    /// Names of the other arrays, each with the reason.
    pub skipped: IndexMap<String, String>,
}

impl Contents {
    /// The array of this name, if there is one.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<&TensorData>> {
        match (self.arrays.get(name), self.skipped.get(name)) {
            (Some(array), _) => Ok(Some(array)),
            (None, None) => Ok(None),
            (None, Some(reason)) => {
                Err(Error::format(FORMAT, &self.place, format!("its array `{name}` cannot be read: {reason}")))
            }
        }
    }

    /// The array of this name.
    ///
    /// # Errors
    /// If there is none, with what there is instead, or it cannot be read.
    pub fn need(&self, name: &str) -> Result<&TensorData> {
        let missing = || format!("it has no array named `{name}` (it has: {})", self.names());
        self.get(name)?.ok_or_else(|| Error::format(FORMAT, &self.place, missing()))
    }

    /// What the file holds, in words.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.arrays.keys().chain(self.skipped.keys()).map(String::as_str).collect();
        if names.is_empty() { "no arrays at all".to_owned() } else { names.join(", ") }
    }
}

/// Reads all arrays of a file that are of plain numbers; others are left out.
///
/// # Errors
/// If it cannot be read or is no npz archive.
pub fn read(path: impl AsRef<Path>) -> Result<TensorMap> {
    Ok(read_all(path)?.arrays)
}

/// Reads all arrays of a file that are of plain numbers, and says what the others are.
///
/// # Errors
/// As [`read`].
pub fn read_all(path: impl AsRef<Path>) -> Result<Contents> {
    read_filtered(path.as_ref(), |_| true)
}

/// Reads those arrays of a file that are named and there; others are not read.
///
/// # Errors
/// As [`read`].
pub fn read_named(path: impl AsRef<Path>, names: &[&str]) -> Result<Contents> {
    read_filtered(path.as_ref(), |name| names.contains(&name))
}

/// Reads the named arrays of a file, others are not read.
///
/// # Errors
/// As [`read`], and if a named array is missing or cannot be read.
pub fn read_some(path: impl AsRef<Path>, names: &[&str]) -> Result<TensorMap> {
    let contents = read_named(path, names)?;
    names.iter().try_for_each(|name| contents.need(name).map(|_| ()))?;
    Ok(contents.arrays)
}

/// Names of the arrays of a file, of whatever kind.
///
/// # Errors
/// As [`read`].
pub fn names(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let contents = read_filtered(path.as_ref(), |_| false)?;
    Ok(contents.skipped.into_keys().collect())
}

/// Reads all arrays of plain numbers of an archive in memory; `place` names it in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], place: &str) -> Result<Contents> {
    check_kind(FileKind::of_bytes(bytes), place)?;
    read_archive(Cursor::new(bytes), bytes.len() as u64, place, |_| true)
}

fn read_filtered(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Contents> {
    let place = path.display().to_string();
    check_kind(FileKind::of_file(path)?, &place)?;
    let file = std::fs::File::open(path).map_err(|e| Error::read(path, e))?;
    let len = file.metadata().map_err(|e| Error::read(path, e))?.len();
    read_archive(std::io::BufReader::new(file), len, &place, wanted)
}

/// Refuses files that hold no arrays. A zip of other things as well as arrays is taken.
fn check_kind(found: FileKind, place: &str) -> Result<()> {
    match found {
        FileKind::Npz | FileKind::Zip | FileKind::ImageZip => Ok(()),
        FileKind::Unknown => {
            Err(Error::format(FORMAT, place, "it is no zip archive; it is damaged or of another kind"))
        }
        found => Err(Error::OtherKind { format: FORMAT, place: place.to_owned(), found }),
    }
}

fn read_archive(file: impl Read + Seek, len: u64, place: &str, wanted: impl Fn(&str) -> bool) -> Result<Contents> {
    let damaged =
        |e: ZipError| Error::format(FORMAT, place, format!("the zip archive is damaged: {}", archive::reason(&e)));
    let mut archive = archive::open(file).map_err(damaged)?;
    // Room for arrays that compress well, but not for a zip bomb.
    let mut left = len.saturating_mul(64).saturating_add(256 << 20);
    let mut contents = Contents { place: place.to_owned(), ..Contents::default() };
    for index in 0..archive.len() {
        let Some(name) = archive.name_for_index(index).and_then(|name| name.strip_suffix(".npy")).map(str::to_owned)
        else {
            continue;
        };
        if !wanted(&name) {
            contents.skipped.insert(name, "it was not asked for".to_owned());
            continue;
        }
        let read = match archive.by_index(index) {
            Ok(member) => read_member(member, &mut left).and_then(|bytes| npy::parse(&bytes)),
            Err(error) => Err(format!("the zip archive is damaged: {error}")),
        };
        match read {
            Ok(array) => drop(contents.arrays.insert(name, array)),
            Err(reason) => drop(contents.skipped.insert(name, reason)),
        }
    }
    if contents.arrays.is_empty() && contents.skipped.is_empty() && !archive.is_empty() {
        return Err(Error::OtherKind { format: FORMAT, place: place.to_owned(), found: FileKind::Zip });
    }
    Ok(contents)
}

/// The bytes of a member; they grow with what is really there, not with what is declared, and `left` shrinks by them.
///
/// # Errors
/// A sentence if it is damaged or out of all proportion.
fn read_member<R: Read>(member: ZipFile<'_, R>, left: &mut u64) -> Result<Vec<u8>, String> {
    let size = member.size();
    *left =
        left.checked_sub(size).ok_or_else(|| format!("it declares {size} bytes, out of all proportion to the file"))?;
    let mut bytes = Vec::new();
    // One byte more than there may be: the checksum is compared at the end of the member.
    member.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| format!("it is damaged: {error}"))?;
    Ok(bytes)
}

/// Writes arrays uncompressed, as `numpy.savez` does; the file appears whole or not at all.
///
/// # Errors
/// [`Error::Tensor`] if an array's bytes do not fit its shape or its dtype is bfloat16, which NumPy lacks (cast it
/// first); otherwise as [`atomic::write_with`].
pub fn write<'a>(file: impl Into<atomic::OutFile<'a>>, arrays: &TensorMap) -> Result<()> {
    let mut headers = Vec::with_capacity(arrays.len());
    for (name, array) in arrays {
        headers.push(checked_header(name, array)?);
    }
    atomic::write_with(file, |out| {
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

    /// What others store beside the numbers that count: text, and objects as a pickle that would run a command.
    fn with_extras(path: &Path) {
        let npy = |descr: &str, data: &[u8]| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}\n");
            [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
        };
        let mut archive = ZipWriter::new(std::fs::File::create(path).unwrap());
        for (name, bytes) in [
            ("n", npy("<U1", b"x\0\0\0")),
            ("z", npy("|O", b"cos\nsystem\n(S'rm -rf /'\ntR.")),
            ("mu", npy("<f8", &2.5f64.to_le_bytes())),
            ("c", npy("<c8", &[0; 8])),
        ] {
            archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut archive, &bytes).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn arrays_that_nobody_asked_for_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("extra.npz");
        with_extras(&path);
        assert_eq!(read(&path).unwrap().keys().collect::<Vec<_>>(), ["mu"]);
        assert_eq!(read_some(&path, &["mu"]).unwrap()["mu"].to_f64(), [2.5]);
        assert_eq!(names(&path).unwrap(), ["n", "z", "mu", "c"]);
        let all = read_all(&path).unwrap();
        assert_eq!(all.skipped.keys().collect::<Vec<_>>(), ["n", "z", "c"]);
        assert!(all.get("none").unwrap().is_none() && all.need("mu").is_ok());
        for (error, parts) in [
            (all.get("n").unwrap_err(), ["`n` cannot be read", "<U1"]),
            (read_some(&path, &["z"]).unwrap_err(), ["`z` cannot be read", "|O"]),
            (all.need("sigma").unwrap_err(), ["no array named `sigma`", "it has: mu, n, z, c"]),
        ] {
            let message = error.to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn files_of_other_kinds_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        for (bytes, part) in [
            (&b""[..], "is an empty file, not the npz archive that is needed here: download"),
            (b"<html>404</html>", "is a web page"),
            (b"\x10\0\0\0\0\0\0\0{\"a\"", "is a safetensors file"),
            (b"PK\x03\x04 and no more", "a zip archive that is cut off"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("x.npz"), "{message}");
        }
    }

    /// A flipped bit is found by the checksum, and matters where its array is asked for.
    #[test]
    fn damaged_arrays_are_found_where_they_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, &sample()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|window| window == [0, 127, 128, 255]).unwrap();
        bytes[at + 1] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(read_some(&path, &["x"]).is_ok());
        let message = read_some(&path, &["images"]).unwrap_err().to_string();
        assert!(message.contains("`images` cannot be read: it is damaged"), "{message}");
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
