//! Reference inputs and outputs from the code that users' checkpoints come from.

use std::collections::HashMap;
use std::path::PathBuf;

use fewstep_nn::checkpoint::tensor_from;
use fewstep_nn::tch::{Kind, Tensor};

/// Where the goldens are, if they are on this machine.
pub fn folder() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: no goldens at {}", path.display());
    None
}

/// The arrays of an npz file.
pub fn arrays(path: PathBuf) -> HashMap<String, Tensor> {
    let arrays = fewstep_io::npz::read(&path).unwrap();
    arrays.iter().map(|(name, data)| (name.clone(), tensor_from(data).unwrap().to_kind(Kind::Float))).collect()
}

/// Asserts that `found` is within `tolerance` of `expected`, relative to the largest absolute value.
#[track_caller]
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let scale = expected.abs().max().double_value(&[]);
    let error = (found - expected).abs().max().double_value(&[]) / scale;
    assert!(
        error <= tolerance,
        "{what}: {error:.2e} of the largest absolute value {scale:.4}, allowed {tolerance:.0e}"
    );
}
