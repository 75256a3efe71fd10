//! SHA-256 of bytes and files, as lower-case hexadecimal: how runs name the checkpoint and the data they used.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// SHA-256 of `bytes`, 64 lower-case hexadecimal digits.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file's contents, read in pieces.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256_file(path: impl AsRef<Path>) -> Result<String> {
    let mut hasher = Sha256::new();
    update_from_file(&mut hasher, path.as_ref())?;
    Ok(hex(&hasher.finalize()))
}

/// Feeds a file's contents to a running hash.
pub(crate) fn update_from_file(hasher: &mut Sha256, path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(|e| Error::read(path, e))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(|e| Error::read(path, e))?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(()),
            Some(piece) => hasher.update(piece),
        }
    }
}

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_test_vectors() {
        // FIPS 180-2, appendix B.1, and the empty message.
        assert_eq!(sha256_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256_bytes(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_file_hashes_like_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 31 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(sha256_file(&path).unwrap(), sha256_bytes(&bytes));
        assert!(matches!(sha256_file(folder.path().join("none")), Err(Error::Missing { .. })));
    }
}
