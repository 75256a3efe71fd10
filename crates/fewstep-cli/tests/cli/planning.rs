//! `plan` alone: what it needs, what training images change, the same plans by the library; and `tune` for plans that there are.

use fewstep_io::npz;
use fewstep_io::tensors::TensorData;

use crate::fitting::place;
use crate::support::Place;

/// The search needs the network alone: no data, one teacher for all numbers of steps, kept for the next run.
#[test]
fn plans_need_no_data() {
    let place = place();
    let plan = |model: &'static str, steps: &'static str, out: &'static str| {
        vec!["plan", model, "--steps", steps, "--settings", "quick.toml", "--out", out]
    };
    place.succeeds(&plan("model.safetensors", "2,3,5", "run"));
    let found = place.read_json("run/steps-003/plan.json");
    assert_eq!((&found["nfe"], &found["solver"]), (&serde_json::json!(3), &serde_json::json!("least_squares")));
    assert_eq!(found["metadata"]["found_by"]["method"], "least-squares+gauss-newton+moments");
    let told = place.json(&["info", "run/steps-003/plan.json"]);
    assert_eq!(told[0]["nfe"], 3);
    // paths are those inside the folder, wherever it goes
    std::fs::rename(place.path("run"), place.path("moved")).unwrap();
    let outcomes = place.read_json("moved/fit.json");
    assert!(place.path("moved").join(outcomes[0]["plan"].as_str().unwrap()).exists(), "{outcomes}");
    std::fs::remove_dir_all(place.path("moved/steps-005")).unwrap();
    place.succeeds(&[plan("model.safetensors", "2,3,5", "moved"), vec!["--resume"]].concat());

    // nor does tuning by rollout, for plans that there are
    let tuning = ["--updates", "3", "--set", "tune.trajectories=6", "--set", "tune.batch=12"];
    let more = ["--set", "tune.check_every=1", "--set", "early_stop=false", "--settings", "quick.toml"];
    let first = ["tune", "model.safetensors", "--plan", "moved/steps-003/plan.json", "--out", "tuned"];
    let outcome = place.json(&[&first[..], &tuning, &more].concat());
    assert_eq!((&outcome[0]["phases"][0]["phase"], &outcome[0]["steps"]), (&2.into(), &3.into()));
    assert_eq!(outcome[0]["baseline_name"], "the plan given");
    // with no other plan to try it on, the tuned network is tried on one that anybody might sample with
    let cross = outcome[0]["cross_plan"].as_array().unwrap();
    assert_eq!(cross.len(), 1);
    assert_eq!((&cross[0]["steps"], &cross[0]["solver"]), (&6.into(), &"dpmpp3m on rho = 7".into()));
    assert!(cross[0]["tuned"].as_f64().unwrap() > 0.0 && cross[0]["untuned"].as_f64().unwrap() > 0.0);
    let run = place.read_json("tuned/run.json");
    assert_eq!(run["kind"], "tune");
    let tune = &run["task"]["settings"]["tune"];
    assert_eq!((&tune["critic_weight"], &tune["critic_of"]), (&0.3.into(), &"auto".into()), "{run}");
    assert!(place.path("tuned/steps-003/round-1-phase-2.safetensors").exists());
    assert!(!place.path("tuned/steps-003/round-1-phase-2-trajectories.safetensors").exists());
    // the folder of `plan` names all its plans
    let all = ["tune", "model.safetensors", "--plan", "moved", "--out", "new", "--dry-run"];
    let small = ["--settings", "quick.toml", "--set", "tune.trajectories=60"];
    let cost = place.json(&[&all[..], &small].concat());
    assert_eq!(cost["settings"]["steps"], serde_json::json!([2, 3, 5]), "{cost}");

    // a plan that phase 2 cannot take is refused before anything is done
    let heun = ["plan", "model.safetensors", "--steps", "3", "--method", "karras/heun", "--out", "heun"];
    place.succeeds(&[&heun[..], &["--set", "held_out.samples=4", "--set", "early_stop=false"]].concat());
    let error = place.fails(&["tune", "model.safetensors", "--plan", "heun", "--out", "new", "--dry-run"]);
    assert!(error.contains("heun/steps-003/plan.json") && error.contains("noise levels fall"), "{error}");

    for (args, wanted) in [
        (&["tune", "model.safetensors", "--loss", "bound", "--out", "new"][..], "--data"),
        (&["plan", "model.safetensors", "--method", "paper", "--out", "new"], "--data"),
    ] {
        let error = place.fails(args);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn moments_of_images_draw_a_plan() {
    let place = place();
    let images = |name: &str, count: usize, pixel: fn(usize) -> u8| {
        let pixels = (0..count * 64).map(pixel).collect::<Vec<_>>();
        place.save_npz(name, vec![("images", TensorData::from_u8(&[count, 1, 8, 8], &pixels).unwrap())]);
    };
    let loud = |i: usize| if i * i * 7 % 31 < 15 { 255 } else { 0 };
    images("loud.npz", 40, loud);
    images("flat.npz", 40, |_| 128);
    let spread = |data: &str| {
        let out = format!("{data}-plans");
        let first = ["plan", "model.safetensors", "--steps", "3", "--data", data, "--out", &out];
        let method = ["--method", "karras+data-moments", "--set", "search.moments.data_error_weight=0"];
        let small = ["--set", "search.moments.control=128", "--set", "search.teacher.samples=8"];
        let more = ["--set", "held_out.samples=2", "--set", "held_out.teacher_steps=3", "--set", "early_stop=false"];
        let grid = ["--set", "search.teacher.grid=8"];
        place.succeeds(&[&first[..], &method, &small, &more, &grid].concat());
        let plan = format!("{out}/steps-003/plan.json");
        assert_eq!(place.read_json(&plan)["metadata"]["found_by"]["method"], "karras/euler+data-moments");
        let out = data.replace(".npz", "-images.npz");
        place.succeeds(&["sample", "model.safetensors", "--plan", &plan, "--out", &out, "--set", "output.raw=true"]);
        let images = npz::read(place.path(&out)).unwrap()["images"].to_f64();
        (images.iter().map(|value| value * value).sum::<f64>() / images.len() as f64).sqrt()
    };
    let (flat, loud) = (spread("flat.npz"), spread("loud.npz"));
    assert!(loud > 1.2 * flat, "{flat} and {loud}");

    let error = place.fails(&["plan", "model.safetensors", "--out", "new", "--method", "karras+data-moments"]);
    assert!(error.contains("--data"), "{error}");
}

/// The example as it is shown; its `main` is for `cargo run`.
#[path = "../../../fewstep/examples/few_steps.rs"]
#[expect(dead_code)]
mod few_steps;

/// The library and the command line are two doors to one house: the same plan, to the bit.
#[test]
fn the_library_finds_the_plans_of_the_command_line() {
    fewstep_nn::device::set_threads(1); // as these tests run the program: sums depend on it
    let place = Place::new();
    place.succeeds(&["plan", "gaussian-mixture-classes", "--steps", "3,5", "--out", "run"]);
    let found = few_steps::plans("gaussian-mixture-classes", &[3, 5]).unwrap();
    assert_eq!(found.plans.len(), 2);
    for (steps, ours) in &found.plans {
        let text = std::fs::read_to_string(place.path(&format!("run/steps-{steps:03}/plan.json"))).unwrap();
        let theirs = fewstep_core::Plan::from_json(&text).unwrap();
        assert_eq!((&ours.stages, &ours.output, &ours.constant), (&theirs.stages, &theirs.output, &theirs.constant));
    }
}
