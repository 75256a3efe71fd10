//! `fewstep sample`: seeds, the three forms of output, resuming.

use fewstep_io::npz;
use fewstep_io::tensors::{Dtype, TensorData};

use crate::support::{Place, SIZE, goldens, relative_error};

const SAMPLE: [&str; 7] = ["sample", "--model", "model.safetensors", "--steps", "3", "--solver", "euler"];

fn sample(rest: &[&'static str]) -> Vec<&'static str> {
    [&SAMPLE[..], rest].concat()
}

#[test]
fn one_seed_is_one_image() {
    let place = Place::with_model();
    place.succeeds(&sample(&["--seeds", "0-7", "--batch", "8", "--out", "all.npz"]));
    place.succeeds(&sample(&["--seeds", "3", "--out", "one.npz"]));
    let (all, one) = (npz::read(place.path("all.npz")).unwrap(), npz::read(place.path("one.npz")).unwrap());
    assert_eq!(all["images"].shape, [8, 1, SIZE, SIZE]);
    assert_eq!(all["images"].dtype, Dtype::U8);
    assert_eq!(all["seeds"].to_i64().unwrap(), (0..8).collect::<Vec<_>>());
    let size = SIZE * SIZE;
    let third = &all["images"].bytes[3 * size..4 * size];
    let largest = third.iter().zip(&one["images"].bytes).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(largest <= 1, "{largest}");
    assert_ne!(third, &all["images"].bytes[..size], "another seed is another image");
}

#[test]
fn results_in_words_and_as_json() {
    let place = Place::with_model();
    let words = place.succeeds(&sample(&["--seeds", "0-3", "--out", "a.png"]));
    assert!(words.starts_with("a.png: 4 images, euler, 3 network evaluations an image, "), "{words}");
    let json =
        place.json(&["sample", "--model", "model.safetensors", "--steps", "3", "--seeds", "0-3", "--out", "b.png"]);
    assert_eq!((json["nfe"].as_u64(), json["images"].as_u64()), (Some(5), Some(4)));
    assert_eq!(json["model_sha256"].as_str().map(str::len), Some(64));
    assert!(json["images_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read(place.path("a.png")).unwrap()[1..4], *b"PNG");
}

#[test]
fn a_folder_holds_a_png_for_each_seed_and_resumes() {
    let place = Place::with_model();
    place.succeeds(&sample(&["--seeds", "0-2,1001", "--subdirs", "--out", "s"]));
    assert_eq!(place.list("s"), ["000000", "001000", "run.json"]);
    assert_eq!(place.list("s/000000"), ["000000.png", "000001.png", "000002.png"]);

    let lost = std::fs::read(place.path("s/001000/001001.png")).unwrap();
    std::fs::remove_file(place.path("s/001000/001001.png")).unwrap();
    std::fs::write(place.path("s/000000/000001.png"), b"kept").unwrap();
    let again = sample(&["--seeds", "0-2,1001", "--subdirs", "--out", "s", "--resume"]);
    let words = place.succeeds(&again);
    assert!(words.contains("4 images (3 were there)"), "{words}");
    assert_eq!(std::fs::read(place.path("s/001000/001001.png")).unwrap(), lost);
    assert_eq!(std::fs::read(place.path("s/000000/000001.png")).unwrap(), b"kept");

    let mut other = again.clone();
    other[4] = "4";
    assert!(place.fails(&other).contains("another sampler"));
}

#[test]
fn overwriting_removes_what_sample_left_and_nothing_else() {
    let place = Place::with_model();
    place.succeeds(&sample(&["--seeds", "0-3", "--out", "s"]));
    let again = sample(&["--seeds", "0-1", "--out", "s", "--overwrite"]);
    place.succeeds(&again);
    assert_eq!(place.list("s"), ["000000.png", "000001.png", "run.json"]);
    std::fs::write(place.path("s/notes.txt"), b"mine").unwrap();
    assert_eq!(place.run(&again).code, 1);
    assert!(place.path("s/notes.txt").exists());
    std::fs::create_dir(place.path("other")).unwrap();
    std::fs::write(place.path("other/000000.png"), b"mine").unwrap();
    assert!(place.fails(&sample(&["--out", "other", "--overwrite"])).contains("already holds files"));
    place.succeeds(&sample(&["--seeds", "1", "--out", "x.npz"]));
    assert!(place.fails(&sample(&["--out", "x.npz"])).contains("--overwrite"));
    place.succeeds(&sample(&["--seeds", "2", "--out", "x.npz", "--overwrite"]));
    assert_eq!(npz::read(place.path("x.npz")).unwrap()["seeds"].to_i64().unwrap(), [2]);
}

#[test]
fn classes_come_from_the_option_or_the_seed() {
    let place = Place::new();
    place.save_model("model.safetensors", 3, 10);
    place.succeeds(&sample(&["--seeds", "0-40", "--out", "drawn.npz"]));
    place.succeeds(&sample(&["--seeds", "0-3", "--class", "7", "--raw", "--out", "seven.npz"]));
    let drawn = npz::read(place.path("drawn.npz")).unwrap()["classes"].to_i64().unwrap();
    assert!(
        drawn.iter().all(|class| (0..10).contains(class)) && drawn.iter().any(|&class| class != drawn[0]),
        "{drawn:?}"
    );
    let seven = npz::read(place.path("seven.npz")).unwrap();
    assert_eq!(seven["classes"].to_i64().unwrap(), [7; 4]);
    assert_eq!((seven["images"].dtype, seven["images"].shape.as_slice()), (Dtype::F32, &[4, 3, SIZE, SIZE][..]));
}

#[test]
fn a_plan_file_is_run_as_it_stands() {
    use fewstep_core::schedule::Schedule;
    use fewstep_core::solver::{Solver, SolverOptions};
    let place = Place::with_model();
    let schedule = Schedule::new(vec![40.0, 3.0, 0.25]).unwrap();
    let plan = Solver::Euler.plan(&schedule, &SolverOptions::default()).unwrap();
    std::fs::write(place.path("plan.json"), plan.to_json().unwrap()).unwrap();
    place.succeeds(&[
        "sample",
        "--model",
        "model.safetensors",
        "--plan",
        "plan.json",
        "--seeds",
        "5",
        "--raw",
        "--out",
        "a.npz",
    ]);
    let sigmas = [
        "sample",
        "--model",
        "model.safetensors",
        "--solver",
        "euler",
        "--sigmas",
        "40,3,0.25",
        "--seeds",
        "5",
        "--raw",
        "--out",
        "b.npz",
    ];
    place.succeeds(&sigmas);
    let images = |name: &str| npz::read(place.path(name)).unwrap()["images"].clone();
    assert_eq!(images("a.npz"), images("b.npz"));
}

#[test]
fn golden_images_from_golden_latents() {
    let Some(goldens) = goldens() else { return };
    let place = Place::new();
    let (model, latents) = (goldens.join("ddpmpp_edm.pkl"), goldens.join("edm_samplers_on_ddpmpp_edm.npz"));
    let (model, latents) = (model.to_str().unwrap(), latents.to_str().unwrap());
    let heun = ["sample", "--model", model, "--latents", latents, "--steps", "6", "--raw", "--out", "heun.npz"];
    assert_eq!(place.json(&heun)["nfe"], 11);
    let found = npz::read(place.path("heun.npz")).unwrap();
    let error = relative_error(&found["images"], &npz::read(latents).unwrap()["edm_heun_6"]);
    assert!(error <= 1e-4, "{error:.2e}");
    assert!(!found.contains_key("seeds"));
}

/// An image that is not finite ends the run at its batch, with its seed and the level, and leaves no half-made folder. Images that
/// were whole before stay.
#[test]
fn an_image_that_is_not_finite_ends_the_run_at_once() {
    let place = Place::with_model();
    // 1e39 is beyond f32: no image survives the second stage
    let plan = r#"{"version": 1, "stages": [{"sigma": 80, "input": {"latent": 80}}, {"sigma": 2, "input": {"d0": 1e39}}],
        "output": {"d1": 1}}"#;
    std::fs::write(place.path("plan.json"), plan).unwrap();
    let made = |rest: &[&'static str]| {
        let first = ["sample", "--model", "model.safetensors", "--plan", "plan.json", "--batch", "1"];
        place.fails(&[&first[..], rest].concat())
    };
    let message = made(&["--seeds", "5-100000", "--out", "s"]);
    assert!(
        message.contains("the image of seed 5 has values that are not finite, from the noise level 2.0000 on"),
        "{message}"
    );
    assert!(message.contains("try another --solver"), "{message}");
    assert!(!place.path("s").exists());
    for out in ["grid.png", "arrays.npz"] {
        assert!(made(&["--seeds", "5-100000", "--out", out]).contains("seed 5"));
        assert!(!place.path(out).exists());
    }
    // latents of a file are known by their place, and only the second of these is beyond f32 times 80
    let mut latents = vec![0.5f32; 3 * SIZE * SIZE];
    latents[SIZE * SIZE] = 1e38;
    let bytes = latents.iter().flat_map(|value| value.to_le_bytes()).collect();
    let latents = TensorData::new(Dtype::F32, vec![3, 1, SIZE, SIZE], bytes).unwrap();
    place.save_npz("latents.npz", vec![("latents", latents)]);
    let first = ["sample", "--model", "model.safetensors", "--steps", "2", "--solver", "euler", "--batch", "1"];
    let run = place.run(&[&first[..], &["--latents", "latents.npz", "--out", "t"]].concat());
    assert!(run.code == 1 && run.stderr.contains("the image of latent 1 "), "{}", run.stderr);
    assert!(run.stderr.contains("1 images were made before and are kept in t"), "{}", run.stderr);
    assert_eq!(place.list("t"), ["000000.png", "run.json"]);
}
