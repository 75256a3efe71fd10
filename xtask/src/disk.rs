//! Whether the disk has room for what a task leaves behind, told before the task begins instead of where it breaks off.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// Something that a task makes once, and how much of the disk that takes at most, in GB.
pub struct Need {
    /// What it is, for the message.
    pub what: &'static str,
    /// GB, temporary files among them.
    pub gigabytes: f64,
    /// Whether it is there already.
    pub is_there: bool,
}

/// Fails where the disk of `root` has less free than `needs` take that are not there yet. A disk that cannot be asked is trusted.
pub fn check(root: &Path, needs: &[Need]) -> Result<()> {
    match free(root) {
        Some(free) => compare(free, needs, root),
        None => Ok(()),
    }
}

fn compare(free: f64, needs: &[Need], root: &Path) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_there).collect();
    let needed: f64 = missing.iter().map(|need| need.gigabytes).sum();
    if free < needed {
        let list: Vec<String> = missing.iter().map(|need| format!("{} {}", need.what, need.gigabytes)).collect();
        bail!(
            "the disk of {} has {free:.1} GB free and this takes up to {needed:.1} GB ({}): make room, then run it again",
            root.display(),
            list.join(", ")
        );
    }
    Ok(())
}

/// GB that are free where `folder` lies, as POSIX's `df` says it.
fn free(folder: &Path) -> Option<f64> {
    let output = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    kilobytes_free(&String::from_utf8_lossy(&output.stdout)).map(|kilobytes| kilobytes * 1024.0 / 1e9)
}

/// The fourth column of the second line: `df -Pk` prints one line of names and one of numbers.
fn kilobytes_free(table: &str) -> Option<f64> {
    table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_df_prints_is_read() {
        let table =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 264000000 70000000 26000000 73% /\n";
        assert_eq!(kilobytes_free(table), Some(26e6));
        assert_eq!(kilobytes_free(""), None);
        assert!(free(Path::new("/")).is_some_and(|free| free > 0.0));
    }

    #[test]
    fn only_what_is_missing_takes_room() {
        let need = |what, gigabytes, is_there| Need { what, gigabytes, is_there };
        let needs = [need("libtorch", 1.0, true), need("the build", 8.0, false), need("packages", 6.5, false)];
        compare(14.6, &needs, Path::new("/a")).unwrap();
        let error = compare(14.4, &needs, Path::new("/a")).unwrap_err().to_string();
        let said = "the disk of /a has 14.4 GB free and this takes up to 14.5 GB (the build 8, packages 6.5): make room, then run it again";
        assert_eq!(error, said);
    }
}
