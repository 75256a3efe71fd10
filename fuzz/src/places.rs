//! Files for readers that take paths.

use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;

/// A file of these bytes under this name, in a folder of this process; the last of the name is replaced.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = own().join(name);
    std::fs::write(&path, bytes).expect("the folder can be written");
    path
}

/// A folder of files of these names and bytes, below folders where names say so; the last one is removed. A name that cannot be a file's is
/// left out.
pub fn folder(files: &[(&str, &[u8])]) -> PathBuf {
    let path = own().join("folder");
    if path.exists() {
        std::fs::remove_dir_all(&path).expect("a folder can be removed");
    }
    std::fs::create_dir(&path).expect("a folder can be made");
    for (name, bytes) in files {
        let file = path.join(name);
        let made = file.parent().map(std::fs::create_dir_all);
        if matches!(made, Some(Ok(()))) {
            let _ = std::fs::write(file, bytes);
        }
    }
    path
}

/// The folder of this process.
fn own() -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    // memory where there is some: a disk would set the pace
    let make = || {
        let memory = std::path::Path::new("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
    };
    FOLDER.get_or_init(|| make().expect("a folder can be made")).path().to_owned()
}

/// A safetensors file of this header, whatever it says, and contents.
pub fn safetensors(header: &str, contents: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), contents].concat()
}

/// A zip archive of these members, stored as they are or deflated.
pub fn zip<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>, deflated: bool) -> Vec<u8> {
    use std::io::{Cursor, Write};
    let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        // a name that is there already is left out
        if archive.start_file(name, options).is_ok() {
            archive.write_all(bytes).expect("memory can be written");
        }
    }
    archive.finish().expect("memory can be written").into_inner()
}
