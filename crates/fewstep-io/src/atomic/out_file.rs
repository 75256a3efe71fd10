//! Where a file goes.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Where a file goes, and whether it may replace one that is there. A path alone may: what is made of it is this program's own.
#[derive(Clone, Debug)]
pub struct OutFile<'a> {
    pub(super) path: Cow<'a, Path>,
    pub(super) replaces: bool,
}

impl<'a> OutFile<'a> {
    /// A path that somebody named, and may have named by mistake: only if `replaces` is set does a file that is there go, also one that
    /// appeared while the new one was being made.
    pub fn new(path: &'a Path, replaces: bool) -> Self {
        Self { path: Cow::Borrowed(path), replaces }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for OutFile<'a> {
    fn from(path: &'a P) -> Self {
        Self::new(path.as_ref(), true)
    }
}

impl From<PathBuf> for OutFile<'_> {
    fn from(path: PathBuf) -> Self {
        Self { path: Cow::Owned(path), replaces: true }
    }
}
