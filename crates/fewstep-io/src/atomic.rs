//! Files that appear whole or not at all.
//!
//! A file is written without a name where the file system can do that (`O_TMPFILE`), so that nothing of it is left whatever ends
//! the process; when its bytes are on the disk it gets its name. Elsewhere it is written under a hidden name beside its final
//! place, locked for as long as its writer lives; the next writer in that folder removes those whose lock is gone.

mod batch;
mod out_file;
mod stale;
mod unfinished;

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::batch::Batch;
pub use self::out_file::OutFile;
pub(crate) use self::stale::{holds_files, sweep};
pub(crate) use self::unfinished::Unfinished;
use crate::{Error, Result};

/// What [`write_with`] hands out: a buffered file that may also be sought, as zip archives need.
pub trait WriteSeek: Write + Seek {}

impl<T: Write + Seek> WriteSeek for T {}

/// Writes `bytes` to `file`, replacing what was there if it [may](OutFile).
///
/// # Errors
/// If the folder does not exist, the write fails, or there is a file that may not be replaced; `file` then still holds what it held before.
pub fn write_bytes<'a>(file: impl Into<OutFile<'a>>, bytes: &[u8]) -> Result<()> {
    write_with(file, |out| out.write_all(bytes))
}

/// Writes `value` to `file` as indented JSON with a final newline.
///
/// # Errors
/// As [`write_bytes`], or if `value` has no JSON form.
pub fn write_json<'a, T: Serialize + ?Sized>(file: impl Into<OutFile<'a>>, value: &T) -> Result<()> {
    write_with(file, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Writes `file` through `fill`, which gets a buffered writer; it appears when `fill` has succeeded and its bytes have reached the disk.
///
/// # Errors
/// What `fill` or the disk reports; a full disk gives [`Error::NoSpace`], and a file that may not be replaced [`Error::Appeared`]. The
/// unfinished file is removed.
pub fn write_with<'a>(
    file: impl Into<OutFile<'a>>,
    fill: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>,
) -> Result<()> {
    let OutFile { path, replaces } = file.into();
    let write = || {
        let mut unfinished = Unfinished::beside(&path)?;
        {
            let mut out = BufWriter::with_capacity(1 << 18, unfinished.file());
            fill(&mut out)?;
            out.flush()?;
        }
        unfinished.finish(&path, replaces)
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if !replaces => Error::Appeared { path: path.to_path_buf() },
        _ => Error::write(&path, error),
    })
}

/// Makes a folder and those above it that are missing. Whatever is then put into it survives a power cut as the folder does.
///
/// # Errors
/// If it cannot be made.
pub fn make_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let missing: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    let make = || {
        fs::create_dir_all(path)?;
        // from the top, so that no folder is on the disk before the one that it lies in
        missing.iter().rev().try_for_each(|folder| match sync_folder(&parent(folder)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()), // one that may be written to and not read
            done => done,
        })
    };
    make().map_err(|error| Error::write(path, error))
}

/// The name itself must survive a power cut, so the folder is synced as well, where the system can do that.
fn sync_folder(folder: &Path) -> io::Result<()> {
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

#[cfg(test)]
mod tests;
