//! `reproduce`: the paper's experiments on the exact mixture, whose training images are sampled first.

use crate::support::Place;

/// Training images of the mixture.
fn place() -> Place {
    let place = Place::new();
    let seeds = ["--seeds", "5000-5255", "--steps", "12"];
    place.succeeds(&[&["sample", "--model", "gaussian-mixture", "--out", "data.npz"], &seeds[..]].concat());
    place
}

const SMALL: [&str; 20] = [
    "--model",
    "gaussian-mixture",
    "--data",
    "data.npz",
    "--images",
    "64",
    "--seed-ranges",
    "2",
    "--phase1-updates",
    "6",
    "--updates",
    "4",
    "--trajectories",
    "32",
    "--batch",
    "8",
    "--held-out",
    "64",
    "--out",
    "run",
];

fn reproduce(what: &'static str, rest: &[&'static str]) -> Vec<&'static str> {
    [&["reproduce", what], &SMALL[..], rest].concat()
}

#[test]
fn table_1_has_every_cell_and_goes_on_where_it_stopped() {
    let place = place();
    let rows = place.json(&reproduce("table1", &["--steps", "3"]));
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap()).collect();
    let paper = ["teacher", "baseline", "stage 1: levels", "stage 2: network", "original weights", "both stages"];
    assert_eq!(names, paper);
    for row in rows.as_array().unwrap() {
        assert_eq!(row["frechet"].as_array().unwrap().len(), 2);
    }
    // both stages start from the levels of the first
    assert_eq!(rows[2]["sigmas"], rows[5]["sigmas"]);
    assert_ne!(rows[1]["sigmas"], rows[2]["sigmas"]);
    assert_ne!(rows[1]["frechet"], rows[3]["frechet"], "stage 2 changed the network");
    let markdown = std::fs::read_to_string(place.path("run/table1.md")).unwrap();
    assert!(markdown.contains("| both stages |") && markdown.contains("3 steps"), "{markdown}");
    let csv = std::fs::read_to_string(place.path("run/table1.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 6 * 2);

    let more = place.json(&reproduce("table1", &["--steps", "3,4", "--ours", "--resume"]));
    let more = more.as_array().unwrap();
    assert_eq!(more.len(), 1 + 2 * 7);
    for row in rows.as_array().unwrap() {
        assert!(more.contains(row), "{row} was measured twice");
    }
    let value = |method: &str| more.iter().find(|row| row["method"] == method && row["nfe"] == 3).unwrap();
    let error = |method: &str| value(method)["rollout_error"].as_f64().unwrap();
    assert!(error("our plan") < 0.5 * error("baseline"), "{} {}", error("our plan"), error("baseline"));
    let files = place.list("run");
    for file in ["fig2.svg", "fig3-003.svg", "fig4-004-weights.svg", "report.html", "reproduce.json", "table1.md"] {
        assert!(files.contains(&file.to_owned()), "{file}: {files:?}");
    }
    place.succeeds(&["report", "run", "--out", "again.html"]);
    let other = place.run(&reproduce("table1", &["--steps", "3", "--gamma", "2", "--resume"]));
    assert!(other.code == 1 && other.stderr.contains("other settings"), "{}", other.stderr);
}

#[test]
fn rows_can_be_asked_for_alone() {
    let place = place();
    let asked = ["--steps", "3", "--rows", "ours-tuned,baseline", "--rollout-updates", "2", "--rollout-batch", "6"];
    let asked =
        [&asked[..], &["--rollout-critic", "0.1", "--settling-images", "64", "--search-samples", "48"]].concat();
    let rows = place.json(&reproduce("table1", &asked));
    let names = |rows: &serde_json::Value| -> Vec<String> {
        rows.as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&rows), ["teacher", "baseline", "our plan, rollout tuning"]);
    // no levels were learned, and nothing is drawn of them
    let files = place.list("run");
    assert!(files.contains(&"fig2.svg".to_owned()) && !files.contains(&"fig3-003.svg".to_owned()), "{files:?}");
    let run = std::fs::read_to_string(place.path("run/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let settings = &run["task"]["settings"];
    assert_eq!((&settings["rollout"]["batch"], &settings["fit"]["phase2"]["batch"]), (&6.into(), &8.into()));
    assert_eq!(settings["rollout"]["tune"]["iterations"], 2);
    let loss = &settings["rollout"]["weights"]["rollout"];
    assert_eq!((&loss["critic"], &loss["critic_of"]), (&0.1.into(), &"data".into()));
    assert_eq!(settings["search"], "least-squares+gauss-newton+data-moments");
    assert_eq!(settings["fit"]["search"]["gauss_newton"]["samples"], 24);
    // which network between the one as it came and the tuned one was taken
    let between = std::fs::read_to_string(place.path("run/cells/our-plan--rollout-tuning-003.between.json")).unwrap();
    let between: serde_json::Value = serde_json::from_str(&between).unwrap();
    assert_eq!(between.as_array().unwrap().len(), 5);
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("On the way to the tuned network"));
    // a row that is asked for later; the teacher is measured once
    let more = place.json(&reproduce("table1", &[&asked[..2], &asked[4..], &["--rows", "ours", "--resume"]].concat()));
    assert_eq!(names(&more), ["teacher", "our plan"]);
    // the plan of the tuning, though the search was not run again
    let plan = |name: &str| {
        let plan = std::fs::read_to_string(place.path("run/cells").join(name)).unwrap();
        serde_json::from_str::<serde_json::Value>(&plan).unwrap()
    };
    assert_eq!(plan("our-plan-003.plan.json")["stages"], plan("our-plan--rollout-tuning-003.plan.json")["stages"]);
    assert_eq!(more[0], rows[0]);
    let cost = place.json(&reproduce("table1", &[&asked[..], &["--dry-run"]].concat()));
    let parts: Vec<&str> =
        cost["parts"].as_array().unwrap().iter().map(|part| part["what"].as_str().unwrap()).collect();
    assert!(parts.contains(&"our tuning") && !parts.iter().any(|part| part.starts_with("stage")), "{parts:?}");
    let error = place.fails(&reproduce("fig3", &["--steps", "3", "--rows", "ours"]));
    assert!(error.contains("--rows is for fig2 and table1"), "{error}");
    let error = place.fails(&reproduce("table1", &["--rollout-critic", "0", "--rollout-critic-of", "data"]));
    assert!(error.contains("give it a weight with --rollout-critic"), "{error}");
    for (option, value) in [
        ("--rollout-batch", "0"),
        ("--rollout-critic", "inf"),
        ("--settling-images", "1"),
        ("--search-samples", "1"),
        ("--search", "bound/euler"),
    ] {
        let error = place.fails(&reproduce("table1", &[option, value]));
        assert!(error.contains(option), "{error}");
    }
}

#[test]
fn figures_of_the_levels_need_no_images() {
    let place = place();
    let text = place.succeeds(&reproduce("fig3", &["--steps", "4"]));
    assert!(text.starts_with("Levels learned for 4 steps."), "{text}");
    assert!(!place.list("run").contains(&"fig2.svg".to_owned()));
    let cost = place.json(&[
        "reproduce",
        "fig2",
        "--data",
        "data.npz",
        "--model",
        "gaussian-mixture",
        "--out",
        "x",
        "--dry-run",
    ]);
    let parts: Vec<&str> =
        cost["parts"].as_array().unwrap().iter().map(|part| part["what"].as_str().unwrap()).collect();
    assert!(parts.contains(&"stage 2") && parts.contains(&"images of 2 methods"), "{parts:?}");
    let error = place.fails(&["reproduce", "table1", "--data", "data.npz", "--out", "x", "--steps", "1"]);
    assert!(error.contains("--steps"), "{error}");
    place.save_model("model.safetensors", 1, 0);
    let error =
        place.fails(&["reproduce", "table1", "--data", "data.npz", "--out", "x", "--model", "model.safetensors"]);
    assert!(error.contains("--ref") && error.contains("--features"), "{error}");
}

#[test]
fn every_objective_is_followed_down() {
    let place = place();
    place.succeeds(&reproduce("objectives", &["--steps", "4"]));
    let files = place.list("run");
    for file in ["objectives-004-loss.svg", "objectives-004-error.svg", "objectives-004-levels.svg"] {
        assert!(files.contains(&file.to_owned()), "{files:?}");
    }
    let drawn = std::fs::read_to_string(place.path("run/figures.json")).unwrap();
    let drawn: serde_json::Value = serde_json::from_str(&drawn).unwrap();
    let descents = drawn["descents"].as_array().unwrap();
    assert_eq!(descents.len(), 4);
    for descent in descents {
        assert_eq!(descent["loss"].as_array().unwrap().len(), 6);
        assert_eq!(descent["sigmas"].as_array().unwrap().len(), 4);
    }
    assert_ne!(descents[0]["sigmas"], descents[2]["sigmas"]);
}
