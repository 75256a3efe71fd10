//! `fewstep features`, `ref` and `eval`: a feature network, statistics, distances.

use crate::support::{Place, steady};

/// A tiny model, two-class images, and a feature network trained on them.
fn trained() -> Place {
    let place = Place::with_model();
    place.save_images("data", 1, 8, 60);
    // No shifts: a shifted image would be at home in neither class.
    let args = [
        "features",
        "--data",
        "data",
        "--out",
        "features.safetensors",
        "--epochs",
        "6",
        "--batch",
        "9",
        "--max-shift",
        "0",
    ];
    let json = place.json(&args);
    assert!(json["test_accuracy"].as_f64().unwrap() > 0.9, "{json}");
    assert_eq!((json["training_images"].as_u64(), json["test_images"].as_u64()), (Some(54), Some(6)));
    place
}

const EVAL: [&str; 3] = ["eval", "--features", "features.safetensors"];

#[test]
fn a_set_is_at_distance_zero_from_itself_however_it_is_stored() {
    let place = trained();
    let features = ["--features", "features.safetensors"];
    let stored = place.json(&[&["ref", "--data", "data", "--out", "ref.npz"], &features[..]].concat());
    assert_eq!((stored["images"].as_u64(), stored["dimensions"].as_u64()), (Some(60), Some(96)));
    for reference in ["ref.npz", "data"] {
        let json = place.json(&[&EVAL[..], &["data", "--ref", reference]].concat());
        assert!(json["frechet_distance"].as_f64().unwrap() < 1e-6, "{json}");
        assert_eq!((json["images"].as_u64(), json["reference_images"].as_u64()), (Some(60), Some(60)));
        assert_eq!(json["features_sha256"], stored["features_sha256"]);
    }
    let part = place.run(&[&EVAL[..], &["data", "--ref", "ref.npz", "--max-images", "20"]].concat());
    assert_eq!(part.code, 0);
    assert!(
        part.stdout.starts_with("Frechet distance ") && !part.stdout.starts_with("Frechet distance 0.0000"),
        "{}",
        part.stdout
    );
    assert!(part.stderr.contains("warning: 20 images are few"), "{}", part.stderr);
    let info = place.json(&["info", "features.safetensors", "ref.npz"]);
    assert_eq!(
        (info[0]["test_accuracy"].as_f64(), info[1]["images"].as_u64(), info[1]["dimensions"].as_u64()),
        (Some(1.0), Some(60), Some(96))
    );
    assert_eq!(info[1]["features"]["sha256"], info[0]["sha256"]);
}

#[test]
fn images_sampled_now_measure_as_images_stored_do() {
    let place = trained();
    let sampler = ["--model", "model.safetensors", "--seeds", "0-19", "--steps", "3", "--solver", "euler"];
    let now = place.json(&[&EVAL[..], &["--ref", "data"], &sampler].concat());
    assert_eq!((now["nfe"].as_u64(), now["images"].as_u64()), (Some(3), Some(20)));
    for out in ["samples", "samples.npz"] {
        place.succeeds(&[&["sample", "--out", out], &sampler[..]].concat());
        let stored = place.json(&[&EVAL[..], &[out, "--ref", "data"]].concat());
        let [now, stored] = [&now, &stored].map(|json| json["frechet_distance"].as_f64().unwrap());
        assert!((now - stored).abs() <= 1e-6 * now && now > 1e-3, "{now} {stored}");
    }
}

#[test]
fn the_built_in_model_is_measured_against_its_training_images() {
    let place = Place::new();
    let distance = |steps: &str| {
        let json =
            place.json(&["eval", "--model", "fashion-mnist", "--solver", "euler", "--steps", steps, "--seeds", "0-49"]);
        assert_eq!((json["reference_images"].as_u64(), json["features"].as_str()), (Some(60_000), Some("small-cnn")));
        json["frechet_distance"].as_f64().unwrap()
    };
    let (few, many) = (distance("2"), distance("12"));
    assert!(many < 0.5 * few, "{few} after 2 steps, {many} after 12");
}

#[test]
fn sides_that_do_not_belong_together_are_refused() {
    let place = trained();
    place.save_images("colour", 3, 8, 4);
    place.save_images("large", 1, 16, 4);
    let eval = |rest: &[&'static str]| [&EVAL[..], rest].concat();
    insta::assert_snapshot!(place.fails(&["eval", "data"]), @"the built-in features are for images of 32x32 with 1 channel (Fashion-MNIST), but these are 8x8 with 1 channel: give a feature network with --features, or pad Fashion-MNIST with --pad-to 32");
    insta::assert_snapshot!(place.fails(&["eval", "--model", "model.safetensors"]), @"the built-in features are for images of 32x32 with 1 channel (Fashion-MNIST), but these are 8x8 with 1 channel: give a feature network with --features, or pad Fashion-MNIST with --pad-to 32");
    insta::assert_snapshot!(place.fails(&eval(&["data"])), @"with --features there is no default reference: give one with --ref");
    insta::assert_snapshot!(place.fails(&eval(&["large", "--ref", "data"])), @"the images are 16x16 with 1 channel but those of the reference data are 8x8 with 1 channel: both sides must have one size and one number of channels (--pad-to pads data sets)");
    insta::assert_snapshot!(place.fails(&eval(&["colour", "--ref", "data"])), @"the images are 8x8 with 3 channels but those of the reference data are 8x8 with 1 channel: both sides must have one size and one number of channels (--pad-to pads data sets)");
    insta::assert_snapshot!(place.fails(&eval(&["data", "--ref", "nowhere.npz"])), @"the reference nowhere.npz does not exist: check the path");
    insta::assert_snapshot!(place.fails(&eval(&["nowhere", "--ref", "data"])), @"nowhere does not exist: check the path to the data set");
    insta::assert_snapshot!(place.fails(&["eval", "data", "--ref", "data", "--features", "model.safetensors"]), @"model.safetensors cannot be used as a feature network: its metadata does not say 'fewstep features 1', as a feature network's does");
    // Statistics under one network, images under another.
    place.succeeds(&["ref", "--data", "data", "--features", "features.safetensors", "--out", "ref.npz"]);
    place.succeeds(&["features", "--data", "data", "--out", "other.safetensors", "--epochs", "1", "--seed", "1"]);
    let message = place.fails(&["eval", "data", "--features", "other.safetensors", "--ref", "ref.npz"]);
    insta::assert_snapshot!(steady(&message), @"the two sides were measured with different features (small-cnn HASH; small-cnn HASH), and such numbers mean nothing side by side: compute both with the same feature network");
}

#[test]
fn features_need_labels_and_a_place() {
    let place = Place::new();
    place.save_images("data", 1, 8, 12);
    std::fs::create_dir(place.path("plain")).unwrap();
    std::fs::copy(place.path("data/above/0000.png"), place.path("plain/a.png")).unwrap();
    insta::assert_snapshot!(place.fails(&["features", "--data", "plain", "--out", "f.safetensors"]), @"the data set plain has no labels, and a classifier needs them");
    insta::assert_snapshot!(place.fails(&["features", "--data", "data", "--out", "f.bin"]), @"the output f.bin must have a name that ends in .safetensors");
    insta::assert_snapshot!(place.fails(&["ref", "--data", "data", "--out", "nowhere/ref.npz"]), @"cannot write nowhere/ref.npz: there is no folder nowhere");
}
