//! Integration tests: real and hostile files through the public API.

mod checkpoints;
mod datasets;
mod goldens;
mod hostile_pickles;
mod pictures;
mod torchscript;

use std::path::PathBuf;

/// A file of this repository's `testdata` folder.
fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}
