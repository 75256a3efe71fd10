//! `fit`: both phases, their files, resume.

use fewstep_io::npz;
use fewstep_io::tensors::TensorData;

use crate::support::Place;

const QUICK: [&str; 33] = [
    "--model",
    "model.safetensors",
    "--data",
    "images",
    "--steps",
    "3,4",
    "--held-out",
    "2",
    "--teacher-steps",
    "3",
    "--grid",
    "7",
    "--table-images",
    "4",
    "--batch",
    "4",
    "--updates",
    "4",
    "--check-every",
    "2",
    "--phase1-updates",
    "4",
    "--phase1-batch",
    "4",
    "--lr",
    "0.001",
    "--search-samples",
    "4",
    "--search-grid",
    "7",
    "--beam",
    "1",
    "--json",
];

pub fn fit<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["fit", "--out", out].iter().chain(&QUICK).chain(more).copied().collect()
}

pub fn place() -> Place {
    let place = Place::with_model();
    place.save_images("images", 1, 8, 24);
    place
}

#[test]
fn both_phases_leave_a_plan_and_a_network_for_every_number_of_steps() {
    let place = place();
    let outcomes: serde_json::Value = serde_json::from_str(&place.succeeds(&fit("run", &[]))).unwrap();
    for (index, steps) in [3, 4].into_iter().enumerate() {
        let outcome = &outcomes[index];
        assert_eq!(outcome["steps"], steps);
        assert_eq!(outcome["stages"].as_array().unwrap().len(), 2);
        let plan = format!("run/steps-{steps:03}/plan.json");
        let model = format!("run/steps-{steps:03}/model.safetensors");
        let grid = format!("{steps}.png");
        let args = ["sample", "--model", &model, "--plan", &plan, "--seeds", "0-3", "--out", &grid];
        assert_eq!(place.json(&args)["nfe"], steps);
    }
    // What a tuned network is worth under the other plan, and the same in the report.
    for (index, other) in [4, 3].into_iter().enumerate() {
        let elsewhere = outcomes[index]["elsewhere"].as_array().unwrap();
        let tuned = outcomes[index]["model"].is_string();
        assert_eq!(elsewhere.len(), usize::from(tuned));
        for judged in elsewhere {
            assert_eq!(judged["steps"], other);
            assert!(judged["tuned"].as_f64().unwrap() > 0.0 && judged["untuned"].as_f64().unwrap() > 0.0);
        }
    }
    // What is kept is never worse than where it started.
    for outcome in outcomes.as_array().unwrap() {
        let baseline = outcome["baseline"].as_f64().unwrap();
        let kept = outcome["stages"].as_array().unwrap().iter().filter(|stage| stage["kept"] == true);
        assert!(kept.map(|stage| stage["rollout_error"].as_f64().unwrap()).all(|error| error <= baseline));
    }
}

#[test]
fn every_objective_and_choice_of_phase_1_runs() {
    let place = place();
    place.succeeds(&["features", "--data", "images", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    let features = ["--distance", "features", "--features", "features.safetensors", "--trajectories", "8"];
    let rest = ["--weights", "rollout", "--lr-schedule", "cosine", "--data-weight", "0.5", "--step-weights", "equal"];
    let rollout = [&features[..], &rest].concat();
    let critic = ["--weights", "rollout", "--critic-weight", "0.1", "--gradient"];
    let by_step = [&features[..], &critic, &["step"]].concat();
    let by_data = [&features[4..], &critic, &["through", "--critic-of", "data", "--xflip"]].concat();
    let choices: [&[&str]; 13] = [
        &["--search", "paper", "--objective", "discretization", "--noise", "shared"],
        &["--search", "paper", "--objective", "joint", "--gamma", "0.5", "--parameter", "linear"],
        &["--search", "paper", "--objective", "bound", "--solver", "adam", "--no-early-stop"],
        &["--search", "paper", "--objective", "bound", "--solver", "table", "--rounds", "2", "--phases", "1,2"],
        &["--phases", "2", "--weights", "original"],
        &["--search", "local/ipndm4", "--phases", "1"],
        &["--search", "bound/dpmpp2m", "--phases", "1", "--no-constant", "--rounds", "2"],
        &["--rounds", "2", "--no-early-stop"],
        &rollout,
        &by_step,
        &by_data,
        &["--search", "least-squares+gauss-newton", "--phases", "1", "--no-free-state", "--robust"],
        &[
            "--search",
            "least-squares+rollout",
            "--phases",
            "1",
            "--rollout-loss",
            "features",
            "--features",
            features[3],
        ],
    ];
    for (index, choice) in choices.iter().enumerate() {
        let out = format!("run-{index}");
        place.succeeds(&fit(&out, choice));
    }
    let without_stop = std::fs::read_to_string(place.path("run-2/steps-003/round-1-phase-1.json")).unwrap();
    let learned: serde_json::Value = serde_json::from_str(&without_stop).unwrap();
    assert_eq!(learned["steps"].as_array().unwrap().len(), 4);
    // Without early stopping the last levels are the outcome.
    assert_eq!(learned["plan"]["schedule"], learned["steps"][3]["sigmas"]);
}

#[test]
fn a_finished_part_is_not_done_again() {
    let place = place();
    let first = place.succeeds(&fit("run", &[]));
    std::fs::remove_file(place.path("run/steps-004/round-1-phase-2.json")).unwrap();
    let before = std::fs::metadata(place.path("run/steps-003/round-1-phase-1.json")).unwrap().modified().unwrap();
    let second = place.succeeds(&fit("run", &["--resume"]));
    assert_eq!(first, second);
    let after = std::fs::metadata(place.path("run/steps-003/round-1-phase-1.json")).unwrap().modified().unwrap();
    assert_eq!(before, after);
    let other = place.run(&fit("run", &["--resume", "--rounds", "2"]));
    assert!(other.code == 1 && other.stderr.contains("other options"), "{}", other.stderr);
}

/// The search needs the network alone: no data, one teacher for all numbers of steps, kept for the next run.
#[test]
fn plans_need_no_data() {
    let place = place();
    let search = ["--search-samples", "4", "--search-grid", "8", "--held-out", "2", "--teacher-steps", "3"];
    let args = |out: &'static str| {
        let first = ["fit", "--model", "model.safetensors", "--phases", "1", "--steps", "2,3,5", "--out", out];
        first.into_iter().chain(search).collect::<Vec<_>>()
    };
    place.succeeds(&args("run"));
    let plan: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("run/steps-003/plan.json")).unwrap()).unwrap();
    assert_eq!((&plan["nfe"], &plan["solver"]), (&serde_json::json!(3), &serde_json::json!("least_squares")));
    assert_eq!(plan["metadata"]["found_by"]["method"], "least-squares+gauss-newton+moments");
    let told = place.json(&["info", "run/steps-003/plan.json"]);
    assert_eq!(told[0]["nfe"], 3);

    std::fs::remove_dir_all(place.path("run/steps-005")).unwrap();
    let again = [args("run"), vec!["--resume"]].concat();
    place.succeeds(&again);
    // another model's teacher is not taken
    std::fs::copy(place.path("run/teacher.safetensors"), place.path("kept")).unwrap();
    place.save_model("other.safetensors", 3, 0);
    let other = ["fit", "--model", "other.safetensors", "--phases", "1", "--steps", "2", "--out", "other"];
    place.succeeds(&other.into_iter().chain(search).collect::<Vec<_>>());
    std::fs::copy(place.path("kept"), place.path("other/teacher.safetensors")).unwrap();
    std::fs::remove_dir_all(place.path("other/steps-002")).unwrap();
    let error = place.run(&other.into_iter().chain(search).chain(["--resume"]).collect::<Vec<_>>());
    assert!(error.code == 1 && error.stderr.contains("teacher of another model"), "{}", error.stderr);

    // nor does tuning by rollout
    let rollout =
        ["--weights", "rollout", "--trajectories", "6", "--batch", "12", "--updates", "3", "--check-every", "1"];
    let args = ["fit", "--model", "model.safetensors", "--steps", "3", "--out", "tuned", "--distance", "pseudo-huber"];
    let outcome =
        place.json(&args.into_iter().chain(search).chain(rollout).chain(["--no-early-stop"]).collect::<Vec<_>>());
    assert_eq!(outcome[0]["stages"][1]["phase"], 2);
    // with no other plan to try it on, the tuned network is tried on one that anybody might sample with
    let elsewhere = outcome[0]["elsewhere"].as_array().unwrap();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!((&elsewhere[0]["steps"], &elsewhere[0]["solver"]), (&6.into(), &"dpmpp3m on rho = 7".into()));
    assert!(elsewhere[0]["tuned"].as_f64().unwrap() > 0.0 && elsewhere[0]["untuned"].as_f64().unwrap() > 0.0);
    let run: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("tuned/run.json")).unwrap()).unwrap();
    let loss = &run["task"]["settings"]["phase2"]["weights"]["rollout"];
    assert_eq!((&loss["critic"], &loss["critic_of"]), (&0.3.into(), &"teacher".into()), "{run}");
    assert!(place.path("tuned/steps-003/round-1-phase-2.safetensors").exists());
    assert!(!place.path("tuned/steps-003/round-1-phase-2-trajectories.safetensors").exists());

    let error = place.fails(&["fit", "--model", "model.safetensors", "--out", "new"]);
    assert!(error.contains("--data") && error.contains("--phases 1"), "{error}");
}

#[test]
fn images_draw_the_look_of_a_plan() {
    let place = place();
    let images = |name: &str, count: usize, pixel: fn(usize) -> u8| {
        let pixels = (0..count * 64).map(pixel).collect::<Vec<_>>();
        place.save_npz(name, vec![("images", TensorData::from_u8(&[count, 1, 8, 8], &pixels).unwrap())]);
    };
    let loud = |i: usize| if i * i * 7 % 31 < 15 { 255 } else { 0 };
    images("loud.npz", 40, loud);
    images("flat.npz", 40, |_| 128);
    let fit = |out: &str, more: &[&str]| {
        let args = ["fit", "--model", "model.safetensors", "--phases", "1", "--steps", "3", "--search-samples", "8"];
        let small = ["--search-grid", "8", "--held-out", "2", "--teacher-steps", "3", "--moments-control", "128"];
        place.succeeds(&[&args[..], &small, &["--out", out], more].concat());
        let plan = std::fs::read_to_string(place.path(out).join("steps-003/plan.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&plan).unwrap()["metadata"]["found_by"]["method"].clone()
    };
    let spread = |data: &str| {
        let by_name = ["--search", "karras+data-moments", "--moments-weight", "0", "--no-early-stop", "--data", data];
        let (out, plan) = (data.replace(".npz", "-images.npz"), format!("{data}-fit/steps-003/plan.json"));
        assert_eq!(fit(&format!("{data}-fit"), &by_name), "karras/euler+data-moments");
        place.succeeds(&["sample", "--model", "model.safetensors", "--plan", &plan, "--out", &out, "--raw"]);
        let images = npz::read(place.path(&out)).unwrap()["images"].to_f64();
        (images.iter().map(|value| value * value).sum::<f64>() / images.len() as f64).sqrt()
    };
    let (flat, loud) = (spread("flat.npz"), spread("loud.npz"));
    assert!(loud > 1.2 * flat, "{flat} and {loud}");

    let error = place.fails(&[
        "fit",
        "--model",
        "model.safetensors",
        "--phases",
        "1",
        "--out",
        "new",
        "--search",
        "karras+data-moments",
    ]);
    assert!(error.contains("--data"), "{error}");
}

/// Quick fits of the mixture by rollout.
fn on_mixture(out: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    let args = ["fit", "--model", "gaussian-mixture", "--out", out, "--weights", "rollout", "--batch", "24"];
    let small = ["--search-samples", "8", "--trajectories", "32", "--held-out", "32", "--check-every", "2"];
    [&args[..], &small, more].concat()
}

/// With something to judge images by, a fit goes as far towards the tuned network as its images come nearer.
#[test]
fn a_fit_settles_on_the_way_to_the_tuned_network() {
    let place = Place::new();
    place.save_images("images", 1, 32, 120);
    place.succeeds(&["features", "--data", "images", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "images", "--features", "features.safetensors", "--out", "ref.npz"]);
    let judged = ["--ref", "ref.npz", "--features", "features.safetensors", "--settling-images", "32"];
    let search = ["--data", "images", "--search", "karras+data-moments", "--moments-control", "128", "--rounds", "2"];
    let more = [&judged[..], &search, &["--steps", "3,4", "--updates", "8", "--lr", "0.001"]].concat();
    let outcomes = place.json(&on_mixture("run", &more));
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    for outcome in outcomes.as_array().unwrap() {
        let stages = outcome["stages"].as_array().unwrap();
        let tunings: Vec<_> = stages.iter().filter(|stage| stage["phase"] == 2).collect();
        let rounds = outcome["between"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        for (looks, stage) in rounds.iter().zip(tunings) {
            let looks = looks.as_array().unwrap();
            let shares: Vec<f64> = looks.iter().map(|look| number(&look["share"])).collect();
            assert_eq!(shares, [0.0, 0.25, 0.5, 0.75, 1.0]);
            let best =
                looks[1..].iter().min_by(|a, b| number(&a["frechet"]).total_cmp(&number(&b["frechet"]))).unwrap();
            assert_eq!(best["rollout_error"], stage["rollout_error"]);
            assert_eq!(stage["kept"], number(&best["frechet"]) <= number(&looks[0]["frechet"]));
        }
    }
    let table = place.succeeds(&on_mixture("run", &[&more[..], &["--resume"]].concat()));
    assert!(table.contains("of the way to the tuned network") && table.contains("75 %"), "{table}");
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("On the way to the tuned network"));
    let cost = place.json(&on_mixture("new", &[&more[..], &["--dry-run"]].concat()));
    let parts = cost["parts"].as_array().unwrap();
    let part = |name: &str| parts.iter().find(|part| part["what"] == name).unwrap()["evaluations"].as_u64().unwrap();
    // 2 rounds of 5 networks, 32 images and 32 held out, all but one matched with 8 latents, 3 and 4 evaluations
    assert_eq!(part("settling on the way to the tuned network"), 2 * (5 * 64 + 4 * 8) * 7);

    // the plan for a tuned network is the same where a fit that was stopped goes on: it does not search again
    let plan = place.path("run/steps-004/plan.json");
    let before = std::fs::read_to_string(&plan).unwrap();
    for file in ["round-1-phase-2.json", "round-2-phase-1.json", "round-2-phase-2.json"] {
        std::fs::remove_file(place.path("run/steps-004").join(file)).unwrap();
    }
    place.succeeds(&on_mixture("run", &[&more[..], &["--resume"]].concat()));
    assert_eq!(std::fs::read_to_string(plan).unwrap(), before);

    let error = place.fails(&on_mixture("new", &[&judged[..4], &["--settling-images", "1"]].concat()));
    assert!(error.contains("--settling-images"), "{error}");
    let alone = place.run(&on_mixture("new", &judged[..2]));
    assert!(alone.code == 2 && alone.stderr.contains("--features"), "{}", alone.stderr);
    let refined = ["--search", "karras+rollout", "--rollout-loss", "features"];
    for idle in [&["--no-early-stop"][..], &["--distance", "features"], &refined] {
        let error = place.fails(&on_mixture("new", &[&judged[..], idle].concat()));
        assert!(error.contains("--ref chooses among networks on the way"), "{error}");
    }
    // a judge that cannot judge shows before anything is made
    let (mu, sigma) = ([0.0, 1.0], [1.0, 0.0, 0.0, 1.0]);
    let arrays = vec![
        ("mu", TensorData::from_f64(&[2], &mu).unwrap()),
        ("sigma", TensorData::from_f64(&[2, 2], &sigma).unwrap()),
    ];
    place.save_npz("other.npz", arrays);
    let error = place.fails(&on_mixture("new", &["--ref", "other.npz", "--features", "features.safetensors"]));
    assert!(error.contains("other.npz are of 2 features") && !place.path("new").exists(), "{error}");
}

/// A built-in model is judged by its own reference, and stays as it was where no network on the way is nearer.
#[test]
fn built_in_models_settle_by_themselves() {
    let place = Place::new();
    let small = ["--steps", "3", "--search", "least-squares", "--settling-images", "96"];
    let fit = |out, more: &[&'static str]| place.json(&on_mixture(out, &[&small[..], more].concat()));
    let tuned = fit("tuned", &["--updates", "8", "--lr", "0.001"]);
    assert_eq!(tuned[0]["between"][0].as_array().unwrap().len(), 5);
    let run = std::fs::read_to_string(place.path("tuned/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    assert!(run["task"]["judge"]["reference"].as_str().unwrap().contains("exact samples"));
    // so long steps that nothing is kept of them
    let untuned = fit("untuned", &["--updates", "6", "--lr", "10", "--ema", "1"]);
    assert_eq!(untuned[0]["stages"][1]["kept"], false);
    assert!(untuned[0]["model"].is_null());
}
