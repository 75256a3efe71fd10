//! Agreement with other tools: their numbers on the same inputs.

mod differentiable;
mod distances;
mod formula;
mod inception;
mod other_tools;
mod shipped;

use std::path::PathBuf;

use fewstep_io::tensors::{TensorData, TensorMap};
use fewstep_nn::checkpoint::tensor_from;
use fewstep_nn::tch::Tensor;

/// A golden file of the folder beside the project, `None` (said so) where that folder is missing.
fn golden(name: &str) -> Option<TensorMap> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/goldens"));
    if !folder.is_dir() {
        eprintln!("skipped: there is no {}", folder.display());
        return None;
    }
    Some(fewstep_io::npz::read(folder.join(name)).unwrap())
}

/// A file under `testdata/metrics`.
fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/metrics")).join(name)
}

fn tensor(data: &TensorData) -> Tensor {
    tensor_from(data).unwrap()
}

fn scalar(data: &TensorData) -> f64 {
    data.to_f64()[0]
}

/// Asserts |found - expected| <= tolerance max |expected|.
#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size());
    let difference = (found - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]);
    assert!(difference <= tolerance * scale, "off by {:.2e} of the largest value", difference / scale);
}

#[track_caller]
fn assert_relative(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs(), "{found} is not {expected}");
}
