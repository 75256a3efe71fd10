//! `plan`, `tune` and `fit`: both phases, their files, resume.

use crate::support::Place;

/// Settings of quick fits.
pub const QUICK: [&str; 11] = [
    "held_out.samples=2",
    "held_out.teacher_steps=3",
    "tune.batch=4",
    "tune.check_every=2",
    "paper.grid=7",
    "paper.table_images=4",
    "paper.iterations=4",
    "paper.batch=4",
    "paper.check_every=2",
    "search.teacher.samples=4",
    "search.teacher.grid=7",
];

/// `--settings` of a file with these settings, which may be for other methods than the one that is run.
pub fn settings_file(place: &Place, name: &str, settings: &[&str]) -> [String; 2] {
    std::fs::write(place.path(name), settings.join("\n")).unwrap();
    ["--settings".to_owned(), name.to_owned()]
}

/// A quick fit by the paper's loss; settings that are asked for one by one must change something.
pub fn fit<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let first = ["fit", "model.safetensors", "--data", "images", "--out", out, "--steps", "3,4", "--json"];
    let tuning = ["--loss", "bound", "--updates", "4", "--lr", "0.001", "--settings", "quick.toml"];
    // what is given again takes the place of what stands here
    let replaced = |option: &str| option.starts_with("--") && more.contains(&option);
    let pairs = tuning.chunks(2).filter(|pair| !replaced(pair[0])).flatten();
    first.iter().chain(pairs).chain(more).copied().collect()
}

pub fn place() -> Place {
    let place = Place::with_model();
    place.save_images("images", 1, 8, 24);
    settings_file(&place, "quick.toml", &QUICK);
    place
}

#[test]
fn both_phases_leave_a_plan_and_a_network_for_every_number_of_steps() {
    let place = place();
    let outcomes: serde_json::Value = serde_json::from_str(&place.succeeds(&fit("run", &[]))).unwrap();
    for (index, steps) in [3, 4].into_iter().enumerate() {
        let outcome = &outcomes[index];
        assert_eq!(outcome["steps"], steps);
        assert_eq!(outcome["phases"].as_array().unwrap().len(), 2);
        let plan = format!("run/steps-{steps:03}/plan.json");
        let model = format!("run/steps-{steps:03}/model.safetensors");
        let grid = format!("{steps}.png");
        // where tuning bought nothing the network stays untuned
        let model = if outcome["model"].is_string() { model.as_str() } else { "model.safetensors" };
        assert_eq!(
            place.path(&format!("run/steps-{steps:03}/model.safetensors")).exists(),
            outcome["model"].is_string()
        );
        let args = ["sample", model, "--plan", &plan, "--seeds", "0-3", "--out", &grid];
        assert_eq!(place.json(&args)["nfe"], steps);
    }
    // What a tuned network is worth under the other plan, and the same in the report.
    for (index, other) in [4, 3].into_iter().enumerate() {
        let cross = outcomes[index]["cross_plan"].as_array().unwrap();
        let tuned = outcomes[index]["model"].is_string();
        assert_eq!(cross.len(), usize::from(tuned));
        for scored in cross {
            assert_eq!(scored["steps"], other);
            assert!(scored["tuned"].as_f64().unwrap() > 0.0 && scored["untuned"].as_f64().unwrap() > 0.0);
        }
    }
    // What is kept is never worse than where it started.
    for outcome in outcomes.as_array().unwrap() {
        let baseline = outcome["baseline"].as_f64().unwrap();
        let kept = outcome["phases"].as_array().unwrap().iter().filter(|phase| phase["kept"] == true);
        assert!(kept.map(|phase| phase["rollout_error"].as_f64().unwrap()).all(|error| error <= baseline));
    }
}

#[test]
fn every_objective_and_choice_of_phase_1_runs() {
    let place = place();
    place.succeeds(&["features", "--data", "images", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    let features = ["--features", "features.safetensors", "--set", "tune.distance=features"];
    let rollout = ["--loss", "rollout", "--set", "tune.trajectories=8"];
    let first =
        ["--set", "tune.lr_schedule=cosine", "--set", "tune.data_weight=0.5", "--set", "tune.step_weights=equal"];
    let on_features = [&rollout[..], &features, &first].concat();
    let critic = ["--set", "tune.critic_weight=0.1", "--set"];
    let by_step = [&rollout[..], &features, &critic, &["tune.gradient=step"]].concat();
    let last = ["tune.gradient=through", "--set", "tune.critic_of=data", "--set", "tune.xflip=true"];
    let by_data = [&rollout[..], &critic, &last].concat();
    let paper = |objective: &'static str| ["--method", "paper", "--set", objective];
    let shared = [&paper("paper.objective=discretization")[..], &["--set", "paper.noise=shared"]].concat();
    let joint = ["--set", "paper.gamma=0.5", "--set", "paper.scale=linear"];
    let joint = [&paper("paper.objective=joint")[..], &joint].concat();
    let adam = [&paper("paper.optimiser=adam")[..], &["--set", "early_stop=false"]].concat();
    let table = [&paper("paper.optimiser=table")[..], &["--rounds", "2"]].concat();
    let choices: [&[&str]; 10] = [
        &shared,
        &joint,
        &adam,
        &table,
        &["--loss", "edm"],
        &["--method", "bound/dpmpp2m", "--rounds", "2"],
        &["--rounds", "2", "--set", "early_stop=false"],
        &on_features,
        &by_step,
        &by_data,
    ];
    for (index, choice) in choices.iter().enumerate() {
        let out = format!("run-{index}");
        place.succeeds(&fit(&out, choice));
    }
    let plans: [&[&str]; 3] = [
        &["--method", "local/ipndm4"],
        &["--method", "least-squares+gauss-newton", "--set", "search.least_squares.robust=true"],
        &[
            "--method",
            "least-squares+rollout",
            "--features",
            "features.safetensors",
            "--set",
            "search.rollout.loss=features",
        ],
    ];
    for (index, choice) in plans.iter().enumerate() {
        let out = format!("plans-{index}");
        let first = ["plan", "model.safetensors", "--steps", "3,4", "--settings", "quick.toml", "--out", &out];
        place.succeeds(&[&first, *choice].concat());
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
    assert!(other.code == 1 && other.stderr.contains("rounds 2 (was 1)"), "{}", other.stderr);
}

/// Samples that are no images are fitted, measured and reported, and nothing of them is drawn.
#[test]
fn models_of_two_and_four_channels_are_fitted_whole() {
    let place = Place::new();
    for (channels, out) in [(2, "two"), (4, "four")] {
        place.save_model("latents.safetensors", channels, 0);
        let small =
            ["--set", "search.teacher.samples=8", "--set", "search.teacher.grid=7", "--set", "held_out.samples=4"];
        let tuning = ["--updates", "2", "--set", "tune.trajectories=8", "--set", "tune.batch=4"];
        let fit = [&["fit", "latents.safetensors", "--steps", "3", "--out", out][..], &small, &tuning].concat();
        let forecast = place.json(&[&fit[..], &["--dry-run"]].concat());
        let images = |part: &&serde_json::Value| part["what"] == "images of the report";
        let drawn = forecast["parts"].as_array().unwrap().iter().find(images).map(|part| part["evaluations"].clone());
        assert!(drawn.is_none_or(|drawn| drawn == 0), "{forecast}");
        place.succeeds(&fit);
        let page = std::fs::read_to_string(place.path(&format!("{out}/report.html"))).unwrap();
        assert!(page.contains("ollout error") && !page.contains("data:image/png"));
        let plan = format!("{out}/steps-003/plan.json");
        place.succeeds(&[
            "sample",
            "latents.safetensors",
            "--plan",
            &plan,
            "--seeds",
            "0-1",
            "--out",
            &format!("{out}.npz"),
        ]);
    }
}

/// A folder that a run cannot have is refused before feature networks and references are opened, which may have to see a whole data set.
#[test]
fn the_folder_is_looked_at_before_references_are_made() {
    let place = Place::new();
    for (folder, run) in [("full", "notes.txt"), ("other", "run.json")] {
        std::fs::create_dir(place.path(folder)).unwrap();
        std::fs::write(place.path(folder).join(run), r#"{ "kind": "train" }"#).unwrap();
    }
    let commands: [&[&str]; 3] = [
        &["fit", "gaussian-mixture"],
        &["compare", "gaussian-mixture", "--methods", "karras/euler"],
        &["reproduce", "gaussian-mixture", "--rows", "baseline"],
    ];
    for command in commands {
        let to = |out: &str, more: &[&str]| {
            let references = ["--ref", "none.npz", "--features", "none.safetensors", "--out", out];
            place.fails(&[command, &references, more].concat())
        };
        let error = to("full", &[]);
        assert!(error.contains("run folder full already holds files: pass --resume"), "{command:?}: {error}");
        for (out, says) in [("full", "not a run folder"), ("new", "not a run folder"), ("other", "`fewstep train`")] {
            let error = to(out, &["--resume"]);
            assert!(error.contains(says), "{command:?} {out}: {error}");
        }
        assert!(to("new", &[]).contains("none.safetensors"), "{command:?}");
    }
}
