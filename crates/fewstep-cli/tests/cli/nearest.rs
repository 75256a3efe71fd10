//! Plans that are chosen by training images: `+nearest`.

use crate::support::Place;

const METHOD: &str = "karras+data-moments+nearest";

/// The same plans by `plan` and by `compare`: of feature networks where they are named, of random features else.
#[test]
fn a_solvers_plan_is_taken_where_its_images_are_nearer() {
    let place = Place::new();
    place.save_images("images", 1, 32, 120);
    place.succeeds(&["features", "--data", "images", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "images", "--features", "features.safetensors", "--out", "ref.npz"]);
    let scored = ["--ref", "ref.npz", "--features", "features.safetensors"];
    let search = ["--steps", "3", "--data", "images", "--set", "search.teacher.samples=8"];
    let kept = ["--set", "early_stop=false", "--set", "held_out.samples=2"];
    let nearest = [
        "--set",
        "search.nearest.samples=16",
        "--set",
        "search.nearest.methods=[\"karras/heun\"]",
        "--set",
        "search.nearest.least_gain=0",
    ];
    let small = [&search[..], &nearest, &["--set", "search.moments.control=128"]].concat();
    let found_by = |plan: &str| place.read_json(plan)["metadata"]["found_by"].clone();
    let planned = |out: &str, more: &[&str]| {
        let first = ["plan", "gaussian-mixture", "--method", METHOD, "--out", out];
        place.succeeds(&[&first[..], &small, &kept, more].concat());
        found_by(&format!("{out}/steps-003/plan.json"))
    };
    let (by_features, by_random) = (planned("by-features", &scored), planned("by-random", &[]));
    for found in [&by_features, &by_random] {
        assert_eq!(found["method"], "karras/euler+data-moments+nearest");
        let (chosen, compared) = (found["nearest"]["method"].as_str().unwrap(), &found["nearest"]["compared"]);
        let distance = |name: &str| compared[name]["distance"].as_f64().unwrap();
        assert!(distance(chosen) <= distance("own").min(distance("karras/heun+data-moments")), "{found}");
        assert_eq!(compared[chosen]["samples"], 16);
    }
    assert_ne!(by_features["nearest"]["compared"], by_random["nearest"]["compared"]);

    let first = ["compare", "gaussian-mixture", "--methods", METHOD, "--out", "compared", "--images", "2"];
    let more = ["--set", "held_out=2", "--set", "teacher_steps=2"];
    place.succeeds(&[&first[..], &small, &scored, &more].concat());
    let folder = place.folder_in("compared");
    let found = found_by(&format!("compared/{folder}/karras-euler-data-moments-nearest-003.plan.json"));
    assert_eq!(found["nearest"], by_features["nearest"]);
}
