//! A file on its way: without a name, or under a hidden one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{parent, stale, sync_folder};

/// A file on its way; nothing is left of it if it is dropped before it is finished.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    folder: PathBuf,
    /// The hidden name, where it has one.
    hidden: Option<PathBuf>,
}

impl Unfinished {
    /// In the folder of `path`.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let folder = parent(path);
        stale::sweep_once(&folder);
        match system::create(&folder) {
            Some(file) => Ok(Self { file, folder, hidden: None }),
            None => Self::hidden(folder),
        }
    }

    /// Under a hidden name, for file systems that know no other way.
    pub(super) fn hidden(folder: PathBuf) -> io::Result<Self> {
        loop {
            let path = hidden_name(&folder);
            let file = match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            stale::keep(&file);
            // Another process may have taken it for a dead one's before it was locked.
            if path.exists() {
                return Ok(Self { file, folder, hidden: Some(path) });
            }
        }
    }

    #[cfg(test)]
    pub(super) fn has_no_name(&self) -> bool {
        self.hidden.is_none()
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes it appear at `path`, in the folder that it was begun in, when its bytes are on the disk. What is there is replaced, or
    /// [`io::ErrorKind::AlreadyExists`].
    pub fn finish(self, path: &Path, replaces: bool) -> io::Result<()> {
        self.file.sync_all()?;
        let folder = self.folder.clone();
        self.appear(path, replaces)?;
        sync_folder(&folder)
    }

    /// The same, without waiting for the disk.
    pub fn appear(mut self, path: &Path, replaces: bool) -> io::Result<()> {
        let hidden = match &self.hidden {
            Some(hidden) => hidden.clone(),
            None => match system::link(&self.file, path) {
                Ok(()) => return Ok(()),
                Err(error) if !replaces && error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                // What is there already can only be replaced by a file that has a name.
                Err(_) => self.name()?,
            },
        };
        if replaces {
            fs::rename(hidden, path)?
        } else {
            rename_new(&hidden, path)?
        }
        self.hidden = None;
        Ok(())
    }

    /// Gives a file without a name a hidden one.
    fn name(&mut self) -> io::Result<PathBuf> {
        stale::keep(&self.file);
        let hidden = hidden_name(&self.folder);
        if system::link(&self.file, &hidden).is_err() {
            // A file system that makes files without names, but never names them.
            let mut copy = Self::hidden(self.folder.clone())?;
            self.file.rewind()?;
            io::copy(&mut self.file, &mut copy.file)?;
            copy.file.sync_all()?;
            *self = copy;
            return self.hidden.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        self.hidden = Some(hidden.clone());
        Ok(hidden)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // If it cannot be removed now, the next writer in this folder does so.
            let _ = fs::remove_file(hidden);
        }
    }
}

/// Renames a file to a name that must be free, as safely as the file system can.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    match system::rename_new(from, to) {
        Err(error) if !exists(&error) => {}
        done => return done,
    }
    match fs::hard_link(from, to) {
        Ok(()) => {
            let _ = fs::remove_file(from); // or the next writer in this folder does so
            Ok(())
        }
        Err(error) if exists(&error) => Err(error),
        // neither of the two: then another may come between
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// A name that no other writer of this process has; the process makes it one that few others can have.
fn hidden_name(folder: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    folder.join(stale::name(&format!("{process}-{count}")))
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};

    /// A file in `folder` without a name, where the file system has such. Its permissions follow the user's umask.
    pub fn create(folder: &Path) -> Option<File> {
        let mode = Mode::from_raw_mode(0o666);
        let file = rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode).ok()?;
        Some(File::from(file))
    }

    /// Gives it the name `path`, which must be free.
    pub fn link(file: &File, path: &Path) -> io::Result<()> {
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Renames a file to a name that must be free.
    pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub fn create(_: &Path) -> Option<File> {
        None
    }

    pub fn link(_: &File, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
