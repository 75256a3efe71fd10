//! Data sets are padded wherever they are named: as training images, as stored images, and as references.

use crate::support::Place;

/// Images of 28x28, for models of 32x32.
fn place() -> Place {
    let place = Place::new();
    place.save_images("small", 1, 28, 40);
    place
}

const PAD: [&str; 2] = ["--set", "data.pad_to=32"];

#[test]
fn eval_pads_what_a_model_s_samples_are_compared_with() {
    let place = place();
    let sampler = ["gaussian-mixture", "--seeds", "0-19", "--steps", "2", "--solver", "euler"];
    let eval = |what: &[&'static str], rest: &[&'static str]| [&["eval"], what, rest].concat();
    let distance = |what: &[&'static str], rest: &[&'static str]| {
        let found = place.json(&eval(what, rest));
        assert_eq!(found["networks"][0]["reference_images"], 40);
        found["metrics"][0]["value"].as_f64().unwrap()
    };
    let padded = distance(&sampler, &["--ref", "small", PAD[0], PAD[1]]);
    let error = place.fails(&eval(&sampler, &["--ref", "small"]));
    assert!(error.contains("the reference small are 28x28"), "{error}");
    place.succeeds(&["ref", "--data", "small", "--pad-to", "32", "--out", "ref.npz"]);
    let of_statistics = distance(&sampler, &["--ref", "ref.npz"]);
    assert!((padded - of_statistics).abs() < 1e-6 * padded, "{padded} {of_statistics}");
    // nothing there to pad
    for reference in [&["--ref", "ref.npz"][..], &[]] {
        let error = place.fails(&eval(&sampler, &[reference, &PAD].concat()));
        assert_eq!(error, "--set data.pad_to=32 is for images of a data set: name one with --ref");
    }
    // samples in a file are as large as the model's
    place.succeeds(&[&["sample", "--out", "samples.npz"], &sampler[..]].concat());
    let stored = distance(&["samples.npz"], &["--ref", "small", PAD[0], PAD[1]]);
    assert!((padded - stored).abs() < 1e-4 * padded, "{padded} {stored}");
    let error = place.fails(&eval(&["samples.npz"], &["--ref", "ref.npz", PAD[0], PAD[1]]));
    assert!(error.contains("neither padded nor fewer"), "{error}");
}

#[test]
fn fit_pads_a_reference_with_training_images_and_without() {
    let place = place();
    let network = ["features", "--data", "small", "--pad-to", "32", "--epochs", "1", "--batch", "9"];
    place.succeeds(&[&network[..], &["--out", "features.safetensors"]].concat());
    let fit = |rest: &[&'static str]| {
        let first = ["fit", "gaussian-mixture", "--steps", "3", "--out", "run", "--dry-run", "--set", "tune.batch=8"];
        [&first[..], &["--features", "features.safetensors"], rest].concat()
    };
    for data in [&[][..], &["--data", "small"]] {
        let cost = place.json(&fit(&[&["--ref", "small", "--pad-to", "32"], data].concat()));
        let reference = cost["settings"]["references"][0]["reference_sha256"].as_str();
        assert!(reference.is_some_and(|reference| reference.ends_with(" padded to 32")), "{cost}");
    }
    let error = place.fails(&fit(&["--ref", "small"]));
    assert!(error.contains("the reference small are 28x28"), "{error}");
    place.succeeds(&["ref", "--data", "small", "--pad-to", "32", "--out", "ref.npz"]);
    let error = place.fails(&fit(&["--ref", "ref.npz", "--pad-to", "32"]));
    assert_eq!(error, "--pad-to is for images of a data set: name one with --data or --ref");
    let alone = place.run(&["fit", "gaussian-mixture", "--out", "run", "--pad-to", "32"]);
    assert!(alone.code == 2 && alone.stderr.contains("--data <PATH>|--ref <LIST>"), "{}", alone.stderr);
}
