//! Names of archive members.

use super::unusable;
use crate::{Error, Result};

/// Refuses names that point outside the archive. Nothing is unpacked, so they could do no harm here; a file that holds
/// them was made to do some to other readers.
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

/// Whether a file is an image of a kind that is not read here, by its name.
pub(super) fn is_foreign_image(name: &str) -> bool {
    const KINDS: [&str; 13] =
        ["webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pnm", "avif", "heic", "jxl", "jp2", "jfif"];
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| KINDS.contains(&extension.as_str()))
}

/// Leaving out images that the user put there would change every number that is computed from the others.
pub(super) fn refuse_foreign(foreign: &mut [String], place: &str) -> Result<()> {
    foreign.sort();
    if foreign.is_empty() {
        return Ok(());
    }
    let reason = format!(
        "it holds {} image(s) of kinds that are not read: convert them to PNG, or move them away: {}",
        foreign.len(),
        unusable::listed(foreign)
    );
    Err(Error::format(super::FORMAT, place, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_images_are_never_left_out_silently() {
        let mut names = ["b/c.BMP", "a.webp", "notes.txt"].map(str::to_owned).to_vec();
        names.retain(|name| is_foreign_image(name));
        let message = refuse_foreign(&mut names, "data").unwrap_err().to_string();
        assert!(message.contains("2 image(s)") && message.ends_with("a.webp; b/c.BMP"), "{message}");
        assert!(refuse_foreign(&mut [], "data").is_ok());
    }

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
