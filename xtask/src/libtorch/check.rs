//! Whether a folder is a libtorch that this project can use.

use super::VERSION;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Where a libtorch says its version in C, newest place first.
const VERSION_HEADERS: [&str; 2] =
    ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];

/// Checks that `folder` holds libtorch 2.11: its library, its headers, its version, and with `cuda` its CUDA library.
///
/// # Errors
/// One sentence that says what is missing and what to do about it.
pub fn libtorch(folder: &Path, cuda: bool) -> Result<()> {
    let shown = folder.display();
    if !folder.is_absolute() {
        bail!("LIBTORCH is \"{shown}\": give the whole path, because build scripts run in folders of their own");
    }
    for file in ["lib/libtorch_cpu.so", "include/torch/csrc/api/include/torch/torch.h"] {
        if !folder.join(file).exists() {
            bail!(
                "there is no {file} in LIBTORCH=\"{shown}\": point it at a libtorch {VERSION}, or unset it and have one fetched"
            );
        }
    }
    let found = version(folder)?;
    if series(&found) != series(VERSION) {
        bail!(
            "LIBTORCH=\"{shown}\" is version {found} and this project needs {VERSION}: point it at that, or unset it and have one fetched"
        );
    }
    let cuda_places = ["lib/libtorch_cuda.so", "cuda/libtorch_cuda.so"];
    if cuda && !cuda_places.iter().any(|file| folder.join(file).exists()) {
        bail!(
            "LIBTORCH=\"{shown}\" was built without CUDA (no libtorch_cuda.so): point it at one with CUDA, or unset it and have one fetched"
        );
    }
    Ok(())
}

/// The version that a libtorch states in its `build-version` file or else in its headers, such as `2.11.0`.
fn version(folder: &Path) -> Result<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Ok(text.trim().to_string());
    }
    let header = VERSION_HEADERS.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
    let header = header.with_context(|| {
        format!("\"{}\" does not say its version: no build-version file, no version.h", folder.display())
    })?;
    let number = |name: &str| -> Option<&str> {
        header.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.split_whitespace().next())
    };
    let parts: Option<Vec<&str>> =
        ["MAJOR ", "MINOR ", "PATCH "].iter().map(|part| number(&format!("TORCH_VERSION_{part}"))).collect();
    let parts = parts.with_context(|| format!("the version.h of \"{}\" has no version numbers", folder.display()))?;
    Ok(parts.join("."))
}

/// `2.11` of `2.11.0+cpu`: the C++ interface changes with the second number.
fn series(version: &str) -> Vec<&str> {
    version.split(['.', '+']).take(2).collect()
}
