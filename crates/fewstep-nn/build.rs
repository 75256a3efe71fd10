//! Lets the programs of this workspace find libtorch when they run.
//!
//! torch-sys links `libtorch_cpu.so` and `libc10.so` but sets no run path. This script sets one for the tests of this crate
//! and hands the folders on: a crate that depends on fewstep-nn and has a binary or tests repeats them in its own build
//! script from `DEP_FEWSTEP_NN_RUN_PATH` (Cargo.toml's `links = "fewstep_nn"` makes that variable).
//!
//! The second folder, `cuda`, holds `libtorch_cuda.so` and what it needs. It is on the run path so that `dlopen` finds
//! it by name, and it is not `lib/` itself because torch-sys would then link it, and no program would start without a GPU.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    // `.cargo/config.toml` sets the variable wherever the user does not.
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        return;
    };
    let (lib, cuda) = (libtorch.join("lib"), libtorch.join("cuda"));
    let run_path = format!("{}:{}", lib.display(), cuda.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{run_path}");
    println!("cargo::metadata=RUN_PATH={run_path}");
}
