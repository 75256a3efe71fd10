//! `--config`, `--dry-run`, `report`, completions and man pages.

use serde_json::Value;

use crate::support::{Place, testdata};

const PLAN: [&str; 7] =
    ["plan", "gaussian-mixture", "--set", "held_out.samples=8", "--set", "search.teacher.grid=15", "--steps"];

fn plan(rest: &[&'static str]) -> Vec<&'static str> {
    [&PLAN[..], rest].concat()
}

fn json(place: &Place, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(place.path(name)).unwrap()).unwrap()
}

#[test]
fn a_run_is_repeated_from_its_run_json() {
    let place = Place::new();
    place.succeeds(&plan(&["3,4", "--set", "search.teacher.samples=16", "--out", "first"]));
    let run = place.run(&["plan", "--config", "first/run.json", "--out", "second"]);
    assert!(run.code == 0 && !run.stderr.contains("warning: not"), "{}", run.stderr);
    let (first, second) = (json(&place, "first/run.json"), json(&place, "second/run.json"));
    assert_eq!(first["task"], second["task"]);
    let stages = |run: &str| json(&place, &format!("{run}/steps-004/plan.json"))["stages"].clone();
    assert_eq!(stages("first"), stages("second"));
    // what is typed wins, lists included, and a repeated run can be repeated
    place.succeeds(&["plan", "--config=second", "--out", "third", "--steps", "4"]);
    let third = json(&place, "third/run.json");
    assert_eq!(third["task"]["steps"], serde_json::json!([4]));
    assert_eq!(third["task"]["settings"], first["task"]["settings"]);

    let other = ["plan", "gaussian-mixture-classes", "--config", "first", "--out", "fourth"];
    let run = place.run(&other);
    assert!(run.code == 0 && run.stderr.contains("warning: not the files"), "{}", run.stderr);
    // a version with other defaults says so
    let mut older = first.clone();
    older["task"]["settings"]["paper"]["grid"] = 7.into();
    std::fs::write(place.path("older.json"), older.to_string()).unwrap();
    let run = place.run(&["plan", "--config", "older.json", "--out", "fifth"]);
    let warning = "not the settings of the run that is repeated, of an earlier version: paper.grid 65 (was 7)";
    assert!(run.code == 0 && run.stderr.contains(warning), "{}", run.stderr);
    let typed = place.run(&["plan", "--config", "older.json", "--out", "sixth", "--method", "oss/euler"]);
    assert!(typed.code == 0 && !typed.stderr.contains("not the settings"), "{}", typed.stderr);
    insta::assert_snapshot!(place.fails(&["train", "--config", "first/run.json", "--out", "new"]), @"first/run.json is of `fewstep plan`: write `fewstep plan --config first/run.json`");
    insta::assert_snapshot!(place.fails(&["plan", "--config", "first/fit.json", "--out", "new"]), @"first/fit.json does not say what was run: it is no run.json");
    insta::assert_snapshot!(place.fails(&["plan", "--config", "none.json", "--out", "new"]), @"none.json does not exist: check the path to the file");
}

fn copied(place: &Place, from: &str, to: &str) {
    std::fs::create_dir(place.path(to)).unwrap();
    for file in place.list(from) {
        let (from, to) = (place.path(&format!("{from}/{file}")), format!("{to}/{file}"));
        match from.is_dir() {
            true => copied(place, from.to_str().unwrap(), &to),
            false => drop(std::fs::copy(from, place.path(&to)).unwrap()),
        }
    }
}

/// A run goes on in the folder that --config names, wherever it was begun.
#[test]
fn copied_and_moved_runs_go_on_where_they_are() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let network = ["--channels", "8", "--channel-mult", "1,1", "--blocks", "1", "--attention", "8", "--batch", "8"];
    place.succeeds(&[&["train", "--data", "images", "--images", "16", "--out", "first"][..], &network].concat());
    let updates =
        |run: &str| std::fs::read_to_string(place.path(&format!("{run}/stats.jsonl"))).unwrap().lines().count();
    let before = updates("first");
    copied(&place, "first", "copy");
    place.succeeds(&["train", "--config", "copy", "--resume", "--images", "32"]);
    assert!(updates("first") == before && updates("copy") > before, "{before} {}", updates("copy"));
    std::fs::rename(place.path("first"), place.path("moved")).unwrap();
    place.succeeds(&["train", "--config", "moved/run.json", "--resume", "--images", "32"]);
    assert_eq!((updates("moved"), place.path("first").exists()), (updates("copy"), false));

    place.succeeds(&plan(&["3", "--out", "run"]));
    std::fs::rename(place.path("run"), place.path("other")).unwrap();
    let run = place.run(&["plan", "--config", "other", "--resume"]);
    assert!(run.code == 0 && run.stdout.contains("are in other") && !place.path("run").exists(), "{}", run.stdout);
}

/// Someone else's run.json runs no program: what lets it is typed anew.
#[test]
fn a_repeated_run_runs_no_program() {
    let place = Place::new();
    for file in ["tiny.pt", "average.pt"] {
        std::fs::copy(testdata(&format!("torchscript/{file}")), place.path(file)).unwrap();
    }
    let stranger = |command: &[&str]| {
        let whole = [&["fewstep"], command].concat();
        let run = serde_json::json!({ "kind": command[0], "provenance": { "command": whole } });
        std::fs::write(place.path("run.json"), run.to_string()).unwrap();
        place.fails(&[command[0], "--config", "run.json", "--out", "new"])
    };
    let error = stranger(&["plan", "tiny.pt", "--trust", "--steps", "3"]);
    assert!(error.contains("It was not run") && error.contains("--trust"), "{error}");
    for features in [&["--features", "average.pt@bytes"][..], &["--features=x.safetensors,average.pt@unit"]] {
        let error = stranger(&[&["compare", "gaussian-mixture"], features].concat());
        assert!(error.contains("would run the TorchScript program average.pt@"), "{error}");
    }
    assert!(!place.list(".").contains(&"new".to_owned()));
}

/// The forecast is a bound, and not a loose one.
#[test]
fn a_dry_run_says_what_it_costs_and_does_nothing() {
    let place = Place::new();
    let forecast = place.json(&plan(&["3,4", "--out", "run", "--dry-run"]));
    assert!(place.list(".").is_empty());
    assert_eq!(forecast["settings"]["steps"], serde_json::json!([3, 4]));
    let part = |name: &str| {
        let parts = forecast["parts"].as_array().unwrap();
        parts.iter().find(|part| part["what"].as_str().unwrap().contains(name)).unwrap()["evaluations"]
            .as_u64()
            .unwrap()
    };
    let run = place.run(&plan(&["3,4", "--out", "run"]));
    let words: Vec<&str> = run.stderr.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|found| *found == word).unwrap_or_else(|| panic!("{}", run.stderr));
        words[at + 1].parse::<u64>().unwrap()
    };
    let (search, teacher) = (after("least-squares+gauss-newton+moments:"), after("teacher's"));
    let expected = part("search least");
    // how many ridges a Gauss-Newton step tries hangs on the denoiser
    assert!((0.9 * search as f64..1.2 * search as f64).contains(&(expected as f64)), "{search} {expected}");
    assert!(teacher <= part("search's teacher") && part("search's teacher") <= teacher + 64, "{teacher}");

    place.save_images("data", 1, 8, 12);
    let tuning = ["--steps", "3", "--data", "data", "--pad-to", "32", "--updates", "7", "--set", "tune.batch=4"];
    let fit = ["fit", "gaussian-mixture", "--loss", "bound", "--out", "run2", "--dry-run"];
    let cost = place.json(&[&fit[..], &tuning].concat());
    let phase2 = cost["parts"].as_array().unwrap().iter().find(|part| part["what"] == "phase 2").unwrap();
    assert_eq!((&phase2["evaluations"], &phase2["gradient"]), (&28.into(), &true.into()));
    let cost = place.json(&["sample", "gaussian-mixture", "--dry-run", "--seeds", "0-9", "--steps", "4"]);
    assert_eq!(cost["evaluations"], 10 * 7);
    let train = ["train", "--data", "data", "--out", "new", "--channels", "8", "--images", "48", "--dry-run"];
    assert_eq!(place.json(&train)["parts"][0]["evaluations"], 512); // a training sees whole batches
    let compare = ["compare", "gaussian-mixture", "--steps", "3", "--images", "9", "--methods", "karras,vp"];
    let cost = place.json(&[&compare[..], &["--set", "held_out=1", "--out", "new", "--dry-run"]].concat());
    let images = cost["parts"].as_array().unwrap().last().unwrap();
    assert_eq!(images["evaluations"], 2 * 3 * (9 + 1));
    let demo = place.json(&["demo", "--dry-run"]);
    assert!(demo["evaluations"].as_u64().unwrap() > 10_000);
    assert_eq!(place.list("."), ["data", "run"]);
}

#[test]
fn a_report_can_be_made_anew() {
    let place = Place::new();
    place.succeeds(&plan(&["3", "--out", "run"]));
    let page = || std::fs::read_to_string(place.path("run/report.html")).unwrap();
    let first = page();
    assert!(first.contains("Rollout error in 3 steps from") && first.contains("gaussian-mixture"));
    assert_eq!(first.matches("data:image/png;base64,").count(), 2);
    std::fs::remove_file(place.path("run/report.html")).unwrap();
    place.succeeds(&["report", "run"]);
    assert_eq!(page(), first);
    place.succeeds(&["report", "run", "--out", "page.html"]);
    insta::assert_snapshot!(place.fails(&["report", "run", "--out", "page.html"]), @"page.html exists already: choose another name, or replace it with --overwrite");
    insta::assert_snapshot!(place.fails(&["report", "."]), @". is not a run folder: it holds no run.json");
}

/// A folder from somebody else may name any file as one of its own.
#[cfg(unix)]
#[test]
fn a_report_reads_files_of_its_folder_alone() {
    let place = Place::new();
    place.succeeds(&plan(&["3", "--out", "run"]));
    let results = std::fs::read_to_string(place.path("run/fit.json")).unwrap();
    std::fs::write(place.path("secret.png"), b"secret").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(place.path("run/pipe")).status().unwrap().success());
    for (named, says) in
        [("/dev/zero", "not a file inside it"), ("../secret.png", "not a file inside it"), ("pipe", "no regular file")]
    {
        for ours in ["steps-003/baseline.png", "steps-003/plan.json"] {
            assert!(results.contains(ours), "{results}");
            std::fs::write(place.path("run/fit.json"), results.replace(ours, named)).unwrap();
            let run = place.run(&["report", "run"]);
            assert!(run.code == 1 && run.stderr.contains(says), "{named} for {ours}: {}", run.stderr);
        }
    }
}

#[test]
fn shells_and_man_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.succeeds(&["completions", shell]);
        assert!(["compare", "export", "denoise"].iter().all(|word| script.contains(word)), "{shell}");
        assert!(script.contains("print-settings") && script.contains("stable-diffusion.cpp"), "{shell}");
    }
    place.succeeds(&["man", "--out", "man1"]);
    let pages = place.list("man1");
    assert!(pages.contains(&"fewstep.1".to_owned()) && pages.contains(&"fewstep-fit.1".to_owned()), "{pages:?}");
    for page in &pages {
        let text = std::fs::read_to_string(place.path("man1").join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains("SYNOPSIS") && text.len() > 500, "{page}");
    }
    assert_eq!(pages.len(), 1 + 19);
}
