//! Lets this crate's programs and tests find libtorch when they run: see fewstep-nn's build script, which found it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_FEWSTEP_NN_RUN_PATH");
    if let Ok(run_path) = std::env::var("DEP_FEWSTEP_NN_RUN_PATH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{run_path}");
    }
}
