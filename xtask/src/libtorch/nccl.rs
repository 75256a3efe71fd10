//! The library by which processes on GPUs sum their tensors: compiled here, as nothing else needs CUDA's headers.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "crates/fewstep-nn/src/shim/nccl.cpp";
const HEADER: &str = "crates/fewstep-nn/src/shim/group.h";
const LIBRARY: &str = "libfewstep_nccl.so";

/// Compiles `cuda/libfewstep_nccl.so`, unless it is newer than what it is made of.
///
/// # Errors
/// If the compiler cannot be started, or refuses.
pub fn ensure(root: &Path, libtorch: &Path) -> Result<()> {
    let (cuda, library) = (libtorch.join("cuda"), libtorch.join("cuda").join(LIBRARY));
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let sources = [root.join(SOURCE), root.join(HEADER)];
    if changed(&library).is_some_and(|made| sources.iter().all(|source| changed(source) <= Some(made))) {
        return Ok(());
    }
    eprintln!("compiling {LIBRARY}");
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-O2", "-fPIC", "-shared", "-D_GLIBCXX_USE_CXX11_ABI=1"]);
    for folder in ["include", "include/torch/csrc/api/include", "cuda/include", "cuda/include/cccl"] {
        compiler.arg("-isystem").arg(libtorch.join(folder));
    }
    let new = cuda.join(format!("{LIBRARY}.new"));
    compiler.arg(root.join(SOURCE)).arg("-o").arg(&new);
    for folder in ["cuda", "lib"] {
        compiler.arg("-L").arg(libtorch.join(folder));
    }
    compiler.args(["-Wl,-rpath,$ORIGIN:$ORIGIN/../lib", "-Wl,--no-as-needed"]);
    compiler.args(["-ltorch_cuda", "-lc10_cuda", "-ltorch_cpu", "-lc10", "-l:libcudart.so.13"]);
    let status = compiler.status().context("cannot start c++")?;
    if !status.success() {
        bail!("c++ could not compile {SOURCE}: see its message above");
    }
    fs::rename(&new, &library).with_context(|| format!("cannot put {} in place", library.display()))
}
