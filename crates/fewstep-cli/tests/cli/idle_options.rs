//! Options that change nothing where they stand are refused, and not left unsaid.

use crate::support::{Place, testdata};

#[test]
fn stored_images_have_no_sampler() {
    let place = Place::new();
    place.save_images("data", 3, 8, 12);
    std::fs::copy(testdata("torchscript/average.pt"), place.path("average.pt")).unwrap();
    let eval = |rest: &[&'static str]| {
        [&["eval", "data", "--ref", "data", "--features", "average.pt@unit", "--set", "metrics.seed=1"], rest].concat()
    };
    place.succeeds(&eval(&["--batch", "5", "--device", "cpu", "--threads", "1", "--dry-run"]));
    for options in [
        &["--seeds", "0-9"][..],
        &["--class", "1"],
        &["--latents", "none.npz"],
        &["--plan", "none.json"],
        &["--steps", "18"], // as it stands there without it
        &["--solver", "euler"],
        &["--schedule", "vp"],
        &["--sigmas", "80,2"],
        &["--guidance", "2"],
        &["--trust"],
        &["--precision", "bf16"],
        &["--set", "sampler.afs=true"],
    ] {
        let error = place.fails(&eval(options));
        let option = if options[0] == "--set" { "--set sampler.afs=true" } else { options[0] };
        let why = "says how a model makes images, and those of data are stored: leave it out";
        assert_eq!(error, format!("{option} {why}"));
    }
}

#[test]
fn settings_of_metrics_are_for_those_that_are_measured() {
    let place = Place::new();
    let eval = ["eval", "gaussian-mixture", "--seeds", "0-19", "--steps", "2", "--dry-run", "--metrics"];
    let directions = ["--set", "metrics.directions=9"];
    insta::assert_snapshot!(place.fails(&[&eval[..], &["fid"], &directions].concat()), @"the setting metrics.directions is for the metric sliced-wasserstein: it changes nothing where --metrics does not name that");
    place.succeeds(&[&eval[..], &["fid,sliced-wasserstein"], &directions].concat());
}

#[test]
fn a_reference_is_resized_for_inception_alone() {
    let place = Place::new();
    place.save_images("data", 1, 32, 12);
    let reference = ["ref", "--data", "data", "--out", "ref.npz", "--resize"];
    insta::assert_snapshot!(place.fails(&[&reference[..], &["pytorch-fid"]].concat()), @"--resize is for Inception, and small-cnn does not resize images so: leave it out");
    place.succeeds(&[&reference[..], &["tf1"]].concat());
}

#[test]
fn training_images_are_for_what_takes_some() {
    let place = Place::with_model();
    place.save_images("images", 1, 8, 24);
    let run = |command: &'static str, rest: &[&'static str]| {
        let first = [command, "model.safetensors", "--data", "images", "--steps", "3", "--out", "run", "--dry-run"];
        [&first[..], &["--set", "tune.batch=8"][..if command == "plan" { 0 } else { 2 }], rest].concat()
    };
    for (command, rest) in [("plan", &[][..]), ("tune", &["--set", "tune.critic_weight=0"])] {
        let error = place.fails(&run(command, rest));
        assert!(error.starts_with("--data is for ") && error.contains("changes nothing here"), "{command}: {error}");
    }
    place.succeeds(&run("plan", &["--method", "karras+data-moments"]));
    place.succeeds(&run("tune", &[]));
    place.succeeds(&run("tune", &["--loss", "edm"]));
}
