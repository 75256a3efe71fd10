//! Ctrl-C: the update is finished, everything is saved, and nothing differs afterwards.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::Place;

const TRAIN: [&str; 17] = [
    "train",
    "--data",
    "images",
    "--channels",
    "8",
    "--channel-mult",
    "1,2",
    "--blocks",
    "1",
    "--batch",
    "8",
    "--save-every",
    "1000000",
    "--grid-every",
    "1000000",
    "--augment",
    "0",
];

fn start(place: &Place, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
    command.args(args).current_dir(place.path(".")).env("OMP_NUM_THREADS", "1");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a file to appear, sends the signal, and returns exit code and stderr.
fn interrupted(place: &Place, child: Child, file: &str) -> (Option<i32>, String) {
    for _ in 0..6000 {
        if place.path(file).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(place.path(file).exists(), "{file} was not written");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn training_stops_where_it_is_and_goes_on_from_there() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let child = start(&place, &[&TRAIN[..], &["--out", "run", "--images", "10000000"]].concat());
    let (code, said) = interrupted(&place, child, "run/stats.jsonl");
    assert!(
        code == Some(130) && said.contains("stopping after this update") && said.contains("--resume"),
        "{code:?} {said}"
    );
    let done = std::fs::read_to_string(place.path("run/stats.jsonl")).unwrap().lines().count();
    let images = (8 * (done + 5)).to_string();
    place.succeeds(&[&TRAIN[..], &["--out", "run", "--images", &images, "--resume"]].concat());
    place.succeeds(&[&TRAIN[..], &["--out", "straight", "--images", &images]].concat());
    for file in ["model.safetensors", "state.safetensors", "stats.jsonl"] {
        let read = |run: &str| std::fs::read(place.path(&format!("{run}/{file}"))).unwrap();
        assert!(read("straight") == read("run"), "{file} differs");
    }
}

#[test]
fn tuning_stops_between_two_looks_and_goes_on_from_there() {
    let place = Place::with_model();
    place.save_images("images", 1, 8, 24);
    let args = |out: &'static str| {
        let first =
            ["fit", "--model", "model.safetensors", "--data", "images", "--phases", "2", "--steps", "3", "--out", out];
        let second =
            ["--held-out", "2", "--teacher-steps", "3", "--batch", "4", "--check-every", "7", "--patience", "1000"];
        first.into_iter().chain(second).chain(["--updates", "600"]).collect::<Vec<_>>()
    };
    let child = start(&place, &args("run"));
    // the state is written at the first look; the signal comes some updates later
    let (code, said) = interrupted(&place, child, "run/steps-003/round-1-phase-2-state.safetensors");
    assert!(code == Some(130) && said.contains("in phase 2 for 3 evaluations") && said.contains("--resume"), "{said}");
    place.succeeds(&[args("run"), vec!["--resume"]].concat());
    place.succeeds(&args("straight"));
    for file in ["steps-003/round-1-phase-2.json", "fit.json"] {
        let read = |run: &str| std::fs::read_to_string(place.path(&format!("{run}/{file}"))).unwrap().replace(run, "");
        assert_eq!(read("straight"), read("run"), "{file}");
    }
}
