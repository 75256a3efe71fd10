//! Distances on given features, against SciPy and torch-fidelity.

use fewstep_eval::inception_score::{Options, inception_score};
use fewstep_eval::kid::{KidOptions, kid};
use fewstep_eval::neighbours::precision_recall;
use fewstep_eval::watch::unwatched;
use fewstep_eval::{Moments, Statistics, frechet_distance};
use fewstep_io::tensors::TensorMap;
use fewstep_nn::tch::Tensor;

use crate::{assert_relative, golden, scalar, tensor};

const TOLERANCE: f64 = 1e-6;

fn features(file: &TensorMap) -> (Tensor, Tensor) {
    (tensor(&file["features_a"]), tensor(&file["features_b"]))
}

fn statistics(features: &Tensor) -> Statistics {
    let mut moments = Moments::new(features.size()[1] as usize).unwrap();
    for part in features.split(33, 0) {
        moments.update(&part).unwrap();
    }
    moments.statistics(None).unwrap()
}

#[test]
fn fid() {
    let Some(file) = golden("distances.npz") else { return };
    let (a, b) = features(&file);
    let distance = frechet_distance(&statistics(&a), &statistics(&b)).unwrap();
    assert_relative(distance, scalar(&file["fid"]), TOLERANCE);
}

#[test]
fn kernel_distance() {
    let Some(file) = golden("distances.npz") else { return };
    let (a, b) = features(&file);
    let options = KidOptions { subsets: 1, subset_size: 300, seed: 0 };
    let distance = kid(&a.narrow(0, 0, 300), &b.narrow(0, 0, 300), &options, &mut unwatched).unwrap();
    assert_relative(distance.value, scalar(&file["kid_poly3_first300"]), TOLERANCE);
}

#[test]
fn precision_and_recall() {
    let Some(file) = golden("distances.npz") else { return };
    let (a, b) = features(&file);
    let found = precision_recall(&a, &b, 3, &mut unwatched).unwrap();
    assert_relative(found.precision, scalar(&file["precision"]), TOLERANCE);
    assert_relative(found.recall, scalar(&file["recall"]), TOLERANCE);
    assert_relative(found.f_score(), scalar(&file["f_score"]), TOLERANCE);
}

#[test]
fn score_of_classes() {
    let Some(file) = golden("distances.npz") else { return };
    let score = inception_score(&tensor(&file["is_logits"]), &Options { splits: 10, shuffle: None }).unwrap();
    assert_relative(score.value, scalar(&file["inception_score_mean"]), TOLERANCE);
    assert_relative(score.deviation, scalar(&file["inception_score_std"]), TOLERANCE);
}
