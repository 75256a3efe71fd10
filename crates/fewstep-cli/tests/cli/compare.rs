//! `compare`: every method in one table, from one teacher, a cell at a time.

use serde_json::Value;

use crate::support::{Place, Run, testdata};

/// A tiny model, a feature network, and statistics of two-class images under it.
fn place() -> Place {
    let place = Place::with_model();
    place.save_images("data", 1, 8, 60);
    place.succeeds(&["features", "--data", "data", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "data", "--out", "ref.npz", "--features", "features.safetensors"]);
    place
}

const SMALL: [&str; 19] = [
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

/// A trained network and a program, which know the data by its images and by statistics.
#[test]
fn several_feature_networks_score_the_same_images() {
    let place = place();
    std::fs::copy(testdata("torchscript/average.pt"), place.path("average.pt")).unwrap();
    let compare = |features: &str, references: &str, out: &str| {
        let mut args = SMALL.map(str::to_owned);
        (args[3], args[5]) = (references.to_owned(), features.to_owned());
        let own = ["--methods", "karras/euler,karras/ipndm2", "--steps", "3,4", "--out", out].map(str::to_owned);
        let args: Vec<String> = args.into_iter().chain(own).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        place.run(&args)
    };
    let rows = |run: &Run| -> Vec<Value> { serde_json::from_str(&run.stdout).unwrap() };
    let both = compare("features.safetensors,average.pt@bytes", "data", "both");
    let alone = rows(&compare("features.safetensors", "ref.npz", "alone"));
    for (row, alone) in rows(&both).iter().zip(&alone) {
        let scores = row["scores"].as_array().unwrap();
        let names: Vec<&str> = scores.iter().map(|scores| scores["features"].as_str().unwrap()).collect();
        assert_eq!(names, ["small-cnn", "torchscript/average/bytes"]);
        for score in scores {
            for from in ["data", "teacher"] {
                let of = |kind: &str| score[from][kind][0].as_f64().unwrap();
                assert!(of("frechet") > 0.0 && of("kid").is_finite(), "{score}");
            }
        }
        assert_eq!(scores[0]["teacher"], alone["scores"][0]["teacher"], "alone or beside another");
        let [many, one] = [&scores[0], &alone["scores"][0]].map(|score| score["data"]["frechet"][0].as_f64().unwrap());
        assert!((many / one - 1.0).abs() < 1e-6 && alone["scores"][0]["data"]["kid"].as_array().unwrap().is_empty());
    }
    // what an earlier run made of the teacher's images is taken
    let typed = ["--features", "features.safetensors,average.pt@bytes"]; // a program is named again
    let again = ["compare", "model.safetensors", "--config", "both", "--resume", "--json"];
    let again = place.run(&[&again[..], &typed].concat());
    assert_eq!((rows(&again), again.stderr.contains("other seeds")), (rows(&both), false), "{}", again.stderr);
    let csv = std::fs::read_to_string(place.path("both/compare.csv")).unwrap();
    assert!(csv.contains("kid to teacher") && csv.lines().count() == 1 + 2 * rows(&both).len(), "{csv}");
    let page = std::fs::read_to_string(place.path("both/report.html")).unwrap();
    assert!(
        page.contains("ranks by KID to the teacher&#39;s images")
            || page.contains("ranks by KID to the teacher's images")
    );

    // without data the teacher's images are what there is
    let mut free: Vec<&str> = SMALL[..2].to_vec();
    free.extend(&SMALL[4..]);
    free.extend(["--methods", "karras/euler", "--steps", "3", "--out", "free"]);
    let free: Vec<Value> = serde_json::from_str(&place.succeeds(&free)).unwrap();
    let score = &free[1]["scores"][0];
    assert!(score["data"]["frechet"].as_array().unwrap().is_empty(), "{score}");
    assert_eq!(score["teacher"], alone[1]["scores"][0]["teacher"]);

    let error = compare("features.safetensors,average.pt@bytes", "ref.npz,ref.npz,ref.npz", "new").stderr;
    assert!(error.contains("there are 2 feature networks (--features) and 3 references (--ref)"), "{error}");
    let error = compare("average.pt", "data", "new").stderr;
    assert!(error.contains("average.pt@bytes") || error.contains("cannot be used as a feature network"), "{error}");
}

#[test]
fn ranges_of_seeds_may_join() {
    let place = place();
    let run = |methods: &str, ranges: &str, out: &str, more: &[&str]| {
        let own = ["--methods", methods, "--steps", "3", "--out", out, "--set", ranges];
        place.run(&[&SMALL[..], &own, more].concat())
    };
    let of = |run: &Run| -> Vec<Value> {
        let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
        rows.iter().map(|row| row["scores"].clone()).collect()
    };
    let one = of(&run("karras/euler,karras/ipndm2", "ranges=1", "grown", &[]));
    // the cells of a method that is not named again stay as they are
    let grown = of(&run("karras/euler", "ranges=3", "grown", &["--resume"]));
    assert_eq!(grown[2], one[2]);
    let whole = of(&run("karras/euler,karras/ipndm2", "ranges=3", "whole", &[]));
    assert_eq!(grown[..2], whole[..2]);
    assert_eq!(whole[1][0]["teacher"]["kid"].as_array().unwrap().len(), 3);
    let page = std::fs::read_to_string(place.path("grown/report.html")).unwrap();
    assert!(page.contains("1 to 3 ranges of"), "{page}");
    let error = run("karras/euler", "ranges=2", "grown", &["--resume"]).stderr;
    assert!(error.contains("it scores 3 ranges of seeds: ranges can be more, not 2"), "{error}");
}

#[test]
fn misfits_are_one_sentence() {
    let place = place();
    for (args, says) in [
        (vec!["compare", "model.safetensors", "--out", "new"], "--ref"),
        (vec!["compare", "--out", "new"], "<MODEL>"),
        (vec!["compare", "fashion-mnist", "--methods", "gats", "--out", "new"], "no method named 'gats'"),
        (vec!["compare", "fashion-mnist", "--images", "1", "--out", "new"], "images must be at least 2"),
        (vec!["compare", "fashion-mnist", "--steps", "0", "--out", "new"], "steps must be"),
        (vec!["compare", "fashion-mnist", "--set", "held_out=0", "--out", "new"], "held_out must be at least 1"),
        (vec!["compare", "fashion-mnist", "--set", "search.beem=1", "--out", "new"], "beem"),
    ] {
        let run = place.run(&args);
        assert!(run.code != 0 && run.stderr.contains(says), "{args:?}: {}", run.stderr);
    }
    let printed = place.succeeds(&["compare", "model.safetensors", "--out", "new", "--print-settings"]);
    assert!(printed.contains("[search.teacher]") && !place.path("new").exists(), "{printed}");
    for method in ["bound", "karras+data-moments"] {
        let own = ["--methods", method, "--steps", "3", "--out", "new"];
        let run = place.run(&[&SMALL[..], &own].concat());
        assert!(run.code == 1 && run.stderr.contains("--data"), "{method}: {}", run.stderr);
    }
}

#[test]
fn settings_of_methods_that_are_not_compared_are_refused() {
    let place = Place::new();
    let compare =
        |set| place.fails(&["compare", "gaussian-mixture", "--methods", "karras/euler", "--out", "run", "--set", set]);
    for idle in ["search.gits.metric=l1", "search.gauss_newton.least_gain=0.1"] {
        let name = idle.split('=').next().unwrap();
        let error = compare(idle);
        assert!(error.contains(&format!("the setting {name} is for methods that have such a stage")), "{error}");
    }
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

/// What no model could be compared by is refused before feature networks and references are opened, which may take hours.
#[test]
fn settings_steps_and_methods_are_checked_before_references() {
    let place = Place::new();
    let own = ["compare", "gaussian-mixture", "--ref", "none.npz", "--features", "none.safetensors", "--out", "new"];
    for (args, says) in [
        (&["--images", "1"][..], "images must be at least 2"),
        (&["--steps", "0"], "the steps must be numbers of at least 1"),
        (&["--methods", "karras/heun", "--steps", "4"], "odd numbers of evaluations"),
        (&["--methods", "karras/euler,karras/euler"], "not the only row of that name"),
        (&["--methods", "karras/euler", "--set", "search.gits.metric=l1"], "search.gits.metric is for methods"),
    ] {
        let error = place.fails(&[&own[..], args].concat());
        assert!(error.contains(says), "{args:?}: {error}");
    }
}
