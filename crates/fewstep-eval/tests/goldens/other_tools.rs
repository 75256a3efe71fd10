//! The same image files as pytorch-fid and torch-fidelity measured: see `testdata/metrics`.

use fewstep_eval::features::{Convention, FeatureNetwork, Inception};
use fewstep_eval::images;
use fewstep_eval::inception_score::{Options, inception_score};
use fewstep_eval::kid::{KidOptions, kid};
use fewstep_eval::neighbours::precision_recall;
use fewstep_eval::watch::unwatched;
use fewstep_eval::{Collected, Collector, Keep, frechet_distance};
use fewstep_io::Dataset;
use fewstep_nn::tch::Device;
use serde_json::Value;

use crate::{assert_relative, formula, testdata};

/// What one of our networks sees in a folder, taken in batches of another size than the tools'.
fn collect(network: &dyn FeatureNetwork, folder: &str) -> Collected {
    let images = images::tensor(&Dataset::open(testdata(folder)).unwrap().load_all().unwrap()).unwrap();
    let mut collector = Collector::new(network, Keep { features: true, logits: true, images: false });
    for batch in images.split(5, 0) {
        collector.push(&batch).unwrap();
    }
    collector.finish().unwrap()
}

/// `tolerance` of the distances: what decoders of one JPEG file may differ by, otherwise f32 rounding and the accuracy of
/// SciPy's square root of a singular matrix (all sets have fewer images than features have dimensions).
fn agrees(a: &str, b: &str, tolerance: f64) {
    let goldens: Value = serde_json::from_slice(&std::fs::read(testdata("goldens.json")).unwrap()).unwrap();
    let golden = &goldens[format!("{a} {b}")];

    let network = Inception::new(formula::weights(), Convention::PytorchFid, Device::Cpu).unwrap();
    let (left, right) = (collect(&network, a), collect(&network, b));
    let fid = frechet_distance(&left.statistics, &right.statistics).unwrap();
    assert_relative(fid, golden["pytorch-fid"]["fid"].as_f64().unwrap(), tolerance);

    let network = Inception::new(formula::weights(), Convention::Tf1, Device::Cpu).unwrap();
    let (left, right) = (collect(&network, a), collect(&network, b));
    let expected = |name: &str| golden["torch-fidelity"][name].as_f64();
    let fid = frechet_distance(&left.statistics, &right.statistics).unwrap();
    assert_relative(fid, expected("frechet_inception_distance").unwrap(), tolerance);

    let score = inception_score(&left.logits.unwrap(), &Options { splits: 2, shuffle: None }).unwrap();
    assert_relative(score.value, expected("inception_score_mean").unwrap(), tolerance);
    let deviation = expected("inception_score_std").unwrap();
    assert!((score.deviation - deviation).abs() <= tolerance * score.value, "{} is not {deviation}", score.deviation);

    let (left, right) = (left.features.unwrap(), right.features.unwrap());
    let found = precision_recall(&left, &right, 3, &mut unwatched).unwrap();
    assert_relative(found.precision, expected("precision").unwrap(), 1e-6);
    assert_relative(found.recall, expected("recall").unwrap(), 1e-6);
    if let Some(expected) = expected("kernel_inception_distance_mean") {
        let subset_size = left.size()[0] as usize;
        let found = kid(&left, &right, &KidOptions { subsets: 1, subset_size, seed: 0 }, &mut unwatched).unwrap();
        assert_relative(found.value, expected, tolerance);
    }
}

#[test]
fn colour() {
    agrees("colour_a", "colour_b", 1e-3);
}

#[test]
fn grey_images_smaller_than_32_pixels() {
    agrees("grey_a", "grey_b", 1e-3);
}

#[test]
fn images_of_512_pixels() {
    agrees("large_a", "large_b", 1e-3);
}

/// One decoder's grey values are another's: only colours are interpolated differently.
#[test]
fn grey_jpeg() {
    agrees("grey_jpeg_a", "grey_jpeg_b", 5e-3);
}

#[test]
fn jpeg() {
    agrees("jpeg_a", "jpeg_b", 2e-2);
}
