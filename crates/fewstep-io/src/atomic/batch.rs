//! Many small files at once.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Unfinished, parent};
use crate::{Error, Result};

/// Writes many small files, each of which appears whole, and waits for the disk once at the end instead of twice a file.
///
/// A kill at any moment leaves whole files alone, as with [`write_bytes`](super::write_bytes). A power cut before
/// [`Batch::finish`] may leave some that are empty or damaged: who goes on from such files checks them. Several threads may write.
#[derive(Debug, Default)]
pub struct Batch {
    /// Folders that were written to.
    folders: Mutex<BTreeSet<PathBuf>>,
}

impl Batch {
    /// A batch without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `bytes` to `path`, replacing what was there.
    ///
    /// # Errors
    /// As [`write_bytes`](super::write_bytes).
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let path = path.as_ref();
        let write = || {
            let mut unfinished = Unfinished::beside(path)?;
            unfinished.file().write_all(bytes)?;
            unfinished.appear(path, true)
        };
        write().map_err(|error| Error::write(path, error))?;
        let (mut folders, folder) = (self.folders.lock().unwrap_or_else(PoisonError::into_inner), parent(path));
        if !folders.contains(&folder) {
            folders.insert(folder);
        }
        Ok(())
    }

    /// Returns when all files are on the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self) -> Result<()> {
        let folders = self.folders.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut synced = BTreeSet::new();
        for folder in folders {
            sync_disk(&folder, &mut synced).map_err(|error| Error::write(&folder, error))?;
        }
        Ok(())
    }
}

/// Brings all that was written to the disk of `folder` onto it, once for each disk.
#[cfg(target_os = "linux")]
fn sync_disk(folder: &Path, synced: &mut BTreeSet<u64>) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let open = std::fs::File::open(folder)?;
    if synced.insert(open.metadata()?.dev()) {
        rustix::fs::syncfs(&open)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn sync_disk(folder: &Path, _: &mut BTreeSet<u64>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_file()) {
        std::fs::File::open(entry.path())?.sync_all()?;
    }
    super::sync_folder(folder)
}
