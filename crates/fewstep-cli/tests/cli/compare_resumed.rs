//! `compare --resume`: what joins a comparison, what stays of it, and how the whole is repeated.

use crate::compare::place;
use crate::support::Place;

/// Several models share a table each, and a resumed run may name more of them.
#[test]
fn models_may_join() {
    let place = Place::new();
    let small = ["--methods", "karras/euler", "--steps", "3", "--images", "16", "--set", "held_out=4", "--out", "run"];
    let run = |models: &[&'static str], more: &[&'static str]| {
        place.run(&[&["compare", "--json"], models, &small[..], more].concat())
    };
    assert_eq!(run(&["gaussian-mixture"], &[]).code, 0);
    let both = ["gaussian-mixture", "gaussian-mixture-classes"];
    let rows: serde_json::Value = serde_json::from_str(&run(&both, &["--resume"]).stdout).unwrap();
    let models: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["model"].as_str().unwrap()).collect();
    assert_eq!(models, [both[0], both[0], both[1], both[1]]);
    let fewer = run(&both[..1], &["--resume"]);
    assert!(fewer.code == 1 && fewer.stderr.contains("it compares 2 models"), "{}", fewer.stderr);
    let twice = run(&[both[0], both[0]], &["--resume"]);
    assert!(twice.code == 1 && twice.stderr.contains("is there twice"), "{}", twice.stderr);
}

/// Cells that were found with training data stay where a later run names none, or names them by another file; and what the teacher cost is
/// written again where a run ended before it was.
#[test]
fn what_needed_data_stays_without() {
    let place = place();
    let run = |method: &str, data: &[&str]| {
        let small = ["--steps", "2", "--images", "4", "--set", "held_out=2", "--set", "table_images=4"];
        let few = ["--set", "search.teacher.samples=4", "--set", "teacher_steps=3"];
        let resume: &[&str] = if place.path("run").exists() { &["--resume"] } else { &[] };
        let own = ["compare", "model.safetensors", "--methods", method, "--out", "run"];
        let scored = ["--ref", "ref.npz", "--features", "features.safetensors"];
        let rows = place.json(&[&own[..], &scored, data, &small, &few, resume].concat());
        let rows = rows.as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap().to_owned());
        rows.collect::<Vec<_>>()
    };
    assert_eq!(run("bound/euler", &["--data", "data"]), ["teacher", "bound/euler"]);
    std::fs::rename(place.path("data"), place.path("renamed")).unwrap();
    assert_eq!(run("karras/euler", &[]), ["teacher", "bound/euler", "karras/euler"]);
    assert_eq!(run("oss/euler", &["--data", "renamed"]), ["teacher", "bound/euler", "karras/euler", "oss/euler"]);
    let file = format!("run/{}/teacher.json", place.folder_in("run"));
    let cost = place.read_json(&file);
    std::fs::remove_file(place.path(&file)).unwrap();
    assert_eq!(run("oss/ipndm2", &[]).len(), 5);
    let again = place.read_json(&file);
    assert_eq!((&again["evaluations"], again["seconds"].is_null()), (&cost["evaluations"], true), "{cost}");
}

/// What is searched anew for some numbers of evaluations alone leaves no cells of the earlier search beside them.
#[test]
fn a_row_has_cells_of_one_search_alone() {
    let place = Place::new();
    let own = ["compare", "gaussian-mixture", "--methods", "gits/euler", "--images", "16", "--out", "run"];
    let small = ["--set", "held_out=4", "--set", "search.teacher.samples=8"];
    let cells = |steps: &str, coefficient: &str, more: &[&str]| -> Vec<(u64, f64)> {
        let search = ["--steps", steps, "--set", coefficient];
        let rows = place.json(&[&own[..], &small, &search, more].concat());
        let rows = rows.as_array().unwrap().iter().skip(1);
        rows.map(|row| (row["nfe"].as_u64().unwrap(), row["rollout_error"].as_f64().unwrap())).collect()
    };
    let (before, after) = ("search.gits.coefficients=[3.0]", "search.gits.coefficients=[0.2]");
    let first = cells("3,4", before, &[]);
    let again = cells("3", before, &["--resume"]);
    assert_eq!((first.len(), &again), (2, &first), "with the same settings all stay");
    let anew = cells("3", after, &["--resume"]);
    assert_eq!((anew.len(), anew[0].0), (1, 3), "{anew:?}");
    assert_ne!(anew[0].1, first[0].1);
    let both = cells("4", after, &["--resume"]);
    assert_eq!((both.len(), both[0], both[1].0), (2, anew[0], 4), "{both:?}");
    // what an earlier revision of the search found is not taken for what this one finds
    let kept = place.path("run").join(place.folder_in("run")).join("gits-euler.found.json");
    let mut earlier: serde_json::Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    let revision = earlier.as_object_mut().unwrap().remove("search").unwrap();
    std::fs::write(&kept, earlier.to_string()).unwrap();
    cells("4", after, &["--resume"]);
    let found: serde_json::Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!((&found["search"], &found["steps"]), (&revision, &serde_json::json!([4])));
}

/// A plan whose samples are not finite is told of and has no scores; the comparison goes on, and is gone on with.
#[test]
fn a_sampler_that_diverges_ends_nothing() {
    let place = Place::new();
    let wild = r#"{"version": 1, "stages": [{"sigma": 20, "input": {"latent": 20}}], "output": {"latent": 3e38}}"#;
    std::fs::write(place.path("wild.json"), wild).unwrap();
    let own = ["compare", "gaussian-mixture", "--methods", "karras/euler", "--plans", "wild.json", "--out", "run"];
    let small = ["--images", "16", "--set", "held_out=4"];
    let run = place.run(&[&own[..], &small, &["--steps", "3"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("wild.json, 1 evaluations: its samples are not finite"), "{}", run.stderr);
    assert!(run.stdout.contains("(karras/euler)") && !run.stdout.contains("(wild.json)"), "{}", run.stdout);
    let rows = place.read_json("run/compare.json");
    let row = rows.as_array().unwrap().last().unwrap();
    assert_eq!((&row["method"], &row["nfe"]), (&"wild.json".into(), &1.into()));
    assert!(row["rollout_error"].is_null() && row["grid"].is_null(), "{row}");
    let score = &row["scores"][0];
    assert!(score["features"].is_string() && score["data"]["frechet"].as_array().unwrap().is_empty(), "{row}");
    let more = place.json(&[&own[..], &small, &["--steps", "3,4", "--resume"]].concat());
    assert_eq!((more.as_array().unwrap().len(), more.as_array().unwrap().last()), (4, Some(row)));
    place.succeeds(&["report", "run", "--out", "page.html"]);
    assert!(place.path("page.html").exists());
}

/// `run.json` says of a comparison that was gone on with how to make all of it, data and plans that only its first part had included.
#[test]
fn a_comparison_that_went_on_is_repeated_whole() {
    let place = place();
    let plan = r#"{"version": 1, "stages": [{"sigma": 20, "input": {"latent": 20}}], "output": {"d0": 1}}"#;
    std::fs::write(place.path("mine.json"), plan).unwrap();
    let cells = |rows: &serde_json::Value| -> Vec<(String, u64)> {
        let cell = |row: &serde_json::Value| (row["method"].as_str().unwrap().to_owned(), row["nfe"].as_u64().unwrap());
        rows.as_array().unwrap().iter().map(cell).collect()
    };
    let compare = |own: &[&str]| {
        let scored = ["--ref", "ref.npz", "--features", "features.safetensors", "--images=4", "--set", "held_out=2"];
        let few = ["--set", "search.teacher.samples=4", "--set", "teacher_steps=3", "--set", "table_images=4"];
        place.json(&[&["compare", "model.safetensors", "--out", "run"], &scored[..], &few, own].concat())
    };
    compare(&["--methods", "bound/euler", "--steps=3", "--plans", "mine.json", "--data", "data"]);
    compare(&["--methods=karras/euler", "--steps", "2", "--resume"]);
    compare(&["--methods", "karras/ipndm2", "--steps", "2", "--resume"]);
    let (run, rows) = (place.read_json("run/run.json"), place.read_json("run/compare.json"));
    let again = place.json(&["compare", "--config", "run", "--out", "again"]);
    assert_eq!(place.read_json("again/run.json")["task"], run["task"]);
    let again = cells(&again);
    assert_eq!(again.len(), 1 + 3 * 2 + 1, "{again:?}");
    assert!(cells(&rows).iter().all(|cell| again.contains(cell)), "{again:?}");
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(
        page.contains("--methods bound/euler,karras/euler,karras/ipndm2 --plans mine.json --steps 2,3 --data data")
    );
}

/// Coefficients whose products overflow are finite each: the plan is a plan, and what its outputs weigh is no number.
#[test]
fn a_plan_whose_weights_overflow_is_gone_on_with() {
    let place = Place::new();
    let wild = r#"{"version": 1, "stages": [{"sigma": 20, "input": {"latent": 20}}, {"sigma": 10, "input": {"d0": 1e200}}],
        "output": {"x1": 1e200, "d1": 1}}"#;
    std::fs::write(place.path("wild.json"), wild).unwrap();
    let own = ["compare", "gaussian-mixture", "--methods", "karras/euler", "--plans", "wild.json", "--out", "run"];
    let small = ["--steps", "2", "--images", "16", "--set", "held_out=4"];
    let rows = place.json(&[&own[..], &small].concat());
    assert!(rows[2]["weights"][0].is_null() && rows[2]["weights"][1] == 1.0, "{rows}");
    assert_eq!(place.json(&[&own[..], &small, &["--resume"]].concat()), rows);
    place.succeeds(&["report", "run", "--out", "page.html"]);
}
