//! Compiles the C++ of `src/shim`, and lets the programs of this workspace find libtorch when they run.
//!
//! torch-sys links `libtorch_cpu.so` and `libc10.so` but sets no run path. This script sets one for the tests of this crate
//! and hands the folders on: a crate that depends on fewstep-nn and has a binary or tests repeats them in its own build
//! script from `DEP_FEWSTEP_NN_RUN_PATH` (Cargo.toml's `links = "fewstep_nn"` makes that variable).
//!
//! The second folder, `cuda`, holds `libtorch_cuda.so` and what it needs. It is on the run path so that `dlopen` finds
//! it by name, and it is not `lib/` itself because torch-sys would then link it, and no program would start without a GPU.

use std::path::{Path, PathBuf};

const SHIM: &str = "src/shim";

/// The compiler's sanitizers for `src/shim`, as its `-fsanitize` takes them (`cargo xtask sanitize`).
const SANITIZE: &str = "FEWSTEP_SANITIZE";

/// What `dispatch.cpp` asks the processor for, as the compiler calls it.
const AVX2: [&str; 2] = ["-mavx2", "-mfma"];
const AVX512: [&str; 4] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SHIM}");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed={SANITIZE}");
    // `.cargo/config.toml` sets the variable wherever the user does not.
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!("cargo::error=LIBTORCH is not set: build inside the workspace, after `cargo xtask libtorch`");
        return;
    };
    let (lib, cuda) = (libtorch.join("lib"), libtorch.join("cuda"));
    let run_path = format!("{}:{}", lib.display(), cuda.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{run_path}");
    println!("cargo::metadata=RUN_PATH={run_path}");
    compile_shim(&libtorch.join("include"));
    name_instruction_sets();
}

/// The operations that use libtorch, and the kernels for each instruction set; which one runs is decided at run time.
fn compile_shim(include: &Path) {
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64");
    let mut ops = cpp();
    if x86 {
        ops.define("FEWSTEP_X86", None);
    }
    // Headers of libtorch as system headers: their warnings are not ours. Its parallel_for is OpenMP in a header.
    ops.flag("-isystem").flag(include).flag("-isystem").flag(include.join("torch/csrc/api/include"));
    ops.flag("-fopenmp").define("_GLIBCXX_USE_CXX11_ABI", "1");
    ops.include(format!("{SHIM}/declared")); // names of Gloo's that headers of libtorch ask for
    ops.files(
        ["norm", "sum", "dropout", "dispatch", "group", "gradients", "ffi"].map(|name| format!("{SHIM}/{name}.cpp")),
    )
    .compile("fewstep_shim");
    // After what uses them: the linker reads archives in order.
    compile_kernels("baseline", &[]);
    if x86 {
        let avx512 = [&AVX2[..], &AVX512].concat();
        compile_kernels("avx2", &AVX2);
        compile_kernels("avx512", &avx512);
        compile_kernels("avx512bf16", &[&avx512[..], &["-mavx512bf16"]].concat());
    }
}

/// Which sets the processor at hand has, for the tests: those of the others are ignored, which a test cannot say of itself when it runs.
fn name_instruction_sets() {
    println!("cargo::rustc-check-cfg=cfg(has_avx2, has_avx512, has_avx512bf16)");
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
        for (name, has) in [("avx2", avx2), ("avx512", avx512), ("avx512bf16", bf16)] {
            if has {
                println!("cargo::rustc-cfg=has_{name}");
            }
        }
    }
}

fn compile_kernels(set: &str, flags: &[&str]) {
    let mut build = cpp();
    build.opt_level(3).flags(flags).define("FEWSTEP_KERNELS", format!("kernels_{set}").as_str());
    build.define("FEWSTEP_KERNELS_NAME", format!("\"{set}\"").as_str());
    // Vectors are never passed between functions, so their calling convention does not matter.
    build.flags(["-fno-math-errno", "-fno-trapping-math"]).flag_if_supported("-Wno-psabi");
    build.file(format!("{SHIM}/kernels.cpp")).compile(&format!("fewstep_kernels_{set}"));
}

fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2);
    if let Ok(sanitizers) = std::env::var(SANITIZE) {
        build.flag(format!("-fsanitize={sanitizers}")).flag("-fno-sanitize-recover=all").flag("-g1");
        // by name, as rustc keeps the compiler from adding libraries of its own
        for (sanitizer, library) in [("address", "asan"), ("undefined", "ubsan")] {
            if sanitizers.contains(sanitizer) {
                println!("cargo::rustc-link-lib=dylib={library}");
            }
        }
    }
    build
}
