//! Unfinished files that dead processes left: found by their names, told from those of living ones by a lock.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::{Error, Result, hash};

const PREFIX: &str = ".fewstep-";
const SUFFIX: &str = ".tmp";
/// Locks of other machines may not show on a shared disk; what has not been written to for so long is no longer being written.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// The hidden name of an unfinished file of this machine.
pub(super) fn name(unique: &str) -> String {
    format!("{PREFIX}{}-{unique}{SUFFIX}", machine())
}

/// Tells others that the file's writer lives, until it is closed. Where files cannot be locked, they are told by their age.
pub(super) fn keep(file: &File) {
    let _ = file.lock();
}

/// What makes the name of an unfinished file its own; none of another file's name.
fn unique(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX))
}

/// Removes unfinished files of dead processes in `folder`.
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| Error::read(folder, error))?.flatten() {
        if let Some(unique) = unique(&entry.file_name().to_string_lossy()) {
            remove_if_dead(&entry.path(), unique);
        }
    }
    Ok(())
}

/// Whether there is anything in `folder` but unfinished files, whoever writes or wrote them.
pub(crate) fn holds_files(folder: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(folder).map_err(|error| Error::read(folder, error))?;
    Ok(entries.any(|entry| !entry.is_ok_and(|entry| unique(&entry.file_name().to_string_lossy()).is_some())))
}

/// Sweeps a folder before this process writes there for the first time: reading a folder of many files takes long.
pub(super) fn sweep_once(folder: &Path) {
    static SWEPT: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let swept = swept.get_or_insert_default();
    if !swept.contains(folder) {
        swept.insert(folder.to_owned());
        // A folder that cannot be read may still be written to.
        let _ = sweep(folder);
    }
}

fn remove_if_dead(path: &Path, unique: &str) {
    let Ok(file) = File::open(path) else { return };
    let old = || {
        file.metadata().and_then(|found| found.modified()).is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LONG))
    };
    // Names of earlier versions say nothing of the machine.
    let of_another_machine = unique.contains('-') && !unique.starts_with(machine());
    let dead = match file.try_lock() {
        Ok(()) => !of_another_machine || old(),
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => old(),
    };
    if dead {
        // Another process may have removed it first; then it is gone, which is what was wanted.
        let _ = fs::remove_file(path);
    }
}

/// Tells this machine from others that share a disk with it.
fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let of = |path: &str| fs::read(path).unwrap_or_default();
        let all = [of("/etc/machine-id"), of("/proc/sys/kernel/hostname")].concat();
        hash::sha256_bytes(&all).chars().take(8).collect()
    })
}
