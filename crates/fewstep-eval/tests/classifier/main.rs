//! Training of the small classifier. A program of its own: libtorch has one generator a process, and a test beside this one
//! that draws from it would change the initial weights.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fewstep_eval::features::FeatureNetwork;
use fewstep_eval::features::train::{TrainOptions, train_classifier};
use fewstep_io::dataset::Images;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Two classes that a linear rule on 8x8 images separates: bright above or bright below.
fn halves(count: usize, seed: u64) -> Images {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let labels: Vec<u32> = (0..count).map(|i| (i % 2) as u32).collect();
    let pixel = |label: u32, y: usize, rng: &mut ChaCha12Rng| {
        let bright = (y < 4) == (label == 0);
        rng.random_range(0..100u8) + if bright { 100 } else { 0 }
    };
    let data = labels
        .iter()
        .flat_map(|&label| (0..64).map(move |i| (label, i / 8)))
        .map(|(label, y)| pixel(label, y, &mut rng))
        .collect();
    Images::new(data, 1, 8, 8, Some(labels)).unwrap()
}

fn quick() -> TrainOptions {
    TrainOptions { epochs: 4, batch: 16, flip: true, max_shift: 1, ..Default::default() }
}

#[test]
fn learns_is_deterministic_and_survives_its_file() {
    let (train, test) = (halves(256, 1), halves(64, 2));
    let mut seen = Vec::new();
    let trained = train_classifier(&train, &test, &quick(), &mut |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(trained.test_accuracy > 0.95, "{}", trained.test_accuracy);
    assert_eq!(seen.len(), 64);
    assert_eq!((seen[63].step, seen[63].steps), (64, 64));

    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let net = trained.save(&a, &BTreeMap::from([("dataset".to_owned(), "halves".to_owned())])).unwrap();
    let again = train_classifier(&train, &test, &quick(), &mut |_| ControlFlow::Continue(())).unwrap();
    again.save(&b, &BTreeMap::from([("dataset".to_owned(), "halves".to_owned())])).unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());

    let images = fewstep_eval::images::tensor(&test).unwrap();
    let out = net.activations(&images).unwrap();
    assert_eq!(out.features.size(), [64, 96]);
    let alone = net.features(&images.narrow(0, 5, 1)).unwrap();
    assert!((out.features.narrow(0, 5, 1) - alone).abs().max().double_value(&[]) < 1e-5);
    assert_eq!(net.id().sha256, fewstep_io::hash::sha256_file(&a).unwrap());
    assert!(net.features(&images.narrow(2, 0, 3)).unwrap_err().to_string().contains("too small"));
}
