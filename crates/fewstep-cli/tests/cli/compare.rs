//! `compare`: every method in one table, from one teacher, a cell at a time.

use crate::support::Place;

/// A tiny model, a feature network, and statistics of two-class images under it.
fn place() -> Place {
    let place = Place::with_model();
    place.save_images("data", 1, 8, 60);
    place.succeeds(&["features", "--data", "data", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "data", "--out", "ref.npz", "--features", "features.safetensors"]);
    place
}

const SMALL: [&str; 18] = [
    "compare",
    "--model",
    "model.safetensors",
    "--ref",
    "ref.npz",
    "--features",
    "features.safetensors",
    "--images",
    "6",
    "--held-out",
    "3",
    "--search-samples",
    "4",
    "--search-grid",
    "7",
    "--teacher-steps",
    "3",
    "--json",
];

#[test]
fn every_search_fills_its_cells_and_a_second_run_takes_them_as_they_are() {
    let place = place();
    let methods = "least-squares,karras/ipndm4,local/euler,local@1.1/dpmpp3m,reachable/dpmpp2m_nolof,reachable/unipc3_bh2,\
                   karras/heun,bound,least-squares+rollout,karras/dpmpp2m+rollout,\
                   least-squares+gauss-newton+moments,reachable/euler+data-moments";
    let args = |more: &[&'static str]| {
        let own = [
            "--methods",
            methods,
            "--gauss-newton-rounds",
            "1",
            "--rollout-steps",
            "3",
            "--data",
            "data",
            "--table-images",
            "4",
            "--seed-ranges",
            "2",
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
    // the teacher; twelve methods at two numbers of evaluations, of which Heun makes odd ones alone
    assert_eq!(rows.len(), 1 + 12 * 2 - 1);
    assert_eq!((&rows[0]["method"], &rows[0]["nfe"]), (&"teacher".into(), &5.into()));
    for row in rows {
        assert!(row["frechet"].as_array().unwrap().iter().all(|value| value.as_f64().unwrap() > 0.0), "{row}");
        assert!(row["rollout_error"].as_f64().unwrap() >= 0.0);
        let method = row["method"].as_str().unwrap();
        let blind = ["teacher", "karras/ipndm4", "karras/heun", "bound/euler"].contains(&method);
        assert_eq!(row["seen_error"].is_null(), blind, "{row}");
        let plan = place.json(&["info", &format!("run/{}", row["plan"].as_str().unwrap())]);
        assert_eq!(plan[0]["nfe"], row["nfe"], "{row}");
        assert!(place.path("run").join(row["grid"].as_str().unwrap()).exists());
    }
    for file in ["compare.csv", "compare.json", "report.html", "run.json"] {
        assert!(place.path("run").join(file).exists(), "{file}");
    }
    let csv = std::fs::read_to_string(place.path("run/compare.csv")).unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);

    let more = run(args(&["--steps", "3,4,5", "--resume"]));
    let more = more.as_array().unwrap();
    assert_eq!(more.len(), rows.len() + 12);
    for row in rows {
        let same = more.iter().find(|other| other["method"] == row["method"] && other["nfe"] == row["nfe"]).unwrap();
        assert_eq!(same["seconds_per_image"], row["seconds_per_image"], "{row} was measured twice");
    }
    let own = ["--methods", "karras", "--steps", "3", "--out", "run", "--resume", "--first-seed", "9"];
    let other = place.run(&[&SMALL[..], &own].concat());
    assert!(other.code == 1 && other.stderr.contains("started with other models"), "{}", other.stderr);
}

#[test]
fn a_fitted_plan_is_nearer_to_the_teacher_than_rho_7() {
    let place = place();
    let own = ["--methods", "least-squares,karras/euler", "--steps", "3", "--out", "run"];
    let rows: serde_json::Value = serde_json::from_str(&place.succeeds(&[&SMALL[..], &own].concat())).unwrap();
    let error = |index: usize| rows[index]["rollout_error"].as_f64().unwrap();
    assert!(error(1) < 0.5 * error(2), "{rows}");

    // with another option of the search, what depends on it is measured anew, and nothing else
    let own = ["--methods", "least-squares,karras/euler", "--steps", "3", "--out", "run", "--resume", "--ridge", "0.5"];
    let other: serde_json::Value = serde_json::from_str(&place.succeeds(&[&SMALL[..], &own].concat())).unwrap();
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
    let other = joined("other", "karras/ipndm2+data-moments");
    assert!(other.code == 1 && other.stderr.contains("started with other models"), "{}", other.stderr);
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
    for same in ["rollout_error", "frechet", "sigmas"] {
        assert_eq!(rows[2][same], rows[1][same]);
        assert_eq!(rows[3][same], rows[4][same]);
    }
    assert!(rows[2]["seen_error"].is_null());
    for (plans, says) in
        [("data", "holds no plans"), ("none.json", "does not exist"), ("found,found", "not the only row")]
    {
        let run = place.run(&[&SMALL[..], &["--methods", "karras", "--out", "third", "--plans", plans]].concat());
        assert!(run.code == 1 && run.stderr.contains(says), "{plans}: {}", run.stderr);
    }
}

#[test]
fn misfits_are_one_sentence() {
    let place = place();
    for (args, says) in [
        (vec!["compare", "--model", "model.safetensors", "--out", "new"], "--ref"),
        (vec!["compare", "--methods", "gits", "--out", "new"], "no method 'gits'"),
        (vec!["compare", "--images", "1", "--out", "new"], "--images"),
        (vec!["compare", "--steps", "0", "--out", "new"], "--steps"),
    ] {
        let run = place.run(&args);
        assert!(run.code != 0 && run.stderr.contains(says), "{args:?}: {}", run.stderr);
    }
    for method in ["bound", "karras+data-moments"] {
        let own = ["--methods", method, "--steps", "3", "--out", "new"];
        let run = place.run(&[&SMALL[..], &own].concat());
        assert!(run.code == 1 && run.stderr.contains("--data"), "{method}: {}", run.stderr);
    }
}
