//! Files that appear whole or not at all: written beside their final place, synced, then renamed over it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::{Builder, NamedTempFile};

use crate::{Error, Result};

const PREFIX: &str = ".fewstep-";
const SUFFIX: &str = ".tmp";

/// What [`write_with`] hands out: a buffered file that may also be sought, as zip archives need.
pub trait WriteSeek: Write + Seek {}

impl<T: Write + Seek> WriteSeek for T {}

/// Writes `bytes` to `path`, replacing what was there.
///
/// # Errors
/// If the folder does not exist or the write fails; `path` then still holds what it held before.
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_with(path, |out| out.write_all(bytes))
}

/// Writes `value` to `path` as indented JSON with a final newline.
///
/// # Errors
/// As [`write_bytes`], or if `value` has no JSON form.
pub fn write_json<T: Serialize + ?Sized>(path: impl AsRef<Path>, value: &T) -> Result<()> {
    write_with(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Writes `path` through `fill`, which gets a buffered writer; the file appears when `fill` has succeeded and its
/// bytes have reached the disk.
///
/// # Errors
/// What `fill` or the disk reports; a full disk gives [`Error::NoSpace`]. The unfinished file is removed.
pub fn write_with(path: impl AsRef<Path>, fill: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>) -> Result<()> {
    let path = path.as_ref();
    write_and_rename(path, fill).map_err(|e| Error::write(path, e))
}

fn write_and_rename(path: &Path, fill: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>) -> io::Result<()> {
    let mut unfinished = Unfinished::beside(path)?;
    {
        let mut out = BufWriter::with_capacity(1 << 18, unfinished.file());
        fill(&mut out)?;
        out.flush()?;
    }
    unfinished.finish(path)
}

/// A file on its way; removed if it is dropped before it is finished.
#[derive(Debug)]
pub(crate) struct Unfinished(NamedTempFile);

impl Unfinished {
    /// In the folder of `path`.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        // Temporary files are private by default; what we leave behind should follow the user's umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self(builder.tempfile_in(parent(path))?))
    }

    pub fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// Makes it appear at `path`, in the folder that it was begun in.
    pub fn finish(self, path: &Path) -> io::Result<()> {
        self.0.as_file().sync_all()?;
        self.0.persist(path).map_err(|e| e.error)?;
        sync_folder(&parent(path))
    }
}

/// The rename itself must survive a power cut, so the folder is synced as well, where the system can do that.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Removes unfinished files that a killed process left in `folder`.
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::read(folder, e))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            // Another process may have swept it first; then it is gone, which is what was wanted.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_old_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_bytes(&path, b"old").unwrap();
        write_json(&path, &serde_json::json!({"steps": 5})).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"steps\": 5\n}\n");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_full_disk_says_so_and_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_bytes(&path, b"old").unwrap();
        let error = write_with(&path, |out| {
            out.write_all(&[0; 1 << 20])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("no space left"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }

    #[test]
    fn a_missing_folder_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_bytes(folder.path().join("none/x"), b"").unwrap_err().to_string();
        assert!(error.contains("none/x"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn files_follow_the_umask_and_not_the_private_default() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_bytes(&ours, b"").unwrap();
        fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn sweeping_takes_only_our_unfinished_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".fewstep-abc.tmp", "other.tmp", "run.json"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        sweep(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["other.tmp", "run.json"]);
    }
}
