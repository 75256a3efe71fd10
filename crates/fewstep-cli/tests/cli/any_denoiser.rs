//! Whole runs on models that are no network of ours alone: guided ones, and programs.

use fewstep_nn::tch::{CModule, Device, Kind, Tensor};
use serde_json::json;

use crate::support::Place;

/// Settings of a search of seconds.
const SMALL: [&str; 4] = ["search.teacher.samples=16", "search.teacher.grid=9", "held_out.samples=32", "batch=32"];

fn small(sections: &[&'static str]) -> Vec<String> {
    let named = |name: &&str| sections.contains(&name.split(['.', '=']).next().unwrap_or_default());
    SMALL.iter().filter(|name| named(name)).map(|name| format!("--set={name}")).collect()
}

/// `words` and the small settings of these sections.
fn with_small<'a>(words: &[&'a str], settings: &'a [String]) -> Vec<&'a str> {
    words.iter().copied().chain(settings.iter().map(String::as_str)).collect()
}

/// A TorchScript program and its description: the exact denoiser of data whose every number is 0.5 or -0.5 with a deviation of 0.3.
fn save_program(place: &Place, name: &str, shape: &[i64]) {
    let states = Tensor::zeros([&[2], shape].concat(), (Kind::Float, Device::Cpu));
    let wide: Vec<i64> = std::iter::once(-1).chain(shape.iter().map(|_| 1)).collect();
    let mut denoise = |inputs: &[Tensor]| {
        let noise = inputs[1].square().reshape(&wide);
        let variance = &noise + 0.09;
        let mean = (&inputs[0] * 0.5 / &variance).tanh() * 0.5;
        vec![(&inputs[0] * 0.09 + mean * noise) / variance]
    };
    let levels = Tensor::ones([2], (Kind::Float, Device::Cpu));
    CModule::create_by_tracing("net", "forward", &[states, levels], &mut denoise)
        .unwrap()
        .save(place.path(name))
        .unwrap();
    let described = json!({
        "shape": shape,
        "parameterisation": { "type": "denoiser", "sigma_min": 0.02, "sigma_max": 20.0 },
        "inputs": ["x", "noise"],
    });
    std::fs::write(place.path(name).with_extension("json"), described.to_string()).unwrap();
}

/// Weights are those of the network, and the plan's guidance counts in every error and cost.
#[test]
fn a_guided_network_is_tuned_as_it_samples() {
    let place = Place::new();
    let guided = ["fit", "gaussian-mixture-classes", "--guidance", "2", "--steps", "3", "--method", "karras/euler"];
    let tuning = [
        "--updates",
        "30",
        "--lr",
        "1e-2",
        "--set=tune.trajectories=64",
        "--set=tune.batch=48",
        "--set=tune.critic_weight=0",
        "--set=interpolate.images=0",
        "--set=held_out.samples=32",
    ];
    let fit = [&guided[..], &tuning, &["--out", "run"]].concat();
    let outcomes = place.json(&fit);
    let outcome = &outcomes[0];
    assert_eq!((&outcome["calls"], &outcome["phases"][1]["phase"]), (&json!(6), &json!(2)), "{outcome}");
    let error = |phase: usize| outcome["phases"][phase]["rollout_error"].as_f64().unwrap();
    assert!(error(1) < 0.99 * error(0), "tuning helps the guided sampler: {outcome}");
    assert_eq!(place.read_json("run/steps-003/plan.json")["metadata"]["guidance"]["weight"], 2.0);
    // what was saved is the network by itself, and it is guided again where it is taken up
    let info = place.json(&["info", "run/steps-003/model.safetensors"]);
    assert!(info[0]["guidance"].is_null(), "{info}");
    let guide = ["--guidance", "2", "--plan", "run/steps-003/plan.json", "--seeds", "0-3", "--out", "tuned.npz"];
    place.succeeds(&[&["sample", "run/steps-003/model.safetensors"], &guide[..]].concat());
    std::fs::remove_file(place.path("run/fit.json")).unwrap();
    assert_eq!(place.json(&[&fit[..], &["--resume"]].concat()), outcomes);
    // a second network guides, and stays as it is
    let by = ["--guide", "gaussian-mixture", "--updates", "1", "--out", "by"];
    let other = [&guided[..], &["--lr", "1e-2", "--set=tune.trajectories=8", "--set=tune.batch=8"], &by].concat();
    assert_eq!(place.json(&[&other[..], &tuning[7..]].concat())[0]["calls"], 6);
    place.save_images("images", 1, 32, 4);
    for loss in [&["--loss", "edm"][..], &["--set", "tune.data_weight=0.1"]] {
        let words = [&guided[..], loss, &["--data", "images", "--out", "new"]].concat();
        let error = place.fails(&words);
        assert!(error.contains("what a guided one answers is no mean of data"), "{error}");
    }
}

/// `fit` does what can be done of it, `tune` and options of tuning are refused.
#[test]
fn a_program_has_its_plans_fitted_and_no_tuning() {
    let place = Place::new();
    save_program(&place, "program.pt", &[6]);
    let small = small(&["search", "held_out"]);
    let words = |command| [command, "program.pt", "--trust", "--steps", "3", "--out", "run"];
    let run = place.run(&with_small(&words("fit"), &small));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("phase 1 alone: program.pt cannot be tuned"), "{}", run.stderr);
    assert!(place.path("run/steps-003/plan.json").exists() && !place.path("run/steps-003/model.safetensors").exists());
    place.succeeds(&with_small(&[&words("fit")[..], &["--resume"]].concat(), &small));
    let new = |command, more: &[&'static str]| [&[command, "program.pt", "--trust", "--out", "new"], more].concat();
    assert!(place.fails(&new("tune", &[])).contains("cannot be tuned"));
    for (more, said) in [
        (["--updates", "9"], "tune.updates"),
        (["--lr", "3"], "tune.learning_rate"),
        (["--loss", "edm"], "tune.loss"),
        (["--set", "tune.patience=2"], "tune.patience"),
        (["--rounds", "2"], "rounds are of both phases"),
    ] {
        let run = place.run(&new("fit", &more));
        assert!(run.code == 1 && run.stderr.contains(said), "{more:?}: {}", run.stderr);
    }
    assert!(!place.path("new").exists());
}

/// The paper's phase 1 takes derivatives alone; rows that tune are left out, or refused where they are asked for.
#[test]
fn a_program_is_reproduced_as_far_as_it_can_be() {
    let place = Place::new();
    save_program(&place, "program.pt", &[1, 8, 8]);
    place.save_images("images", 1, 8, 16);
    let words =
        ["reproduce", "program.pt", "--trust", "--data", "images", "--steps", "3", "--out", "run", "--images", "16"];
    let settings = [
        "--set=fit.paper.iterations=3",
        "--set=fit.paper.check_every=1",
        "--set=fit.paper.batch=4",
        "--set=fit.held_out.samples=8",
        "--set=seeds.ranges=1",
        "--set=choose_by_images=false",
    ];
    let features = concat!(env!("CARGO_MANIFEST_DIR"), "/../fewstep/assets/features.safetensors");
    let scored = ["--ref", "images", "--features", features];
    let run = place.run(&[&words[..], &settings, &scored, &["--json"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("without the rows that tune the network"), "{}", run.stderr);
    let rows: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["teacher", "baseline", "phase 1: levels"]);
    assert_ne!(rows[1]["sigmas"], rows[2]["sigmas"]);
    let idle = place.run(&[&words[..7], &["--out", "new", "--updates", "9"]].concat());
    assert!(idle.code == 1 && idle.stderr.contains("--updates is for rows that tune"), "{}", idle.stderr);
    let named = [&words[..7], &["--out", "new", "--rows", "both"]].concat();
    assert!(place.fails(&named).contains("cannot be tuned"));
    assert!(place.path("run/fig3-003.svg").exists());
    // it trains weights that nobody can see: the paper's figure of them is not drawn
    let objectives =
        place.run(&[&words[..7], &["--out", "descents", "--experiment", "objectives"], &settings[..4]].concat());
    assert_eq!(objectives.code, 0, "{}", objectives.stderr);
}

/// On any model: with images measured where it is known what they should be, drawn where there are some.
#[test]
fn the_demo_is_of_any_model() {
    let place = Place::new();
    let demo = |model: &'static str, out: &'static str| {
        place.json(&["demo", model, "--trust", "--steps", "3", "--images", "32", "--out", out])
    };
    let names = |results: &serde_json::Value| -> Vec<String> {
        results["rows"].as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap().to_owned()).collect()
    };
    let mixture = demo("gaussian-mixture", "mixture");
    assert_eq!(names(&mixture), ["teacher (Heun, rho = 7)", "baseline (Euler, rho = 7)", "our plan"]);
    let frechet = |row: usize| mixture["rows"][row]["frechet"].as_f64().unwrap();
    assert!(frechet(2) < frechet(1), "{mixture}");
    save_program(&place, "vectors.pt", &[6]);
    let vectors = demo("vectors.pt", "vectors");
    let error = |row: usize| vectors["rows"][row]["rollout_error"].as_f64().unwrap();
    assert!(error(2) < error(1) && vectors["rows"][2]["frechet"].is_null(), "{vectors}");
    let page = std::fs::read_to_string(place.path("vectors/report.html")).unwrap();
    assert!(page.contains("Rollout error in 3 steps from") && !page.contains("data:image/png"));
    assert!(place.path("mixture/images/02.png").exists() && !place.path("vectors/images").exists());
    for (idle, said) in [(["--updates", "9"], "phase 2"), (["--images", "65"], "only shown")] {
        let error = place.fails(&["demo", "vectors.pt", "--trust", "--out", "new", idle[0], idle[1]]);
        assert!(error.contains(said), "{error}");
    }
    let forecast = place.json(&["demo", "vectors.pt", "--trust", "--dry-run"]);
    assert!(forecast["parts"].as_array().unwrap().iter().all(|part| part["gradient"] == false), "{forecast}");
}

/// A decoder is a program: it is named beside the network, and run if the user says so.
#[test]
fn a_network_of_latents_has_a_decoder() {
    let place = Place::new();
    place.save_model("latents.safetensors", 4, 0);
    let latents = Tensor::zeros([2, 4, 8, 8], (Kind::Float, Device::Cpu));
    let mut decode = |x: &[Tensor]| vec![x[0].mean_dim(1, true, Kind::Float).repeat([1, 1, 2, 2]).tanh()];
    let decoder = CModule::create_by_tracing("net", "forward", &[latents], &mut decode).unwrap();
    let fit = ["fit", "latents.safetensors", "--steps", "3", "--method", "karras/euler", "--out", "run", "--trust"];
    let tuning = ["--updates", "2", "--set=tune.trajectories=8", "--set=tune.batch=6", "--set=held_out.samples=4"];
    let sample = |out| ["sample", "latents.safetensors", "--trust", "--steps", "3", "--seeds", "0-3", "--out", out];
    assert!(place.fails(&sample("x.png")).contains("has no decoder"));
    decoder.save(place.path("decoder.pt")).unwrap();
    std::fs::write(place.path("latents.json"), r#"{"decoder": {"path": "decoder.pt", "scale": 2}}"#).unwrap();
    let error = place.fails(&["sample", "latents.safetensors", "--steps", "3", "--out", "x.png"]);
    assert!(error.contains("It was not run") && error.contains("--trust"), "{error}");
    place.succeeds(&sample("grid.png"));
    place.succeeds(&[&sample("latents.npz")[..], &["--set", "output.raw=true"]].concat());
    let size = image::image_dimensions(place.path("grid.png")).unwrap();
    assert!(size.0 >= 32 && size.1 >= 32, "images of 16x16: {size:?}");
    let latents = fewstep_io::npz::read(place.path("latents.npz")).unwrap();
    assert!(latents.values().any(|array| array.shape == [4, 4, 8, 8]), "{:?}", latents.keys());
    place.succeeds(&[&fit[..], &tuning, &["--set=early_stop=false"]].concat());
    // the tuned network has it, too, wherever it is taken
    let tuned = ["run/steps-003/model.safetensors", "--plan", "run/steps-003/plan.json", "--trust", "--seeds", "0-3"];
    place.succeeds(&[&["sample"], &tuned[..], &["--out", "tuned.png"]].concat());
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("data:image/png"), "decoded images are shown");
    // another decoder makes other images: what was kept of a run's images is not taken for theirs
    std::fs::write(place.path("latents.json"), r#"{"decoder": {"path": "decoder.pt", "scale": 3}}"#).unwrap();
    assert!(place.fails(&[&fit[..], &tuning, &["--set=early_stop=false", "--resume"]].concat()).contains("sha256"));
    std::fs::write(place.path("latents.json"), r#"{"decoder": {"paht": "decoder.pt"}}"#).unwrap();
    assert!(place.fails(&sample("x.png")).contains("latents.json names no usable decoder: unknown field `paht`"));
    std::fs::write(place.path("latents.json"), "notes of mine").unwrap();
    place.succeeds(&sample("other.npz"));
}

/// Our search of an experiment matches moments of images, and does without where samples are none, unless it was asked for by name.
#[test]
fn our_plans_are_found_of_samples_that_are_no_images() {
    let place = Place::new();
    save_program(&place, "program.pt", &[6]);
    let words = ["reproduce", "program.pt", "--trust", "--rows", "baseline,ours", "--steps", "3", "--out"];
    let small =
        ["--set=fit.search.teacher.samples=8", "--set=fit.search.teacher.grid=9", "--set=fit.held_out.samples=8"];
    let run = place.run(&[&words[..], &["run"], &small].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("our plans without matched moments, which are of images"), "{}", run.stderr);
    let rows = place.read_json("run/reproduce.json");
    let methods: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["teacher", "baseline", "our plan"]);
    let settings = &place.read_json("run/run.json")["task"]["settings"];
    assert_eq!(settings["method"], "least-squares+gauss-newton");
    let error = place.fails(&[&words[..], &["new", "--set=method=least-squares+moments"]].concat());
    assert!(error.contains("images"), "{error}");
}
