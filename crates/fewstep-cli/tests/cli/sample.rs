//! `fewstep sample`: seeds, the three forms of output, resuming, samples that are no images, guidance.

use fewstep_io::npz;
use fewstep_io::tensors::{Dtype, TensorData};

use crate::support::{Place, SIZE, goldens, relative_error};

const SAMPLE: [&str; 6] = ["sample", "model.safetensors", "--steps", "3", "--solver", "euler"];

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
    assert!(words.starts_with("a.png: 4 samples, euler, 3 evaluations a sample, "), "{words}");
    let json = place.json(&["sample", "model.safetensors", "--steps", "3", "--seeds", "0-3", "--out", "b.png"]);
    assert_eq!((json["nfe"].as_u64(), json["samples"].as_u64()), (Some(5), Some(4)));
    assert_eq!(json["model_sha256"].as_str().map(str::len), Some(64));
    assert!(json["samples_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read(place.path("a.png")).unwrap()[1..4], *b"PNG");
}

#[test]
fn a_folder_holds_a_png_for_each_seed_and_resumes() {
    let place = Place::with_model();
    place.succeeds(&sample(&["--seeds", "0-2,1001", "--set", "output.subdirs=true", "--out", "s"]));
    assert_eq!(place.list("s"), ["000000", "001000", "run.json"]);
    assert_eq!(place.list("s/000000"), ["000000.png", "000001.png", "000002.png"]);

    let lost = std::fs::read(place.path("s/001000/001001.png")).unwrap();
    std::fs::remove_file(place.path("s/001000/001001.png")).unwrap();
    std::fs::copy(place.path("s/000000/000002.png"), place.path("s/000000/000001.png")).unwrap(); // whole, so it is kept
    std::fs::write(place.path("s/000000/000000.png"), b"cut off by a power cut").unwrap();
    let again = sample(&["--seeds", "0-2,1001", "--set", "output.subdirs=true", "--out", "s", "--resume"]);
    let words = place.succeeds(&again);
    assert!(words.contains("4 samples (2 were there)"), "{words}");
    assert_eq!(std::fs::read(place.path("s/001000/001001.png")).unwrap(), lost);
    let png = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert_eq!(png("s/000000/000001.png"), png("s/000000/000002.png"));
    assert!(png("s/000000/000000.png").starts_with(b"\x89PNG"));

    let mut other = again.clone();
    other[3] = "4";
    assert!(place.fails(&other).contains("another sampler"));
}

/// As on a disk that fills up in the middle of the first batch: what was written stays, and so does what says whose it is.
#[test]
fn a_batch_that_fails_half_way_leaves_a_folder_to_go_on_with() {
    let place = Place::with_model();
    place.succeeds(&sample(&["--seeds", "0", "--out", "s"]));
    std::fs::remove_file(place.path("s/000000.png")).unwrap();
    std::fs::create_dir(place.path("s/000001.png")).unwrap(); // no file can have that name
    let again = sample(&["--seeds", "0,1", "--batch", "2", "--out", "s", "--resume"]);
    let run = place.run(&again);
    assert!(run.code == 1 && run.stderr.contains("1 samples were made before and are kept in s"), "{}", run.stderr);
    assert_eq!(place.list("s"), ["000000.png", "000001.png", "run.json"]);
    std::fs::remove_dir(place.path("s/000001.png")).unwrap();
    assert!(place.succeeds(&again).contains("2 samples (1 were there)"));
}

/// The images of other seeds are not counted, and stay with what says whose they are.
#[test]
fn a_folder_that_could_not_be_gone_on_with_is_left_as_it_was() {
    let place = Place::with_model();
    place.succeeds(&sample(&["--seeds", "0", "--out", "s"]));
    std::fs::create_dir(place.path("s/000005.png")).unwrap(); // no file can have that name
    let run = place.run(&sample(&["--seeds", "5", "--out", "s", "--resume"]));
    assert!(run.code == 1 && run.stderr.contains("s/000005.png"), "{}", run.stderr);
    assert_eq!(place.list("s"), ["000000.png", "000005.png", "run.json"]);
    std::fs::remove_dir(place.path("s/000005.png")).unwrap();
    let words = place.succeeds(&sample(&["--seeds", "0,5", "--out", "s", "--resume"]));
    assert!(words.contains("2 samples (1 were there)"), "{words}");
}

/// The array `seeds` holds numbers with a sign; a picture holds none.
#[test]
fn seeds_that_an_npz_file_does_not_hold_are_refused() {
    let place = Place::with_model();
    let message = place.fails(&sample(&["--seeds", "7,9223372036854775808", "--out", "x.npz"]));
    insta::assert_snapshot!(message, @"the seed 9223372036854775808 is larger than what the array `seeds` of an npz file holds, 9223372036854775807 at most: take smaller seeds");
    place.succeeds(&sample(&["--seeds", "9223372036854775807", "--out", "x.npz"]));
    assert_eq!(npz::read(place.path("x.npz")).unwrap()["seeds"].to_i64().unwrap(), [i64::MAX]);
    place.succeeds(&sample(&["--seeds", "18446744073709551615", "--out", "x.png"]));
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
    place.succeeds(&sample(&["--seeds", "0-3", "--class", "7", "--set", "output.raw=true", "--out", "seven.npz"]));
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
        "model.safetensors",
        "--plan",
        "plan.json",
        "--seeds",
        "5",
        "--set",
        "output.raw=true",
        "--out",
        "a.npz",
    ]);
    let sigmas = [
        "sample",
        "model.safetensors",
        "--solver",
        "euler",
        "--sigmas",
        "40,3,0.25",
        "--seeds",
        "5",
        "--set",
        "output.raw=true",
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
    let heun = ["sample", model, "--latents", latents, "--steps", "6", "--set", "output.raw=true", "--out", "heun.npz"];
    assert_eq!(place.json(&heun)["nfe"], 11);
    let found = npz::read(place.path("heun.npz")).unwrap();
    let error = relative_error(&found["images"], &npz::read(latents).unwrap()["edm_heun_6"]);
    assert!(error <= 1e-4, "{error:.2e}");
    assert!(!found.contains_key("seeds"));
}

/// A plan is a whole sampler, and a list of levels a whole schedule: options that would change neither are refused.
#[test]
fn options_that_a_plan_or_a_list_of_levels_overrules_are_refused() {
    let place = Place::new();
    for (overruled, given) in [
        (["--steps", "18"], ["--plan", "plan.json"]),
        (["--solver", "heun"], ["--plan", "plan.json"]),
        (["--schedule", "karras"], ["--plan", "plan.json"]),
        (["--sigmas", "80,1"], ["--plan", "plan.json"]),
        (["--steps", "18"], ["--sigmas", "80,1"]),
        (["--schedule", "karras"], ["--sigmas", "80,1"]),
    ] {
        let run = place.run(&[&["sample", "gaussian-mixture"], &given[..], &overruled].concat());
        let names = run.stderr.contains(overruled[0]) && run.stderr.contains(given[0]);
        assert!(run.code == 2 && names && run.stderr.contains("cannot be used with"), "{}", run.stderr);
    }
}

/// The same of settings, by the words of whoever set them; what a file sets to its default changes nothing.
#[test]
fn settings_that_other_options_overrule_are_refused_as_they_were_written() {
    let place = Place::new();
    let all = ["rho=7", "sigma_min=0.002", "sigma_max=80", "last_step=false", "afs=true"];
    for command in [&["sample", "gaussian-mixture", "--out", "x.npz"][..], &["eval", "gaussian-mixture"]] {
        let refused = |rest: &[&str]| place.fails(&[command, rest].concat());
        for (given, overruled) in [
            (["--plan", "plan.json"], &all[..]),
            (["--sigmas", "80,1"], &all[..3]),
            (["--schedule", "cosine"], &all[..1]),
        ] {
            for setting in overruled {
                let setting = format!("sampler.{setting}");
                let error = refused(&[&given[..], &["--set", &setting]].concat());
                assert!(error.starts_with(&format!("--set {setting} ")), "{error}");
                assert!(error.contains("cannot be used with") && error.contains(given[0]), "{error}");
            }
        }
        std::fs::write(place.path("own.toml"), "[sampler]\nrho = 7\nafs = true\n").unwrap();
        let error = refused(&["--plan", "plan.json", "--settings", "own.toml"]);
        assert!(error.starts_with("sampler.afs in own.toml cannot be used with --plan"), "{error}");
        std::fs::write(place.path("usual.toml"), "[sampler]\nrho = 7\nafs = false\n").unwrap();
        let error = refused(&["--plan", "plan.json", "--settings", "usual.toml"]);
        assert!(error.contains("the plan plan.json does not exist"), "{error}");
        std::fs::remove_file(place.path("own.toml")).unwrap();
        std::fs::remove_file(place.path("usual.toml")).unwrap();
    }
}

#[test]
fn settings_of_the_sampler_are_heard() {
    let place = Place::new();
    let sampler = ["sample", "gaussian-mixture", "--solver", "euler", "--steps", "3", "--seeds", "0", "--dry-run"];
    let cost = |settings: &[&str]| {
        let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        place.json(&[&sampler[..], &set].concat())["settings"].clone()
    };
    let ends = |settings: &[&str]| {
        let sigmas = cost(settings)["sigmas"].clone();
        [0, 1, 2].map(|at| (1e3 * sigmas[at].as_f64().unwrap()).round() / 1e3)
    };
    assert_eq!(ends(&[]), [80.0, 2.515, 0.002]);
    assert_eq!(ends(&["sampler.rho=1"]), [80.0, 40.001, 0.002]);
    assert_eq!(ends(&["sampler.rho=1", "sampler.sigma_min=2", "sampler.sigma_max=20"]), [20.0, 11.0, 2.0]);
    assert_eq!(cost(&["sampler.last_step=false"])["nfe"], 2);
    assert_eq!(cost(&["sampler.afs=true"])["nfe"], 2);
}

/// Latents of a network of four channels, say: floats alone hold them.
#[test]
fn samples_that_are_no_images_become_arrays() {
    let place = Place::new();
    place.save_model("model.safetensors", 4, 0);
    place.succeeds(&sample(&["--seeds", "0-4", "--batch", "2", "--out", "five.npz"]));
    let five = npz::read(place.path("five.npz")).unwrap();
    assert!(!five.contains_key("images"));
    assert_eq!((five["samples"].dtype, five["samples"].shape.as_slice()), (Dtype::F32, &[5, 4, SIZE, SIZE][..]));
    place.succeeds(&sample(&["--seeds", "3", "--set", "output.raw=true", "--out", "one.npz"]));
    let (one, size) = (npz::read(place.path("one.npz")).unwrap(), 4 * SIZE * SIZE);
    let third = TensorData::from_f32(&[1, 4, SIZE, SIZE], &five["samples"].to_f32()[3 * size..4 * size]).unwrap();
    assert!(relative_error(&one["samples"], &third) < 1e-5);
    for out in ["grid.png", "folder"] {
        let error = place.fails(&sample(&["--seeds", "0-3", "--out", out]));
        insta::allow_duplicates!(
            insta::assert_snapshot!(error, @"model.safetensors makes samples of shape [4, 8, 8], which are no images of 1 or 3 channels, and has no decoder: PNG cannot hold them, so let --out end in .npz, or name its decoder in a JSON beside it (docs/formats.md)")
        );
    }
    let info = place.succeeds(&["info", "model.safetensors"]);
    assert!(info.contains("  samples           4x8x8, which are no images\n"), "{info}");
}

/// Each evaluation under guidance takes two calls, and `run.json` says who guided.
#[test]
fn guidance_is_of_the_model() {
    let place = Place::new();
    let guided = ["sample", "gaussian-mixture-classes", "--guidance", "2", "--steps", "2", "--seeds", "0-1"];
    let words = place.succeeds(&[&guided[..], &["--out", "s"]].concat());
    assert!(words.contains("heun, 3 evaluations (6 network calls) a sample"), "{words}");
    let run = place.read_json("s/run.json");
    assert_eq!(run["task"]["model"]["guidance"]["weight"], 2.0);
    let plain = [&guided[..2], &guided[4..]].concat();
    let error = place.fails(&[&plain[..], &["--out", "s", "--resume"]].concat());
    assert!(error.contains("another sampler (other model, its precision or guidance"), "{error}");
    let cost = place.json(&[&guided[..], &["--dry-run"]].concat());
    assert_eq!((&cost["evaluations"], &cost["settings"]["model"]["guidance"]["weight"]), (&6.into(), &2.0.into()));
}

/// A sample that is not finite ends the run at its batch, with its seed and the level, and leaves no half-made folder. Images that
/// were whole before stay.
#[test]
fn an_image_that_is_not_finite_ends_the_run_at_once() {
    let place = Place::with_model();
    // 1e39 is beyond f32: no image survives the second stage
    let plan = r#"{"version": 1, "stages": [{"sigma": 80, "input": {"latent": 80}}, {"sigma": 2, "input": {"d0": 1e39}}],
        "output": {"d1": 1}}"#;
    std::fs::write(place.path("plan.json"), plan).unwrap();
    let made = |rest: &[&'static str]| {
        let first = ["sample", "model.safetensors", "--plan", "plan.json", "--batch", "1"];
        place.fails(&[&first[..], rest].concat())
    };
    let message = made(&["--seeds", "5-100000", "--out", "s"]);
    assert!(
        message.contains("the sample of seed 5 has values that are not finite, from the noise level 2.0000 on"),
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
    let first = ["sample", "model.safetensors", "--steps", "2", "--solver", "euler", "--batch", "1"];
    let run = place.run(&[&first[..], &["--latents", "latents.npz", "--out", "t"]].concat());
    assert!(run.code == 1 && run.stderr.contains("the sample of latent 1 "), "{}", run.stderr);
    assert!(run.stderr.contains("1 samples were made before and are kept in t"), "{}", run.stderr);
    assert_eq!(place.list("t"), ["000000.png", "run.json"]);
}
