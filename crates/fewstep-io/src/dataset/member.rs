//! Names of archive members.

use crate::{Error, Result};

/// Refuses names that point outside the archive. Nothing is unpacked, so they could do no harm here; a file that holds
/// them was made to do some elsewhere.
pub(super) fn check_name(name: &str, archive: &str) -> Result<()> {
    let drive = name.as_bytes().get(1) == Some(&b':');
    let escapes = name.split(['/', '\\']).any(|part| part == "..");
    if name.starts_with(['/', '\\']) || drive || escapes || name.chars().any(char::is_control) {
        return Err(Error::UnsafeMember { archive: archive.to_owned(), member: name.chars().take(200).collect() });
    }
    Ok(())
}

/// Whether a member is clutter of the operating system that packed the archive.
pub(super) fn is_clutter(name: &str) -> bool {
    name.starts_with("__MACOSX/") || name.split('/').any(|part| part.starts_with('.') && part.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_archive_are_refused() {
        for bad in ["../a.png", "a/../../b.png", "/etc/a.png", "\\a.png", "C:\\a.png", "a\\..\\b", "a\0.png"] {
            assert!(matches!(check_name(bad, "x.zip"), Err(Error::UnsafeMember { .. })), "{bad:?}");
        }
        for good in ["00000/img00000000.png", "a..b.png", "dataset.json", "日本/画.jpg"] {
            assert!(check_name(good, "x.zip").is_ok(), "{good:?}");
        }
        assert!(is_clutter("__MACOSX/a.png") && is_clutter("a/.DS_Store") && !is_clutter("./a.png"));
    }
}
