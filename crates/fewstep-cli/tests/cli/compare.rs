//! `compare`: every method in one table, from one teacher, a cell at a time.

use crate::support::{Place, testdata};

/// A tiny model, a feature network, and statistics of two-class images under it.
pub fn place() -> Place {
    let place = Place::with_model();
    place.save_images("data", 1, 8, 60);
    place.succeeds(&["features", "--data", "data", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "data", "--out", "ref.npz", "--features", "features.safetensors"]);
    place
}

/// Options of a comparison of seconds on that place.
pub const SMALL: [&str; 19] = [
    "compare",
    "model.safetensors",
    "--ref",
    "ref.npz",
    "--features",
    "features.safetensors",
    "--images",
    "6",
    "--set",
    "held_out=3",
    "--set",
    "search.teacher.samples=4",
    "--set",
    "search.teacher.grid=7",
    "--set",
    "teacher_steps=3",
    "--set",
    "table_images=4",
    "--json",
];

#[test]
fn every_search_fills_its_cells_and_a_second_run_takes_them_as_they_are() {
    let place = place();
    let methods = "least-squares,karras/ipndm4,local/euler,local@1.1/dpmpp3m,reachable/dpmpp2m_nolof,reachable/unipc3_bh2,\
                   karras/heun,bound,least-squares+rollout,karras/dpmpp2m+rollout,karras/euler+levels,\
                   least-squares+gauss-newton+moments,reachable/euler+data-moments";
    let args = |more: &[&'static str]| {
        let own = [
            "--methods",
            methods,
            "--set",
            "search.rollout.steps=3",
            "--set",
            "search.gits={samples=4,grid=7}",
            "--data",
            "data",
            "--set",
            "ranges=2",
            "--out",
            "run",
        ];
        [&SMALL[..], &own, more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |args: Vec<String>| -> serde_json::Value {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        serde_json::from_str(&place.succeeds(&args)).unwrap()
    };
    let rows = run(args(&["--steps", "3,4"]));
    let rows = rows.as_array().unwrap();
    // the teacher; thirteen methods at two numbers of evaluations, of which Heun makes odd ones alone
    assert_eq!(rows.len(), 1 + 13 * 2 - 1);
    assert_eq!((&rows[0]["method"], &rows[0]["nfe"]), (&"teacher".into(), &5.into()));
    for row in rows {
        for distances in ["data", "teacher"].map(|from| &row["scores"][0][from]["frechet"]) {
            let distances = distances.as_array().unwrap();
            assert!(distances.len() == 2 && distances.iter().all(|value| value.as_f64().unwrap() > 0.0), "{row}");
        }
        assert!(row["rollout_error"].as_f64().unwrap() >= 0.0);
        let method = row["method"].as_str().unwrap();
        let blind = ["teacher", "karras/ipndm4", "karras/heun", "bound/euler"].contains(&method);
        assert_eq!(row["training_error"].is_null(), blind, "{row}");
        let plan = place.read_json(&format!("run/{}", row["plan"].as_str().unwrap()));
        assert_eq!(plan["nfe"], row["nfe"], "{row}");
        assert!(place.path("run").join(row["grid"].as_str().unwrap()).exists());
    }
    let named = |method: &str| rows.iter().any(|row| row["method"] == method);
    assert!(named("gits/euler") && named("gits@1.1/dpmpp3m") && named("oss/unipc3_bh2"), "older names are read");
    for file in ["compare.csv", "compare.json", "report.html", "run.json"] {
        assert!(place.path("run").join(file).exists(), "{file}");
    }
    let csv = std::fs::read_to_string(place.path("run/compare.csv")).unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);

    let more = run(args(&["--steps", "3,4,5", "--resume"]));
    let more = more.as_array().unwrap();
    assert_eq!(more.len(), rows.len() + 13);
    for row in rows {
        let same = more.iter().find(|other| other["method"] == row["method"] && other["nfe"] == row["nfe"]).unwrap();
        assert_eq!(same["seconds_per_image"], row["seconds_per_image"], "{row} was measured twice");
    }
    let own = ["--methods", "karras", "--steps", "3", "--out", "run", "--resume"];
    let same = ["--data", "data", "--set", "ranges=2"];
    for (what, says) in [
        ("first_seed=9", "first_seed 9 (was 0)"),
        ("search.teacher.grid=8", "search.teacher.grid 8 (was 7)"),
        ("ranges=1", "ranges can be more, not 1"),
    ] {
        let other = place.run(&[&SMALL[..], &own, &same, &["--set", what]].concat());
        assert!(other.code == 1 && other.stderr.contains(says), "{what}: {}", other.stderr);
    }
    place.save_model("other.safetensors", 1, 2);
    let mut other = [&SMALL[..], &own, &same].concat();
    other[1] = "other.safetensors";
    let other = place.run(&other);
    assert!(other.code == 1 && other.stderr.contains("stands where model.safetensors stood"), "{}", other.stderr);
}

#[test]
fn a_fitted_plan_is_nearer_to_the_teacher_than_rho_7() {
    let place = place();
    let own = ["--methods", "least-squares,karras/euler", "--steps", "3", "--out", "run"];
    let rows: serde_json::Value = serde_json::from_str(&place.succeeds(&[&SMALL[..], &own].concat())).unwrap();
    let error = |index: usize| rows[index]["rollout_error"].as_f64().unwrap();
    assert!(error(1) < 0.5 * error(2), "{rows}");

    // with another option of the search, what depends on it is measured anew, and nothing else
    let own = ["--methods", "least-squares,karras/euler", "--steps", "3", "--out", "run", "--resume"];
    let ridge = ["--set", "search.least_squares.ridge=0.5"];
    let other: serde_json::Value = serde_json::from_str(&place.succeeds(&[&SMALL[..], &own, &ridge].concat())).unwrap();
    assert_ne!(other[1]["rollout_error"], rows[1]["rollout_error"], "{other}");
    assert_eq!(other[2], rows[2]);
    let plan = std::fs::read_to_string(place.path("run").join(other[1]["plan"].as_str().unwrap())).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&plan).unwrap()["metadata"]["found_by"]["ridge"], 0.5);

    // methods that look at images may join later, and further images are then another comparison
    place.save_images("other", 1, 8, 20);
    let joined = |data: &'static str, method: &'static str| {
        let own = ["--methods", method, "--steps", "3", "--out", "run", "--resume", "--data", data];
        place.run(&[&SMALL[..], &own].concat())
    };
    assert_eq!(joined("data", "karras/euler+data-moments").code, 0);
    // what stood in the folder stays in its tables, but for what was found by other settings
    let methods = |rows: &serde_json::Value| -> Vec<String> {
        rows.as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap().to_owned()).collect()
    };
    let all = place.read_json("run/compare.json");
    assert_eq!(methods(&all), ["teacher", "karras/euler", "karras/euler+data-moments"]);
    assert_eq!(all[1], rows[2]);
    let other = joined("other", "karras/ipndm2+data-moments");
    assert!(other.code == 1 && other.stderr.contains("training data"), "{}", other.stderr);
    assert_eq!(joined("other", "karras/ipndm2").code, 0);
    let other = joined("other", "karras/ipndm2+data-moments");
    assert_eq!(other.code, 1, "the first images' cells are still there: {}", other.stderr);
}

/// Plans from files have rows of their own, and are what they were when they were found.
#[test]
fn plans_from_files_stand_beside_methods() {
    let place = place();
    let run = |more: &[&str]| -> serde_json::Value {
        serde_json::from_str(&place.succeeds(&[&SMALL[..], &["--methods", "karras/ipndm2"], more].concat())).unwrap()
    };
    let rows = run(&["--steps", "3,4", "--out", "first"]);
    for nfe in [3, 4] {
        let folder = place.path(&format!("found/steps-00{nfe}"));
        std::fs::create_dir_all(&folder).unwrap();
        let plan = rows[nfe - 2]["plan"].as_str().unwrap();
        std::fs::copy(place.path("first").join(plan), folder.join("plan.json")).unwrap();
    }
    let rows = run(&["--steps", "3", "--out", "second", "--plans", "found,found/steps-004/plan.json"]);
    let rows = rows.as_array().unwrap();
    let names: Vec<(&str, u64)> =
        rows.iter().map(|row| (row["method"].as_str().unwrap(), row["nfe"].as_u64().unwrap())).collect();
    let file = "found/steps-004/plan.json";
    assert_eq!(names, [("teacher", 5), ("karras/ipndm2", 3), ("found", 3), ("found", 4), (file, 4)]);
    for same in ["rollout_error", "scores", "sigmas"] {
        assert_eq!(rows[2][same], rows[1][same]);
        assert_eq!(rows[3][same], rows[4][same]);
    }
    assert!(rows[2]["training_error"].is_null());
    for (plans, says) in
        [("data", "holds no plans"), ("none.json", "does not exist"), ("found,found", "not the only row")]
    {
        let run = place.run(&[&SMALL[..], &["--methods", "karras", "--out", "third", "--plans", plans]].concat());
        assert!(run.code == 1 && run.stderr.contains(says), "{plans}: {}", run.stderr);
    }
}

/// A model whose samples are no images has no distances, and nothing of them is shown.
#[test]
fn latents_are_compared_by_rollout_errors_alone() {
    let place = Place::new();
    place.save_model("latents.safetensors", 4, 0);
    let small = ["--set", "held_out=3", "--set", "search.teacher.samples=4", "--set", "search.teacher.grid=7"];
    let own = ["compare", "latents.safetensors", "--methods", "least-squares+moments,karras/euler", "--steps", "3"];
    let run = place.run(&[&own[..], &small, &["--out", "run"]].concat());
    assert!(run.code == 0 && run.stderr.contains("compared by rollout errors alone"), "{}", run.stderr);
    assert!(!run.stdout.contains("Frechet") && run.stdout.contains("least rollout error"), "{}", run.stdout);
    let rows = place.read_json("run/compare.json");
    for row in rows.as_array().unwrap() {
        assert!(row["scores"].as_array().unwrap().is_empty() && row["grid"].is_null(), "{row}");
        assert!(row["rollout_error"].as_f64().unwrap() > 0.0 && row["seconds_per_image"].as_f64().unwrap() > 0.0);
    }
    assert!(rows[1]["rollout_error"].as_f64() < rows[2]["rollout_error"].as_f64(), "{rows}");
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("Rollout error") && !page.contains("data:image/png") && !page.contains("Frechet distance"));
    let run = place.run(&[&own[..], &small, &["--out", "run", "--resume", "--json"]].concat());
    assert_eq!(serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap(), rows);
    let matched = ["--methods", "karras+data-moments", "--data", "data", "--out", "new"];
    place.save_images("data", 1, 8, 12);
    let run = place.run(&[&["compare", "latents.safetensors"], &small[..], &matched].concat());
    assert!(run.code == 1 && run.stderr.contains("no images"), "{}", run.stderr);
}

/// Under guidance an evaluation is two network calls: cells, tables and the forecast say so.
#[test]
fn guidance_counts_twice() {
    let place = Place::new();
    let own = ["compare", "gaussian-mixture-classes", "--guidance", "1.5", "--methods", "karras/euler,oss/euler"];
    let small = ["--steps", "3", "--images", "16", "--set", "held_out=4", "--set", "search.teacher.samples=8"];
    let cost = place.json(&[&own[..], &small, &["--out", "run", "--dry-run"]].concat());
    assert_eq!(cost["network_calls"].as_u64(), cost["evaluations"].as_u64().map(|evaluations| 2 * evaluations));
    let text = place.succeeds(&[&own[..], &small, &["--out", "run"]].concat());
    for words in ["3 (6 calls)", "search calls", "35 evaluations (70 network calls)"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let rows = place.read_json("run/compare.json");
    assert!(rows.as_array().unwrap().iter().all(|row| row["calls"].as_u64() == row["nfe"].as_u64().map(|n| 2 * n)));
    let task = place.read_json("run/run.json");
    assert_eq!(task["task"]["models"][0]["model"]["guidance"]["weight"], 1.5);
    let mut other = [&own[..], &small, &["--out", "run", "--resume"]].concat();
    other[3] = "2";
    let other = place.run(&other);
    assert!(other.code == 1 && other.stderr.contains("another file, precision or guidance"), "{}", other.stderr);
}

/// The search that is run for the forecast asks as often as the real one, but for choices that hang on answers.
#[test]
fn the_forecast_is_near_what_searches_take() {
    let place = Place::new();
    let methods =
        ["karras/euler", "gits/ipndm4", "gits@1.1/euler", "oss/ipndm4", "least-squares", "karras/heun+rollout"];
    let list = methods.join(",");
    let own = ["compare", "gaussian-mixture", "--methods", &list, "--steps", "3,5,8", "--images", "2", "--out", "run"];
    let small = ["--set", "held_out=2", "--set", "search.teacher.samples=8", "--set", "search.rollout.steps=3"];
    let cost = place.json(&[&own[..], &small, &["--dry-run"]].concat());
    assert!(!place.path("run").exists());
    let rows = place.json(&[&own[..], &small].concat());
    let taken = |method: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["method"] == method).unwrap();
        row["search_evaluations"].as_u64().unwrap()
    };
    let part = |what: &str| {
        let part = cost["parts"].as_array().unwrap().iter().find(|part| part["what"] == what);
        part.map_or(0, |part| part["evaluations"].as_u64().unwrap())
    };
    for method in methods {
        let (forecast, taken) = (part(&format!("search {method}")), taken(method));
        assert!(2 * forecast >= taken && forecast <= 2 * taken, "{method}: {forecast} {taken}");
    }
    let teacher = place.read_json(&format!("run/{}/teacher.json", place.folder_in("run")));
    assert_eq!(teacher["evaluations"].as_u64(), Some(part("the searches' teacher")));
}

/// The default methods are those that a model allows: of samples that are no images nothing is matched that images have.
#[test]
fn the_default_methods_fit_the_model() {
    let place = Place::new();
    for file in ["vector.pt", "vector.json"] {
        std::fs::copy(testdata(&format!("torchscript/{file}")), place.path(file)).unwrap();
    }
    let small = ["--set", "held_out=4", "--set", "search.teacher.samples=4", "--set", "search.teacher.grid=7"];
    let gits = ["--set", "search.gits={samples=4,grid=7}"];
    let own = ["compare", "vector.pt", "--trust", "--steps", "3", "--out"];
    let run = place.run(&[&own[..], &["run"], &small, &gits].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let said = "the default methods without +moments, which is of images: the samples of vector.pt are none";
    assert_eq!(run.stderr.lines().filter(|line| line.contains(said)).count(), 1, "{}", run.stderr);
    let rows = place.read_json("run/compare.json");
    let methods: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(methods[..3], ["teacher", "least-squares+gauss-newton", "least-squares"]);
    assert_eq!(methods.len(), 1 + 14, "{methods:?}");
    // what was asked for by name is refused
    let error = place.fails(&[&own[..], &["new", "--methods", "least-squares+moments"]].concat());
    assert!(error.contains("images"), "{error}");
    let idle = ["new", "--set", "search.moments.error_weight=2"];
    let run = place.run(&[&own[..], &idle].concat());
    assert!(run.code == 1 && run.stderr.contains("it changes nothing here"), "{}", run.stderr);
    assert!(!place.path("new").exists());
}
