//! Output files: refused where something would be lost, and tried before any long work.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
pub use fewstep::data::has_extension;
use fewstep_io::atomic::OutFile;

/// Checks that a path has the extension by which it will be recognised later.
pub fn check_extension(path: &Path, extension: &str) -> Result<()> {
    ensure!(has_extension(path, extension), "the output {} must have a name that ends in .{extension}", path.display());
    Ok(())
}

/// Where the file goes: one can be made at `path`, before anything is computed for it, and does not replace another unless asked to, not
/// even one that appears meanwhile.
pub fn check_new_file(path: &Path, overwrite: bool) -> Result<OutFile<'_>> {
    if path.is_dir() {
        bail!("the output {} is a folder: give a file name", path.display());
    }
    ensure!(
        overwrite || path.symlink_metadata().is_err(),
        "{} exists already: choose another name, or replace it with --overwrite",
        path.display()
    );
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    ensure!(folder.is_dir(), "cannot write {}: there is no folder {}", path.display(), folder.display());
    // A file without a name, which leaves nothing behind.
    tempfile::tempfile_in(folder).with_context(|| format!("cannot write into the folder {}", folder.display()))?;
    Ok(OutFile::new(path, overwrite))
}
