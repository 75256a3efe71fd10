//! TorchScript programs of samples of any shape, from the command line to the report: exact mixtures (`testdata/torchscript`).

use fewstep_io::npz;
use fewstep_io::tensors::Dtype;
use serde_json::Value;

use crate::support::{Place, testdata};

fn place(files: &[&str]) -> Place {
    let place = Place::new();
    for file in files {
        std::fs::copy(testdata(&format!("torchscript/{file}")), place.path(file)).unwrap();
    }
    place
}

/// Finds plans of 3 and 4 evaluations: the folder `run`.
fn plan(place: &Place, program: &str) {
    let search = ["--method", "least-squares", "--set", "search.teacher.samples=32", "--set", "search.teacher.grid=15"];
    let rest = ["--trust", "--steps", "3,4", "--set", "held_out.samples=16", "--out", "run"];
    let outcomes = place.json(&[&["plan", program], &search[..], &rest].concat());
    for outcome in outcomes.as_array().unwrap() {
        let [before, after] = [&outcome["baseline"], &outcome["phases"][0]["rollout_error"]];
        let [before, after] = [before, after].map(|error| error.as_f64().unwrap());
        assert!(after > 0.0 && after < 0.2 * before, "{outcome}");
    }
}

/// The report's page, which shows the rollout errors of `run` and so many images.
fn reported(place: &Place, images: usize) {
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    let sentence = page.split("Rollout error in 3 steps from ").nth(1).unwrap_or_else(|| panic!("{page}"));
    let shown: Vec<f64> = sentence.split([' ', ',']).filter_map(|word| word.parse().ok()).take(2).collect();
    let fit = place.read_json("run/fit.json");
    for (shown, error) in shown.iter().zip([&fit[0]["baseline"], &fit[0]["phases"][0]["rollout_error"]]) {
        assert!((shown / error.as_f64().unwrap() - 1.0).abs() < 0.01, "{shown} {error}");
    }
    assert_eq!((shown.len(), page.matches("data:image/png;base64,").count()), (2, images));
}

const SEEDS: usize = 20;

fn sample(program: &'static str, rest: &[&'static str]) -> Vec<&'static str> {
    [&["sample", program, "--trust", "--seeds", "0-19", "--out"], rest].concat()
}

const PLAN: [&str; 2] = ["--plan", "run/steps-004/plan.json"];

/// Samples are arrays of this shape, and what they should be: the teacher's of the mixture, the plan's near the teacher's.
fn sampled(place: &Place, program: &'static str, array: &str, shape: &[usize]) {
    let raw = |file: &'static str, sampler: [&'static str; 2]| {
        let args = [&sample(program, &[file, "--set", "output.raw=true"])[..], &sampler].concat();
        place.succeeds(&args);
        let arrays = npz::read(place.path(file)).unwrap();
        assert_eq!(
            (arrays[array].shape.as_slice(), arrays[array].dtype),
            (&[&[SEEDS], shape].concat()[..], Dtype::F32)
        );
        assert_eq!(arrays["seeds"].to_i64().unwrap(), (0..SEEDS as i64).collect::<Vec<_>>());
        arrays[array].to_f64()
    };
    let (teacher, plan) = (raw("teacher.npz", ["--steps", "18"]), raw("plan.npz", PLAN));
    are_of_the_mixture(&teacher, shape.iter().product());
    let squares = teacher.iter().zip(&plan).map(|(a, b)| (a - b).powi(2));
    let error = squares.sum::<f64>() / plan.len() as f64;
    assert!(error < 0.01, "{error}");
}

/// Each sample lies as far from the nearest pattern (`make.py`) as its Gaussian is wide, and each pattern has some.
fn are_of_the_mixture(samples: &[f64], size: usize) {
    let mean = |k: usize, i: usize| 0.7 * (0.11 * (k + 2) as f64 * i as f64 + k as f64).sin();
    let mut counts = [0; 3];
    for sample in samples.chunks(size) {
        let distance = |k: usize| {
            let squares = sample.iter().enumerate().map(|(i, value)| (value - mean(k, i)).powi(2));
            (squares.sum::<f64>() / size as f64).sqrt()
        };
        let nearest = (0..3).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
        let width = distance(nearest) / [0.1, 0.3, 0.2][nearest];
        // the teacher's own error, and four deviations of the root of a mean of so many squares
        let tolerance = 0.1 + 4.0 / (2.0 * size as f64).sqrt();
        assert!((width - 1.0).abs() < tolerance, "{width} of pattern {nearest}");
        counts[nearest] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// Width, height and colour type (0: grey, 2: RGB) of a PNG.
fn header(place: &Place, name: &str) -> (u32, u32, u8) {
    let bytes = std::fs::read(place.path(name)).unwrap();
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert!(bytes.starts_with(b"\x89PNG"));
    (number(16), number(20), bytes[25])
}

/// No PNGs of samples that are no images.
fn has_no_pictures(place: &Place, program: &'static str, shape: &str) {
    for out in ["pictures", "grid.png"] {
        let error = place.fails(&sample(program, &[out]));
        let why = format!(
            "{program} makes samples of shape {shape}, which are no images of 1 or 3 channels, and has no decoder"
        );
        assert!(error.starts_with(&why) && error.contains("let --out end in .npz, or name its decoder"), "{error}");
    }
}

#[test]
fn vectors_are_planned_for_and_sampled_into_arrays_alone() {
    let place = place(&["vector.pt", "vector.json"]);
    plan(&place, "vector.pt");
    reported(&place, 0);
    sampled(&place, "vector.pt", "samples", &[24]);
    has_no_pictures(&place, "vector.pt", "[24]");
    assert!(!place.list("run/steps-003").iter().any(|name| name.ends_with(".png")));
}

#[test]
fn images_of_odd_sides_are_planned_for_and_sampled_as_wide_as_they_are() {
    let place = place(&["wide.pt", "wide.json"]);
    plan(&place, "wide.pt");
    reported(&place, 4);
    sampled(&place, "wide.pt", "images", &[1, 17, 33]);
    place.succeeds(&sample("wide.pt", &["images.npz", PLAN[0], PLAN[1]]));
    let images = npz::read(place.path("images.npz")).unwrap();
    assert_eq!((images["images"].shape.as_slice(), images["images"].dtype), (&[20, 1, 17, 33][..], Dtype::U8));
    place.succeeds(&sample("wide.pt", &["pictures", PLAN[0], PLAN[1]]));
    assert_eq!(place.list("pictures").len(), 20 + 1);
    assert_eq!(header(&place, "pictures/000019.png"), (33, 17, 0));
    assert_eq!(header(&place, "run/steps-004/plan.png").2, 0);
}

/// Pixels come from the decoder everywhere: in arrays, pictures, the report and distances.
#[test]
fn latents_are_planned_for_and_shown_and_scored_as_their_pixels() {
    let place = place(&["latent.pt", "latent.json", "decoder.pt", "average.pt"]);
    plan(&place, "latent.pt");
    reported(&place, 4);
    place.succeeds(&sample("latent.pt", &["images.npz", PLAN[0], PLAN[1]]));
    let images = npz::read(place.path("images.npz")).unwrap();
    assert_eq!((images["images"].shape.as_slice(), images["images"].dtype), (&[20, 3, 16, 16][..], Dtype::U8));
    place.succeeds(&sample("latent.pt", &["pictures", PLAN[0], PLAN[1]]));
    assert_eq!(header(&place, "pictures/000019.png"), (16, 16, 2));

    place.save_images("data", 3, 16, 40);
    let features = ["--features", "average.pt@bytes"];
    place.succeeds(&[&["ref", "--data", "data", "--out", "ref.npz"], &features[..]].concat());
    let distance = |what: &[&str]| {
        let scored = place.json(&[&["eval"], what, &features, &["--ref", "ref.npz"]].concat());
        scored["metrics"][0]["value"].as_f64().unwrap()
    };
    let of_model = distance(&[&["latent.pt", "--trust", "--seeds", "0-19", "--batch", "7"], &PLAN[..]].concat());
    for stored in ["pictures", "images.npz"] {
        let stored = distance(&[stored]);
        assert!(of_model > 0.0 && (of_model - stored).abs() < 1e-3 * stored, "{of_model} {stored}");
    }
}

#[test]
fn latents_without_a_decoder_are_planned_for_and_sampled_into_arrays_alone() {
    let place = place(&["latent.pt", "latent.json"]);
    let mut described: Value = place.read_json("latent.json");
    described.as_object_mut().unwrap().remove("decoder").unwrap();
    std::fs::write(place.path("latent.json"), described.to_string()).unwrap();
    plan(&place, "latent.pt");
    reported(&place, 0);
    sampled(&place, "latent.pt", "samples", &[4, 8, 8]);
    has_no_pictures(&place, "latent.pt", "[4, 8, 8]");
    let error = place.fails(&[&["eval", "latent.pt", "--trust", "--seeds", "0-3"], &PLAN[..]].concat());
    assert!(error.contains("no decoder"), "{error}");
}
