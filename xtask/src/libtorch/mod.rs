//! `cargo xtask libtorch`: the C++ libraries and headers of PyTorch, from its wheels, into `.libtorch/`.
//!
//! What lies there afterwards:
//!
//! - `include/`, `lib/`: what the crates compile and link against. `libtorch_cpu.so` has `$ORIGIN` in its DT_RPATH, so the CUDA
//!   runtime and CUPTI, which it links even where no GPU is, are found because they lie beside it.
//! - `cuda/` (with `--cuda`): `libtorch_cuda.so`, its companions, NVIDIA's libraries and their headers, and what is compiled with
//!   these. A folder of its own, because torch-sys links whatever `lib/libtorch_cuda.so` it sees, and because that library is
//!   opened at run time only.
//! - `installed-*.txt`: which wheels each part came from. Written last: without it a part counts as not there.
//! - `download/`: wheels fetched and checked, only until they are unpacked.

mod check;
mod extract;
mod fetch;
mod nccl;
mod wheels;

use crate::disk::Need;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use wheels::{Part, Wheel};

/// The version of libtorch that our tch binds.
pub const VERSION: &str = "2.11.0";

/// Makes sure of a usable libtorch and returns its folder: the user's own where `LIBTORCH` names one, else `.libtorch/`.
pub fn ensure(root: &Path, cuda: bool) -> Result<PathBuf> {
    if let Some(folder) = own(root) {
        check::libtorch(&folder, cuda)?; // its GPUs' headers are not ours to find: their tensors are summed by way of the hosts
        return Ok(folder);
    }
    let home = root.join(".libtorch");
    let parts = if cuda { vec![Part::Cpu, Part::Cuda] } else { vec![Part::Cpu] };
    let missing: Vec<Part> = parts.into_iter().filter(|part| !is_installed(&home, *part)).collect();
    if !missing.is_empty() {
        install(&home, &missing, &fetch::with_pip)?;
    }
    if cuda {
        nccl::ensure(root, &home)?;
    }
    Ok(home)
}

/// What `ensure` takes of the disk.
pub fn need(root: &Path) -> Need {
    let is_there = own(root).is_some() || is_installed(&root.join(".libtorch"), Part::Cpu);
    Need { what: "libtorch", gigabytes: 1.5, is_there }
}

/// The user's own libtorch: `LIBTORCH`, unless it is the value that `.cargo/config.toml` gives it.
pub fn own(root: &Path) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("LIBTORCH")?);
    let ours = root.join(".libtorch");
    (!folder.as_os_str().is_empty() && folder != ours).then_some(folder)
}

/// Whether `part` was installed from exactly the wheels pinned for this machine.
fn is_installed(home: &Path, part: Part) -> bool {
    let Ok(wheels) = wheels::of(part) else {
        return false;
    };
    let stamp = fs::read_to_string(home.join(part.stamp()));
    stamp.is_ok_and(|found| found == stamp_text(&wheels)) && home.join(part.folders()[0]).is_dir()
}

/// Fetches the wheels of `parts`, unpacks them, and deletes them.
fn install(home: &Path, parts: &[Part], fetch: &fetch::Fetch) -> Result<()> {
    let mut wheels: Vec<Wheel> = Vec::new();
    for part in parts {
        let more = wheels::of(*part)?;
        wheels.extend(more.into_iter().filter(|wheel| !wheels.contains(wheel)).collect::<Vec<_>>());
    }
    let downloads = home.join("download");
    fs::create_dir_all(&downloads).with_context(|| format!("cannot make the folder {}", downloads.display()))?;
    remove_leftovers(home)?;
    for (at, wheel) in wheels.iter().enumerate() {
        eprintln!("libtorch: {} of {}: {} ({} MB)", at + 1, wheels.len(), wheel.requirement()?, wheel.megabytes);
        fetch::obtain(wheel, &downloads, fetch)?;
    }
    for part in parts {
        unpack(home, *part, &downloads)?;
    }
    fs::remove_dir_all(&downloads).with_context(|| format!("cannot delete {}", downloads.display()))
}

/// Unpacks one part beside the place where it belongs, and moves it there when it is whole.
fn unpack(home: &Path, part: Part, downloads: &Path) -> Result<()> {
    let wheels = wheels::of(part)?;
    let scratch = home.join(scratch_name());
    for wheel in &wheels {
        if let Err(error) = extract::extract(&downloads.join(wheel.file), &scratch, part) {
            // What matters is the first error; the folder is also removed by the next run.
            let _ = fs::remove_dir_all(&scratch);
            return Err(error);
        }
    }
    if part == Part::Cpu {
        fs::write(scratch.join("build-version"), VERSION).context("cannot write build-version")?;
        check::libtorch(&scratch, false).context("the wheels do not hold what they should")?;
    }
    let stamp = home.join(part.stamp());
    remove_if_there(&stamp)?;
    for name in part.folders() {
        let target = home.join(name);
        remove_if_there(&target)?;
        fs::rename(scratch.join(name), &target).with_context(|| format!("cannot put {} in place", target.display()))?;
    }
    let text = scratch.join(part.stamp());
    fs::write(&text, stamp_text(&wheels)).with_context(|| format!("cannot write {}", text.display()))?;
    fs::rename(&text, &stamp).with_context(|| format!("cannot put {} in place", stamp.display()))?;
    remove_if_there(&scratch)
}

/// One line a wheel: its hash and its name, as `sha256sum` prints them.
fn stamp_text(wheels: &[Wheel]) -> String {
    wheels.iter().map(|wheel| format!("{}  {}\n", wheel.sha256, wheel.file)).collect()
}

/// The scratch folder of this process. The number in it tells a later run whether its maker is still at work.
fn scratch_name() -> String {
    format!("unpack-{}.tmp", std::process::id())
}

/// Deletes the scratch folders of processes that are gone.
fn remove_leftovers(home: &Path) -> Result<()> {
    for folder in [home.to_path_buf(), home.join("download")] {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let maker = name.strip_suffix(".tmp").and_then(|rest| rest.rsplit('-').next());
            // A process that ended has no executable any more, even where nobody has collected it yet.
            if maker.is_some_and(|id| fs::read_link(Path::new("/proc").join(id).join("exe")).is_err()) {
                remove_if_there(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Deletes a file or a folder; nothing being there is fine.
fn remove_if_there(path: &Path) -> Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    gone.with_context(|| format!("cannot delete {}", path.display()))
}

/// The machine's name in wheel tags.
fn machine() -> Result<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok("x86_64"),
        ("linux", "aarch64") => Ok("aarch64"),
        (os, arch) => bail!(
            "libtorch is fetched for Linux on x86_64 and aarch64 only, and this is {os} on {arch}: \
             install libtorch {VERSION} yourself and point LIBTORCH at it"
        ),
    }
}

#[cfg(test)]
mod tests;
