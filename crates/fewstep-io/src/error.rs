//! The error type of this crate: each message is one sentence that says what was wrong, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::kind::FileKind;
use crate::pickle::PickleError;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb: "read", "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The disk (or the quota) is full; the unfinished file was removed.
    #[error(
        "no space left on the disk while writing {path}; nothing half-written was left behind: free some space or \
         choose a folder on another disk, then run again",
        path = path.display()
    )]
    NoSpace {
        /// The file that was being written.
        path: PathBuf,
    },
    /// A file or folder that does not exist.
    #[error("{path} does not exist: check the path to the {what}", path = path.display())]
    Missing {
        /// What was expected there.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A pickle stream that is damaged or holds something that a checkpoint never needs.
    #[error("{place}: {source}")]
    Pickle {
        /// The file, or the part of it.
        place: String,
        /// What and at which byte.
        source: PickleError,
    },
    /// A file of a known format whose contents make no sense.
    #[error("{place} is not a usable {format}: {reason}")]
    Format {
        /// The format that was expected.
        format: &'static str,
        /// The file, or the member inside it.
        place: String,
        /// What is wrong with it and, where there is a remedy, what to do.
        reason: String,
    },
    /// A whole file of another kind than the one that is needed.
    #[error("{place} is {found}, not the {format} that is needed here{}", remedy(*found))]
    OtherKind {
        /// The format that is needed.
        format: &'static str,
        /// The file.
        place: String,
        /// What it is.
        found: FileKind,
    },
    /// A tensor whose dtype, shape and bytes do not fit together or that has another dtype than asked for.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A weight that is NaN or infinite.
    #[error(
        "tensor `{name}` holds {value} at flat index {index}: the weights are damaged or the training diverged, use an \
         earlier checkpoint"
    )]
    NotFinite {
        /// The tensor's name.
        name: String,
        /// Position in row-major order.
        index: usize,
        /// The offending value.
        value: f64,
    },
    /// An archive member whose name tries to leave the archive.
    #[error("{archive} holds a member named {member:?}, which points outside the archive: refusing to read it")]
    UnsafeMember {
        /// The archive.
        archive: String,
        /// The member's name as stored.
        member: String,
    },
    /// An image that differs from the first one of its data set.
    #[error(
        "{member} in {dataset} is {found}, but the first image is {expected}: all images of a data set must have one \
         size and one channel count; `fewstep data` makes them so"
    )]
    MixedImages {
        /// The data set's path.
        dataset: String,
        /// The image.
        member: String,
        /// Its size and channels.
        found: String,
        /// Size and channels of the first image.
        expected: String,
    },
    /// An image that cannot be decoded.
    #[error("{member} in {dataset} cannot be used: {reason}")]
    Image {
        /// The data set's path.
        dataset: String,
        /// The image.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Some images of a data set cannot be used, all of them counted.
    #[error("{count} of the {total} images in {dataset} cannot be used: {listed}")]
    Images {
        /// The data set's path.
        dataset: String,
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
        /// The first of them by name, each with what is wrong with it.
        listed: String,
    },
    /// An index past the end of a data set.
    #[error("image {index} was asked for, but {dataset} holds {len} images")]
    ImageIndex {
        /// The data set's path.
        dataset: String,
        /// What was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// A file that may not be replaced, and was not there when the one for its place was begun.
    #[error(
        "{path} appeared while the file for this place was being made, and is kept: choose another name, or replace it with --overwrite",
        path = path.display()
    )]
    Appeared {
        /// The file.
        path: PathBuf,
    },
    /// A new run would overwrite an old one.
    #[error(
        "run folder {path} already holds files: pass --resume to go on with that run, or choose another folder name",
        path = path.display()
    )]
    RunFolderExists {
        /// The folder.
        path: PathBuf,
    },
    /// A file that a run folder's own results name, and that is not one that a run leaves.
    #[error(
        "the run folder {folder} names the file {name:?}, which {reason}: its files are not those that a run left, so that it is not read",
        folder = folder.display()
    )]
    NotInside {
        /// The folder.
        folder: PathBuf,
        /// What it names.
        name: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// A folder that is not a run folder.
    #[error(
        "{path} is not a run folder (it holds no run.json): check the path, or start a new run without --resume",
        path = path.display()
    )]
    NotARunFolder {
        /// The folder.
        path: PathBuf,
    },
}

fn remedy(found: FileKind) -> String {
    let advice = found.advice();
    if advice.is_empty() { String::new() } else { format!(": {advice}") }
}

impl Error {
    /// Wraps an operating-system error on reading `path`; a missing file becomes [`Error::Missing`].
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Error::Missing { what: "file", path: path.to_owned() };
        }
        Error::Io { action: "read", path: path.to_owned(), source }
    }

    /// Wraps an operating-system error on writing `path`; a full disk becomes [`Error::NoSpace`].
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(source.kind(), StorageFull | QuotaExceeded) {
            return Error::NoSpace { path: path.to_owned() };
        }
        Error::Io { action: "write", path: path.to_owned(), source }
    }

    pub(crate) fn format(format: &'static str, place: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Format { format, place: place.into(), reason: reason.into() }
    }

    /// A file that does not start as its format does: what it is instead, or, where that is not known either, `reason`.
    pub(crate) fn other_kind(format: &'static str, place: impl Into<String>, found: FileKind, reason: &str) -> Self {
        match found {
            FileKind::Unknown => Self::format(format, place, reason),
            found => Error::OtherKind { format, place: place.into(), found },
        }
    }

    pub(crate) fn image(dataset: &str, member: &str, reason: impl Into<String>) -> Self {
        Error::Image { dataset: dataset.to_owned(), member: member.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tensor(name: &str, reason: impl Into<String>) -> Self {
        Error::Tensor { name: name.to_owned(), reason: reason.into() }
    }
}
