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
    assert!(markdown.contains("- seeds: 0 to 63, 64 to 127") && markdown.contains("\"learning_rate\""), "{markdown}");
    let csv = std::fs::read_to_string(place.path("run/table1.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 6 * 2);
    assert!(csv.lines().any(|line| line.starts_with("baseline,3,64,127,")), "{csv}");
    let table = place.read_json("run/table1.json");
    assert_eq!(table["rows"], rows);
    assert_eq!(table["run"]["task"]["settings"]["fit"]["phase2"]["batch"], 8);

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
    let drawn = place.read_json("run/figures.json");
    let lines: Vec<&str> =
        drawn["learning"].as_array().unwrap().iter().map(|line| line["method"].as_str().unwrap()).collect();
    assert_eq!(lines, [&paper[2..], &["our plan, rollout tuning"]].concat().repeat(2));
    for file in [
        "fig2.svg",
        "fig3-003.svg",
        "fig4-004-weights.svg",
        "learning-004.svg",
        "report.html",
        "reproduce.json",
        "table1.md",
    ] {
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
    let run = place.read_json("run/run.json");
    let settings = &run["task"]["settings"];
    assert_eq!((&settings["rollout"]["batch"], &settings["fit"]["phase2"]["batch"]), (&6.into(), &8.into()));
    assert_eq!(settings["rollout"]["tune"]["iterations"], 2);
    let loss = &settings["rollout"]["weights"]["rollout"];
    assert_eq!((&loss["critic"], &loss["critic_of"]), (&0.1.into(), &"data".into()));
    assert_eq!(settings["search"], "least-squares+gauss-newton+data-moments");
    assert_eq!(settings["fit"]["search"]["gauss_newton"]["samples"], 24);
    // which network between the one as it came and the tuned one was taken
    let between = place.read_json("run/cells/our-plan--rollout-tuning-003.between.json");
    assert_eq!(between.as_array().unwrap().len(), 5);
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("On the way to the tuned network"));
    // a row that is asked for later; the teacher is measured once
    let more = place.json(&reproduce("table1", &[&asked[..2], &asked[4..], &["--rows", "ours", "--resume"]].concat()));
    assert_eq!(names(&more), ["teacher", "our plan"]);
    // the plan of the tuning, though the search was not run again
    let plan = |name: &str| place.read_json(&format!("run/cells/{name}"));
    assert_eq!(plan("our-plan-003.plan.json")["stages"], plan("our-plan--rollout-tuning-003.plan.json")["stages"]);
    assert_eq!(more[0], rows[0]);
    let cost = place.json(&reproduce("table1", &[&asked[..], &["--dry-run"]].concat()));
    let parts: Vec<&str> =
        cost["parts"].as_array().unwrap().iter().map(|part| part["what"].as_str().unwrap()).collect();
    assert!(parts.contains(&"our tuning") && !parts.iter().any(|part| part.starts_with("stage")), "{parts:?}");
    for rows in [&["--rows", "ours"][..], &["--ours"]] {
        let error = place.fails(&reproduce("fig3", &[&["--steps", "3"], rows].concat()));
        assert!(error.contains("--rows and --ours are for fig2 and table1"), "{error}");
    }
    let error = place.fails(&reproduce("table1", &["--rollout-critic", "0", "--rollout-critic-of", "data"]));
    assert!(error.contains("give it a weight with --rollout-critic"), "{error}");
    for (option, value) in [
        ("--rollout-batch", "0"),
        ("--rollout-critic", "inf"),
        ("--settling-images", "1"),
        ("--search-samples", "1"),
        ("--search", "bound/euler"),
        ("--lr", "inf"),
        ("--phase1-lr", "0"),
        ("--phase1-batch", "0"),
        ("--last-weight", "-1"),
    ] {
        let option_and_value = format!("{option}={value}");
        let error = place.fails(&[&["reproduce", "table1"], &SMALL[..], &[&option_and_value]].concat());
        assert!(error.contains(option), "{error}");
    }
}

/// Figures 3 and 4 look at no images, Figure 2 goes on from them, by files that may have moved since.
#[test]
fn every_figure_has_its_name() {
    let place = place();
    let text = place.succeeds(&reproduce("fig3", &["--steps", "4"]));
    assert!(text.starts_with("Levels learned for 4 steps."), "{text}");
    assert!(!place.list("run").contains(&"fig2.svg".to_owned()));
    let levels = place.read_json("run/cells/levels-004.json");
    place.succeeds(&reproduce("fig4", &["--steps", "4", "--resume"]));
    std::fs::create_dir(place.path("moved")).unwrap();
    std::fs::rename(place.path("data.npz"), place.path("moved/data.npz")).unwrap();
    let moved: Vec<&str> = reproduce("fig2", &["--steps", "4", "--resume"])
        .into_iter()
        .map(|word| if word == "data.npz" { "moved/data.npz" } else { word })
        .collect();
    let drawn = place.run(&moved);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    assert_eq!(place.read_json("run/cells/levels-004.json"), levels);
    let files = place.list("run");
    for name in ["fig2", "fig3-004", "fig4-004-weights", "fig4-004-times-probability"] {
        assert!(files.contains(&format!("{name}.svg")), "{files:?}");
        let png = std::fs::read(place.path(&format!("run/{name}.png")));
        // a machine without fonts has no PNG, and is told so
        let told = drawn.stderr.contains(&format!("{name}.png was not written"));
        assert!(told != png.is_ok_and(|png| png.starts_with(b"\x89PNG")), "{name}: {}", drawn.stderr);
    }
    let names: Vec<String> = place.read_json("run/fig2.json")["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["method"].to_string())
        .collect();
    assert_eq!(names, ["\"teacher\"", "\"baseline\"", "\"both stages\""]);
    // the figures of the levels may be drawn again: the judge of the run stays known
    let judge = |place: &Place| place.read_json("run/run.json")["task"]["subject"]["features"].clone();
    let known = judge(&place);
    let again: Vec<&str> = moved.iter().map(|word| if *word == "fig2" { "fig3" } else { word }).collect();
    place.succeeds(&again);
    assert!(known.is_object() && judge(&place) == known, "{known}");
}

#[test]
fn the_paper_s_own_scale_is_a_preset() {
    let place = place();
    let args =
        ["reproduce", "table1", "--model", "gaussian-mixture", "--data", "data.npz", "--out", "run", "--dry-run"];
    let settings = |more: &[&str]| place.json(&[&args[..], more].concat())["settings"]["settings"].clone();
    let paper = settings(&["--preset", "paper", "--batch", "256"]);
    for (place, value) in [
        ("/seeds/images", 50_000),
        ("/seeds/ranges", 1),
        ("/fit/phase1/iterations", 50_000),
        ("/fit/phase2/tune/iterations", 50_000),
        ("/fit/phase2/batch", 256),
        ("/rollout/trajectories", 16_384),
    ] {
        assert_eq!(paper.pointer(place), Some(&value.into()), "{place}: {paper}");
    }
    assert_eq!(settings(&[])["seeds"]["images"], 5_000);
    assert_eq!(settings(&["--last-weight", "0"])["fit"]["phase2"]["weights"]["bound"]["last"], 0.0);
    // its batch of 512 is more than there is
    let error = place.fails(&[&args[..], &["--preset", "paper"]].concat());
    assert!(error.contains("256 images, fewer than one batch of 512") && error.contains("--batch"), "{error}");
    let error = place.fails(&[&args[..], &["--phase1-batch", "300"]].concat());
    assert!(error.contains("--phase1-batch"), "{error}");
    let error = place.fails(&[&args[..], &["--rows", "ours-tuned", "--trajectories", "10"]].concat());
    assert!(error.contains("--trajectories") && error.contains("--rollout-batch"), "{error}");
}

#[test]
fn figures_are_drawn_of_what_is_there() {
    let place = place();
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

/// Eq. 10 falls all the way while the sampler that it stands for gets worse (docs/choosing.md).
#[test]
fn the_paper_s_objective_misleads() {
    let place = place();
    let swapped = |word| match word {
        "6" => "120", // updates of the levels
        word => word,
    };
    let args: Vec<&str> = reproduce("objectives", &["--steps", "8"]).into_iter().map(swapped).collect();
    place.succeeds(&args);
    let descents = place.read_json("run/figures.json")["descents"].clone();
    let ends = |descent: &serde_json::Value, what: &str| {
        let values: Vec<f64> =
            descent[what].as_array().unwrap().iter().map(|point| point[1].as_f64().unwrap()).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        if what == "loss" {
            (mean(&values[..10]), mean(&values[values.len() - 10..]))
        } else {
            (values[0], values[values.len() - 1])
        }
    };
    let of = |name: &str| descents.as_array().unwrap().iter().find(|descent| descent["name"] == name).unwrap();
    for name in ["Eq. 10, independent noise", "Eq. 10, shared noise"] {
        let ((loss, fallen), (error, risen)) = (ends(of(name), "loss"), ends(of(name), "rollout_error"));
        assert!(fallen < 0.7 * loss && risen > 1.3 * error, "{name}: {loss} {fallen}, {error} {risen}");
    }
}

/// Networks that know classes go through every cell, labels and all.
#[test]
fn class_conditional_networks_are_reproduced() {
    let place = Place::new();
    place.save_model("model.safetensors", 1, 2);
    place.save_images("images", 1, 8, 40);
    place.succeeds(&["features", "--data", "images", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "images", "--features", "features.safetensors", "--out", "ref.npz"]);
    let args = ["reproduce", "table1", "--model", "model.safetensors", "--data", "images", "--ref", "ref.npz"];
    let small =
        ["--features", "features.safetensors", "--steps", "3", "--ours", "--images", "24", "--seed-ranges", "1"];
    let updates = ["--phase1-updates", "2", "--phase1-batch", "8", "--updates", "2", "--batch", "6", "--held-out", "4"];
    let ours = ["--trajectories", "8", "--search-samples", "8", "--settling-images", "24", "--out", "run"];
    let search = ["--search", "least-squares"];
    let rows = place.json(&[&args[..], &small, &updates, &ours, &search].concat());
    assert_eq!(rows.as_array().unwrap().len(), 1 + 7);
    let without = Place::new();
    without.save_model("model.safetensors", 1, 2);
    without.save_images("images/one", 1, 8, 40);
    std::fs::rename(without.path("images/one/above"), without.path("flat")).unwrap();
    let error = without.fails(&[
        "fit",
        "--model",
        "model.safetensors",
        "--data",
        "flat",
        "--out",
        "run",
        "--batch",
        "4",
        "--phase1-batch",
        "4",
    ]);
    assert!(error.contains("class-conditional (2 classes)"), "{error}");
}
