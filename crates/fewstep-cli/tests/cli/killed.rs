//! kill -9, which no program hears: what was finished stays, the rest is done again, and nothing differs afterwards.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::interrupt::{sent, start};
use crate::support::Place;

const PLAN: [&str; 8] = [
    "plan",
    "gaussian-mixture",
    "--steps",
    "2-4",
    "--method",
    "least-squares",
    "--set=search.teacher.samples=16",
    "--set=held_out.samples=16",
];

const FIT: [&str; 7] = ["fit", "model.safetensors", "--data", "images", "--steps", "3,4", "--loss"];

const TUNING: [&str; 9] = [
    "rollout",
    "--updates",
    "150",
    "--method",
    "least-squares",
    "--settings",
    "quick.toml",
    "--set",
    "tune.trajectories=16",
];

const TRAIN: [&str; 17] = [
    "train",
    "--data",
    "images",
    "--channels",
    "8",
    "--channel-mult",
    "1",
    "--blocks",
    "1",
    "--batch",
    "8",
    "--augment",
    "0",
    "--set",
    "output.save_every=64",
    "--set",
    "output.grid_every=64",
];

fn with<'a>(command: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [command, rest].concat()
}

fn fit<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&FIT[..], &TUNING, rest].concat()
}

/// Runs the program until a file appears, and kills it there and then.
fn killed(place: &Place, args: &[&str], file: &str) {
    let mut child = start(place, args);
    while !place.path(file).exists() {
        assert!(child.try_wait().unwrap().is_none(), "{args:?} ended before it wrote {file}");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "{args:?} ended before it was killed");
}

/// What a file system that has no files without a name would have kept of those that were being written.
fn leave_unfinished(place: &Place, folders: &[&str]) {
    for folder in folders {
        std::fs::write(place.path(folder).join(".fewstep-0.tmp"), b"half").unwrap();
    }
}

/// Every file of a run with what is in it, but for how and when it was run.
fn contents(place: &Place, run: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let mut bytes = std::fs::read(&path).unwrap();
            match name.as_str() {
                "run.json" => {
                    let mut run: Value = serde_json::from_slice(&bytes).unwrap();
                    run.as_object_mut().unwrap().remove("provenance").unwrap();
                    bytes = run.to_string().into_bytes();
                }
                "report.html" => bytes.clear(),
                _ => {}
            }
            found.insert(name, bytes);
        }
    }
    let mut found = BTreeMap::new();
    walk(&place.path(run), &place.path(run), &mut found);
    found
}

/// Both runs left the same, and so many files.
#[track_caller]
fn same(place: &Place, run: &str, straight: &str) -> BTreeMap<String, Vec<u8>> {
    let (found, expected) = (contents(place, run), contents(place, straight));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let differ: Vec<_> =
        found.iter().filter(|(name, bytes)| expected[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differ.is_empty(), "{differ:?} differ");
    found
}

fn copied(place: &Place, from: &str, to: &str) {
    std::fs::create_dir_all(place.path(to).parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-r").args([place.path(from), place.path(to)]).status().unwrap().success());
}

/// Killed while its first file lay under a hidden name, as it does where there are no files without a name: nothing says what the run is,
/// so that it cannot go on, and may start.
#[test]
fn a_run_that_had_written_nothing_yet_starts_again() {
    let place = Place::new();
    for (args, out) in
        [(&PLAN[..], "run"), (&["sample", "gaussian-mixture", "--steps", "2", "--seeds", "0-3"], "samples")]
    {
        std::fs::create_dir(place.path(out)).unwrap();
        leave_unfinished(&place, &[out]);
        place.succeeds(&with(args, &["--out", out]));
        assert!(!place.path(out).join(".fewstep-0.tmp").exists() && place.path(out).join("run.json").exists(), "{out}");
    }
}

#[test]
fn a_search_goes_on_from_what_it_had() {
    let place = Place::new();
    let args = |out: &'static str| with(&PLAN, &["--out", out]);
    place.succeeds(&args("straight"));
    let teacher = place.list("straight").into_iter().find(|name| name.starts_with("teacher-")).unwrap();
    killed(&place, &args("run"), &format!("run/{teacher}"));
    let solved = std::fs::read(place.path(&format!("run/{teacher}"))).unwrap();
    leave_unfinished(&place, &["run"]);
    let again = with(&args("run"), &["--resume"]);
    killed(&place, &again, "run/steps-002/round-1-phase-1.json");
    leave_unfinished(&place, &["run", "run/steps-002"]);
    place.succeeds(&again);
    let files = same(&place, "run", "straight");
    assert!((2..5).all(|steps| files.contains_key(&format!("steps-{steps:03}/plan.json"))), "{:?}", files.keys());
    assert_eq!(files[&teacher], solved);
}

/// The second time in a copy of its folder at another place, the first being gone.
#[test]
fn both_phases_go_on_wherever_the_folder_was_copied_to() {
    let place = crate::fitting::place();
    let args = |out: &'static str| fit(&["--out", out]);
    killed(&place, &args("run"), "run/steps-003/round-1-phase-2-state.safetensors");
    leave_unfinished(&place, &["run", "run/steps-003"]);
    let moved = "far/away/copy";
    copied(&place, "run", moved);
    std::fs::remove_dir_all(place.path("run")).unwrap();
    let again = fit(&["--out", moved, "--resume"]);
    killed(&place, &again, "far/away/copy/steps-004/round-1-phase-2-state.safetensors");
    let state = "far/away/copy/steps-003/round-1-phase-2-state.safetensors";
    assert!(!place.path(state).exists());
    // as if it had been killed a moment before it removed this
    std::fs::copy(place.path(&state.replace("003", "004")), place.path(state)).unwrap();
    place.succeeds(&["fit", "--config", moved, "--resume"]);
    place.succeeds(&args("straight"));
    let files = same(&place, moved, "straight");
    for file in ["fit.json", "steps-004/plan.json", "steps-003/round-1-phase-2.safetensors"] {
        assert!(files.contains_key(file), "{:?}", files.keys());
    }
    assert!(!place.path("run").exists(), "the folder where it was begun is of no concern");
}

/// What follows from a state is written before it, or made up for: the grid, here, which takes longest.
#[test]
fn a_training_goes_on_to_the_same_bits_and_grids() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let args = |out: &'static str| with(&TRAIN, &["--images", "192", "--out", out]);
    killed(&place, &args("run"), "run/state.safetensors");
    let grid = "run/samples/000000064.png";
    assert!(place.path("run/model.safetensors").exists() && !place.path(grid).exists());
    leave_unfinished(&place, &["run"]);
    copied(&place, "run", "copy");
    let again = with(&args("run"), &["--resume"]);
    killed(&place, &again, grid);
    place.succeeds(&again);
    place.succeeds(&args("straight"));
    let files = same(&place, "run", "straight");
    assert_eq!(files.keys().filter(|name| name.starts_with("samples/")).count(), 3);
    place.succeeds(&["train", "--config", "copy", "--resume"]);
    same(&place, "copy", "straight");
}

/// A second process in a folder is refused and changes nothing; when the first is gone, the folder is free.
#[test]
fn a_folder_is_for_one_process_at_a_time() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let args = |out: &'static str| with(&TRAIN, &["--images", "128", "--out", out]);
    let resumed = with(&args("run"), &["--resume"]);
    let first = start(&place, &args("run"));
    // it sleeps meanwhile, with its folder open
    sent("-STOP", &place, &first, "run/stats.jsonl");
    let before = contents(&place, "run");
    let refused = [&resumed[..], &["train", "--config", "run", "--resume"]].map(|second| place.run(second));
    let after = contents(&place, "run");
    sent("-CONT", &place, &first, "run/stats.jsonl");
    for second in refused {
        assert_eq!((second.code, second.stdout.as_str()), (1, ""), "{}", second.stderr);
        let error = second.stderr.lines().last().unwrap_or_default();
        assert_eq!(error, "error: another run is going on in run: wait for it, or choose another folder");
    }
    assert!(before == after && !before.contains_key("report.html"));
    let output = first.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.succeeds(&args("straight"));
    same(&place, "run", "straight");
    place.succeeds(&resumed);
}
