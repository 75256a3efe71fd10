//! Takes the C++ files out of a wheel, and nothing else.

use super::wheels::Part;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use zip::ZipArchive;

/// Libraries that serve Python alone.
const PYTHON_ONLY: [&str; 3] = ["libtorch_python.so", "libshm.so", "libtorch_global_deps.so"];

/// Libraries of the torch wheel that need a GPU's driver or libraries.
const CUDA_ONLY: [&str; 5] =
    ["libtorch_cuda.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so", "libc10_cuda.so", "libcaffe2_nvrtc.so"];

/// NVIDIA's libraries that `libtorch_cpu.so` itself links.
const LINKED_BY_CPU: [&str; 2] = ["libcudart.so.13", "libcupti.so.13"];

/// Unpacks the members of `wheel` that belong to `part` under `folder`.
///
/// # Errors
/// A wheel that cannot be read to its end, or that holds a path leading out of the folder.
pub fn extract(wheel: &Path, folder: &Path, part: Part) -> Result<()> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    let file = File::open(wheel).with_context(|| format!("cannot open {}", wheel.display()))?;
    let mut archive = ZipArchive::new(file).with_context(|| format!("{name} is not a whole wheel"))?;
    for at in 0..archive.len() {
        let mut member = archive.by_index(at).with_context(|| format!("{name} is not a whole wheel"))?;
        if member.is_dir() {
            continue;
        }
        if member.is_symlink() || !is_plain(member.name()) {
            bail!("{name} holds the member {:?}, which no wheel should: it was not unpacked", member.name());
        }
        let Some((_, place)) = place(member.name()).filter(|(owner, _)| *owner == part) else {
            continue;
        };
        let target = folder.join(place);
        write(&mut member, &target).with_context(|| format!("cannot unpack {name} into {}", target.display()))?;
    }
    Ok(())
}

/// Copies one member out. The zip reader checks its CRC at the end.
fn write(member: &mut impl io::Read, target: &Path) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create_new(target)?;
    io::copy(member, &mut file)?;
    Ok(())
}

/// Whether a member's name is a path that only goes down.
fn is_plain(name: &str) -> bool {
    let down = Path::new(name).components().all(|component| matches!(component, Component::Normal(_)));
    down && !name.is_empty() && !name.contains(['\\', '\0'])
}

/// Which part a member belongs to and where it goes; `None` for what C++ programs do not need.
fn place(name: &str) -> Option<(Part, PathBuf)> {
    if let Some(header) = name.strip_prefix("torch/include/") {
        return Some((Part::Cpu, Path::new("include").join(header)));
    }
    if let Some((_, header)) = name.strip_prefix("nvidia/").and_then(|name| name.split_once("/include/")) {
        return Some((Part::Cuda, Path::new("cuda/include").join(header)));
    }
    let library = Path::new(name).file_name()?.to_str()?;
    let is_library = library.starts_with("lib") || library.starts_with("nvshmem");
    if !is_library || !(library.ends_with(".so") || library.contains(".so.")) || PYTHON_ONLY.contains(&library) {
        return None;
    }
    let of_torch = name.strip_prefix("torch/lib/") == Some(library);
    let of_nvidia = name.starts_with("nvidia/") && name.strip_suffix(library)?.ends_with("/lib/");
    let for_cpu = if of_torch { !CUDA_ONLY.contains(&library) } else { LINKED_BY_CPU.contains(&library) };
    match (of_torch || of_nvidia, for_cpu) {
        (false, _) => None,
        (true, true) => Some((Part::Cpu, Path::new("lib").join(library))),
        (true, false) => Some((Part::Cuda, Path::new("cuda").join(library))),
    }
}
