//! `fewstep features`, `ref` and `eval`: a feature network, statistics, distances.

use fewstep_io::tensors::TensorData;
use serde_json::Value;

use crate::support::{Place, SIZE, steady, testdata};

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

/// The number of a metric in what `eval --json` prints.
#[track_caller]
fn value(json: &Value, metric: &str) -> f64 {
    measured(json, metric)["value"].as_f64().unwrap()
}

#[track_caller]
fn measured<'a>(json: &'a Value, metric: &str) -> &'a Value {
    let found = json["metrics"].as_array().unwrap().iter().find(|found| found["metric"] == metric);
    found.unwrap_or_else(|| panic!("no {metric} in {json}"))
}

#[test]
fn several_feature_networks_see_the_same_images() {
    let place = trained();
    std::fs::copy(testdata("torchscript/average.pt"), place.path("average.pt")).unwrap();
    let sampler =
        ["model.safetensors", "--steps", "2", "--solver", "euler", "--seeds", "0-9", "--ref", "data", "--features"];
    let eval = |features: &'static str| place.json(&[&["eval"][..], &sampler, &[features]].concat());
    let both = eval("features.safetensors,average.pt@unit");
    assert_eq!(both["networks"].as_array().unwrap().len(), 2);
    for (index, alone) in [eval("features.safetensors"), eval("average.pt@unit")].iter().enumerate() {
        assert_eq!((&both["metrics"][index], &both["networks"][index]), (&alone["metrics"][0], &alone["networks"][0]));
    }
    let [bytes, unit] = ["average.pt@bytes", "average.pt@unit"].map(|name| value(&eval(name), "frechet-distance"));
    assert!(bytes > 1000.0 * unit, "{bytes} {unit}");
}

#[test]
fn a_set_is_at_distance_zero_from_itself_however_it_is_stored() {
    let place = trained();
    let features = ["--features", "features.safetensors"];
    let stored = place.json(&[&["ref", "--data", "data", "--out", "ref.npz"], &features[..]].concat());
    assert_eq!((stored["images"].as_u64(), stored["dimensions"].as_u64()), (Some(60), Some(96)));
    for reference in ["ref.npz", "data"] {
        let json = place.json(&[&EVAL[..], &["data", "--ref", reference]].concat());
        assert!(value(&json, "frechet-distance") < 1e-6, "{json}");
        assert_eq!((json["images"].as_u64(), json["networks"][0]["reference_images"].as_u64()), (Some(60), Some(60)));
        assert_eq!(json["networks"][0]["features_sha256"], stored["features_sha256"]);
    }
    let part = place.run(&[&EVAL[..], &["data", "--ref", "ref.npz", "--set", "data.max_images=20"]].concat());
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
    let sampler = ["model.safetensors", "--seeds", "0-19", "--steps", "3", "--solver", "euler"];
    let now = place.json(&[&EVAL[..], &["--ref", "data"], &sampler].concat());
    assert_eq!((now["nfe"].as_u64(), now["images"].as_u64()), (Some(3), Some(20)));
    assert_eq!(now["calls"], 3);
    for out in ["samples", "samples.npz"] {
        place.succeeds(&[&["sample", "--out", out], &sampler[..]].concat());
        let stored = place.json(&[&EVAL[..], &[out, "--ref", "data"]].concat());
        let [now, stored] = [&now, &stored].map(|json| value(json, "frechet-distance"));
        assert!((now - stored).abs() <= 1e-6 * now && now > 1e-3, "{now} {stored}");
    }
}

#[test]
fn the_built_in_model_is_measured_against_its_training_images() {
    let place = Place::new();
    let distance = |steps: &str| {
        let json = place.json(&["eval", "fashion-mnist", "--solver", "euler", "--steps", steps, "--seeds", "0-49"]);
        assert_eq!(
            (json["networks"][0]["reference_images"].as_u64(), json["networks"][0]["features"].as_str()),
            (Some(60_000), Some("small-cnn"))
        );
        value(&json, "frechet-distance")
    };
    let (few, many) = (distance("2"), distance("12"));
    assert!(many < 0.5 * few, "{few} after 2 steps, {many} after 12");
}

/// Features of images of another size are no reference, though the same network makes them.
#[test]
fn a_reference_of_another_size_is_refused() {
    let place = Place::new();
    place.save_images("small", 1, 8, 40);
    place.save_images("large", 1, 16, 40);
    place.succeeds(&["features", "--data", "small", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    let by = ["--features", "features.safetensors"];
    place.succeeds(&[&["ref", "--data", "small", "--out", "ref.npz"], &by[..]].concat());
    let error = place.fails(&[&["eval", "large", "--ref", "ref.npz"], &by[..]].concat());
    assert!(error.contains("are of 8x8 with 1 channel images and these are 16x16"), "{error}");
    place.succeeds(&[&["eval", "small", "--ref", "ref.npz"], &by[..]].concat());
}

#[test]
fn sides_that_do_not_belong_together_are_refused() {
    let place = trained();
    place.save_images("colour", 3, 8, 4);
    place.save_images("large", 1, 16, 4);
    let eval = |rest: &[&'static str]| [&EVAL[..], rest].concat();
    insta::assert_snapshot!(place.fails(&["eval", "data"]), @"the built-in features are for images of 32x32 with 1 channel (Fashion-MNIST padded), but these are 8x8 with 1 channel: name a feature network with --features (`fewstep features` trains one on your images)");
    insta::assert_snapshot!(place.fails(&["eval", "model.safetensors"]), @"the built-in features are for images of 32x32 with 1 channel (Fashion-MNIST padded), but these are 8x8 with 1 channel: name a feature network with --features (`fewstep features` trains one on your images)");
    insta::assert_snapshot!(place.fails(&eval(&["data"])), @"with --features there is no default reference: give one with --ref");
    insta::assert_snapshot!(place.fails(&eval(&["large", "--ref", "data"])), @"the images are 16x16 with 1 channel but those of the reference data are 8x8 with 1 channel: both sides must have one size and one number of channels (`fewstep data --size` makes the one, padding of small images the other)");
    insta::assert_snapshot!(place.fails(&eval(&["colour", "--ref", "data"])), @"the images are 8x8 with 3 channels but those of the reference data are 8x8 with 1 channel: both sides must have one size and one number of channels (`fewstep data --size` makes the one, padding of small images the other)");
    insta::assert_snapshot!(place.fails(&eval(&["data", "--ref", "nowhere.npz"])), @"the reference nowhere.npz does not exist: check the path");
    insta::assert_snapshot!(place.fails(&eval(&["nowhere", "--ref", "data"])), @"there is neither a data set nor a model nowhere: check the path");
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

#[test]
fn all_metrics_come_from_one_pass() {
    let place = trained();
    let names = "fid,fid-infinity,kid,inception-score,precision-recall,density-coverage,sliced-wasserstein";
    let options = ["--metrics", names, "--set", "metrics.kid_subset_size=20", "--set", "metrics.kid_subsets=5"];
    let options = [&options[..], &["--set", "metrics.splits=2", "--set", "metrics.bootstrap=4"]].concat();
    let json = place.json(&[&EVAL[..], &["data", "--ref", "data"], &options].concat());
    let names = json["metrics"].as_array().unwrap().iter().map(|found| found["metric"].as_str().unwrap());
    let expected = [
        "frechet-distance",
        "frechet-distance-infinity",
        "kernel-distance",
        "class-score",
        "precision",
        "recall",
        "density",
        "coverage",
        "sliced-wasserstein",
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert!(value(&json, "frechet-distance") < 1e-6 && value(&json, "sliced-wasserstein") < 1e-6, "{json}");
    assert_eq!((value(&json, "precision"), value(&json, "recall"), value(&json, "coverage")), (1.0, 1.0, 1.0));
    // Two classes in equal parts, which the network tells apart.
    let score = value(&json, "class-score");
    assert!(score > 1.7 && score < 2.01, "{score}");
    let distance = measured(&json, "frechet-distance");
    assert_eq!(distance["uncertainty"]["source"], "bootstrap");
    assert!(distance["uncertainty"]["value"].as_f64().unwrap() > 0.0);
    // Every number carries its network, its reference and its number of images.
    for found in json["metrics"].as_array().unwrap() {
        assert_eq!(found["num_images"], 60);
        let on_pixels = found["metric"] == "sliced-wasserstein";
        assert_eq!(found["features"]["sha256"] == json["networks"][0]["features_sha256"], !on_pixels, "{found}");
        assert_eq!(found["reference"].is_string(), found["metric"] != "class-score", "{found}");
    }
    let extrapolated = &measured(&json, "frechet-distance-infinity")["warnings"][0];
    assert!(extrapolated.as_str().unwrap().contains("extrapolated to infinitely many images"), "{json}");
    let words = place.succeeds(&[&EVAL[..], &["data", "--ref", "data", "--metrics", "fid-infinity"]].concat());
    assert!(words.starts_with("Frechet distance, extrapolated  "), "{words}");
}

#[test]
fn ranges_are_measured_one_by_one() {
    let place = trained();
    let sampler = ["--ref", "data", "model.safetensors", "--steps", "2", "--solver", "euler"];
    let eval = |rest: &[&'static str]| [&EVAL[..], &sampler, rest].concat();
    let all = place.json(&eval(&["--seeds", "5-34", "--set", "ranges=3"]));
    let found = measured(&all, "frechet-distance");
    let ranges: Vec<f64> = found["ranges"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    for (found, seeds) in ranges.iter().zip(["5-14", "15-24", "25-34"]) {
        let alone = value(&place.json(&eval(&["--seeds", seeds])), "frechet-distance");
        assert!((alone - found).abs() <= 1e-9 * alone, "{alone} {found}");
    }
    let mean = ranges.iter().sum::<f64>() / 3.0;
    let deviation = (ranges.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert!((found["value"].as_f64().unwrap() - mean).abs() < 1e-9 * mean);
    assert!((found["uncertainty"]["value"].as_f64().unwrap() - deviation).abs() < 1e-9 * mean);
    assert_eq!((found["num_images"].as_u64(), all["images"].as_u64()), (Some(10), Some(30)));
    assert_eq!(all["ranges"], serde_json::json!([[5, 14], [15, 24], [25, 34]]));
    let words = place.succeeds(&eval(&["--seeds", "5-34", "--set", "ranges=3"]));
    assert!(words.contains("(seed ranges), the mean of 3 ranges: "), "{words}");
    assert!(
        words.contains("30 of model.safetensors by euler, 2 evaluations an image, seeds 5-14, 15-24, 25-34"),
        "{words}"
    );
    insta::assert_snapshot!(place.fails(&eval(&["--seeds", "0-30", "--set", "ranges=3"])), @"31 images cannot be divided into 3 equal ranges: set another number of ranges");
}

#[test]
fn a_protocol_takes_inception_and_shows_all_ranges() {
    let place = trained();
    place.save_inception("inception.safetensors");
    place.succeeds(&[
        "ref",
        "--data",
        "data",
        "--features",
        "inception.safetensors",
        "--max-images",
        "6",
        "--out",
        "ref.npz",
    ]);
    let eval = |rest: &[&'static str]| {
        let args = ["eval", "model.safetensors", "--steps", "1", "--solver", "euler", "--ref", "ref.npz", "--protocol"];
        [&args[..], rest].concat()
    };
    let json = place.json(&eval(&["edm", "--set", "reduced=4", "--features", "inception.safetensors"]));
    let found = measured(&json, "fid");
    let ranges: Vec<f64> = found["ranges"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!((ranges.len(), found["aggregate"].as_str()), (3, Some("least")));
    assert_eq!(found["value"].as_f64(), ranges.iter().copied().reduce(f64::min));
    assert!(ranges[0] != ranges[1] && ranges.iter().all(|&value| value > 0.0), "{ranges:?}");
    assert_eq!(json["ranges"], serde_json::json!([[0, 3], [4, 7], [8, 11]]));
    assert_eq!(json["protocol"], "edm rehearsed with 4 images a range");
    assert_eq!(
        (json["networks"][0]["features"].as_str(), json["networks"][0]["dimensions"].as_u64()),
        (Some("inception-v3-2015-12-05/tf1"), Some(2048))
    );
    // The other convention's numbers are other numbers.
    let message = place.fails(&eval(&["pytorch-fid", "--set", "reduced=4", "--features", "inception.safetensors"]));
    assert!(message.contains("measured with different features (inception-v3-2015-12-05/pytorch-fid"), "{message}");
}

#[test]
fn protocols_that_cannot_be_followed() {
    let place = trained();
    let eval = |rest: &[&'static str]| [&EVAL[..], &["--ref", "data"], rest].concat();
    insta::assert_snapshot!(place.fails(&eval(&["data", "--protocol", "edm"])), @"the protocol edm measures 3 ranges of 50000 images each, so it needs 150000 images, but data holds 60: make the others, or leave --protocol out");
    insta::assert_snapshot!(place.fails(&eval(&["data", "--protocol", "adm"])), @"'adm' is no evaluation protocol; there are edm, edm-once, pytorch-fid");
    insta::assert_snapshot!(place.fails(&eval(&["data", "--protocol", "edm", "--set", "reduced=20"])), @"the protocol edm is defined on the features of Inception-v3, not on those of small-cnn: give Inception's weights with --features");
    let run = place.run(&eval(&["data", "--protocol", "edm", "--seeds", "0-9"]));
    assert!(run.code == 2 && run.stderr.contains("cannot be used with"), "{}", run.stderr);
    for setting in ["ranges=2", "resize=tf1", "data.max_images=9"] {
        let error = place.fails(&eval(&["data", "--protocol", "edm", "--set", setting]));
        assert_eq!(error, format!("--set {setting} cannot be used with --protocol edm, which says it"));
    }
    insta::assert_snapshot!(place.fails(&eval(&["data", "--set", "reduced=4"])), @"--set reduced=4 is for a rehearsal of a protocol: name it with --protocol");
    insta::assert_snapshot!(place.fails(&eval(&["data", "--set", "resize=clean"])), @"--set resize=clean: unknown variant `clean`, expected `tf1` or `pytorch-fid`");
    insta::assert_snapshot!(place.fails(&eval(&["model.safetensors", "--set", "data.max_images=9"])), @"--set data.max_images=9 is for stored images: with a model, --seeds says how many");
}

#[test]
fn features_kept_in_a_reference_serve_metrics_that_need_them() {
    let place = trained();
    place.save_images("others", 1, 8, 30);
    let reference = ["ref", "--data", "data", "--features", "features.safetensors", "--out"];
    place.succeeds(&[&reference[..], &["ref.npz"]].concat());
    place.succeeds(&[&reference[..], &["kept.npz", "--keep-features"]].concat());
    let metrics = ["others", "--metrics", "kid,density-coverage", "--set", "metrics.kid_subset_size=10", "--ref"];
    let eval = |reference: &'static str| [&EVAL[..], &metrics, &[reference]].concat();
    let (kept, data) = (place.json(&eval("kept.npz")), place.json(&eval("data")));
    for metric in ["kernel-distance", "density", "coverage"] {
        assert_eq!(value(&kept, metric), value(&data, metric), "{metric}");
    }
    insta::assert_snapshot!(place.fails(&eval("ref.npz")), @"a metric that was asked for needs the features of the reference, of which only statistics are at hand: give the images themselves as the reference, or a file of `fewstep ref --keep-features`");
}

#[test]
fn metrics_that_cannot_be_computed() {
    let place = trained();
    let eval = |rest: &[&'static str]| [&EVAL[..], &["data", "--ref", "data", "--metrics"], rest].concat();
    insta::assert_snapshot!(place.fails(&eval(&["fdd"])), @"'fdd' is no metric; there are fid, fid-infinity, kid, inception-score, precision-recall, density-coverage, sliced-wasserstein");
    insta::assert_snapshot!(place.fails(&eval(&["fid,fid"])), @"--metrics names fid twice");
    insta::assert_snapshot!(place.fails(&eval(&["kid"])), @"kid takes subsets of 1000 images of either side, but one side has 60: set metrics.kid_subset_size");
    insta::assert_snapshot!(place.fails(&eval(&["inception-score", "--set", "metrics.splits=61"])), @"inception-score takes the images in 61 parts, but there are 60: set metrics.splits");
    insta::assert_snapshot!(place.fails(&eval(&["precision-recall", "--set", "metrics.precision_k=60"])), @"precision-recall looks for 60 neighbours of every image, but one side has 60 images: set metrics.precision_k");
    insta::assert_snapshot!(place.fails(&eval(&["fid", "--set", "data.max_images=1"])), @"a distance needs at least 2 images, there is 1");
}

#[test]
fn images_that_cannot_be_measured() {
    let place = trained();
    let eval = |images: &'static str| [&EVAL[..], &[images, "--ref", "data"]].concat();
    let mut pixels = vec![0f32; 5 * SIZE * SIZE];
    for image in [2, 4] {
        pixels[image * SIZE * SIZE + 7] = [f32::NAN, f32::INFINITY][image / 4];
    }
    place.save_npz("nan.npz", vec![("images", TensorData::from_f32(&[5, 1, SIZE, SIZE], &pixels).unwrap())]);
    insta::assert_snapshot!(place.fails(&eval("nan.npz")), @"cannot use the data set nan.npz: 2 of its 5 images hold values that are not finite: 2, 4");
    place.save_images("bad", 1, 8, 12);
    std::fs::write(place.path("bad/above/0000.png"), b"not an image").unwrap();
    let file = std::fs::read(place.path("bad/above/0004.png")).unwrap();
    std::fs::write(place.path("bad/above/0004.png"), &file[..file.len() / 2]).unwrap();
    let message = place.fails(&eval("bad"));
    assert!(message.starts_with("2 of the 12 images in bad cannot be used: above/0000.png ("), "{message}");
    assert!(message.contains("; above/0004.png ("), "{message}");
    assert_eq!(place.fails(&["ref", "--data", "bad", "--features", "features.safetensors", "--out", "r.npz"]), message);
    place.save_images("foreign", 1, 8, 4);
    std::fs::write(place.path("foreign/x.webp"), b"RIFF").unwrap();
    insta::assert_snapshot!(place.fails(&eval("foreign")), @"foreign is not a usable data set: it holds 1 image(s) of kinds that are not read: convert them to PNG, or move them away: x.webp");
}

#[test]
fn statistics_that_cannot_be_used() {
    let place = trained();
    let fails = |mu: &[f64], sigma: &[f64]| {
        let d = mu.len();
        let sigma = TensorData::from_f64(&[d, sigma.len() / d], sigma).unwrap();
        place.save_npz("ref.npz", vec![("mu", TensorData::from_f64(&[d], mu).unwrap()), ("sigma", sigma)]);
        place.fails(&[&EVAL[..], &["data", "--ref", "ref.npz"]].concat())
    };
    insta::assert_snapshot!(fails(&[0.0, 1.0], &[2.0, 0.5, 0.6, 1.0]), @"ref.npz are not usable statistics: sigma is not symmetric (it differs from its transpose by up to 1.000e-1)");
    insta::assert_snapshot!(fails(&[0.0, 1.0], &[1.0, 2.0, 2.0, 1.0]), @"ref.npz are not usable statistics: sigma has the negative eigenvalue -1.000e0, which no covariance matrix has");
    insta::assert_snapshot!(fails(&[0.0, f64::NAN], &[1.0, 0.0, 0.0, 1.0]), @"ref.npz are not usable statistics: 1 value(s) of mu are not finite");
    insta::assert_snapshot!(fails(&[0.0, 1.0], &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), @"ref.npz are not usable statistics: mu has shape [2] and sigma [2, 3], not [d] and [d, d]");
    insta::assert_snapshot!(fails(&[0.0, 1.0], &[1.0, 0.0, 0.0, 1.0]), @"the statistics ref.npz are of 2 features, but small-cnn has 96: they come from different networks");
}

/// A model's samples are measured as images whoever makes them: here under guidance, which takes two network calls an evaluation.
#[test]
fn a_guided_model_is_measured_and_its_network_calls_are_counted() {
    let place = Place::new();
    let eval = ["eval", "gaussian-mixture-classes", "--steps", "2", "--solver", "euler", "--seeds", "0-19"];
    let guided = [&eval[..], &["--guidance", "2"]].concat();
    let (plain, json) = (place.json(&eval), place.json(&guided));
    assert_eq!((&plain["calls"], &json["calls"], &json["nfe"]), (&2.into(), &4.into(), &2.into()));
    assert_eq!((&plain["guidance"], &json["guidance"]["weight"]), (&Value::Null, &2.0.into()));
    assert_ne!(value(&plain, "frechet-distance"), value(&json, "frechet-distance"));
    let words = place.succeeds(&guided);
    assert!(words.contains("by euler, 2 evaluations an image (4 network calls) under guidance 2"), "{words}");
    let cost = place.json(&[&guided[..], &["--dry-run"]].concat());
    assert_eq!((&cost["evaluations"], &cost["calls"]), (&40.into(), &2.into()));
}

/// Images that a sampler spoils are named by their seed, before all of them are made.
#[test]
fn images_that_are_not_finite_are_named() {
    let place = trained();
    let mut file = fewstep_io::safetensors::read(place.path("model.safetensors")).unwrap();
    for tensor in file.tensors.values_mut().filter(|tensor| tensor.dtype == fewstep_io::tensors::Dtype::F32) {
        let huge = 1e38f32.to_le_bytes();
        tensor.bytes = huge.repeat(tensor.bytes.len() / huge.len());
    }
    fewstep_io::safetensors::write(place.path("huge.safetensors"), &file.tensors, &file.metadata).unwrap();
    let args = ["huge.safetensors", "--ref", "data", "--seeds", "5-1000000", "--batch", "3", "--steps", "2"];
    let error = place.fails(&[&EVAL[..], &args].concat());
    assert!(error.contains("the sample of seed 5 has values that are not finite"), "{error}");
}
