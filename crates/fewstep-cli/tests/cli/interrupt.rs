//! Ctrl-C: the update is finished, everything is saved, and nothing differs afterwards.

use std::io::{BufRead, BufReader, Read};
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
    signalled(place, &child, file);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Waits for a file to appear and sends the signal.
fn signalled(place: &Place, child: &Child, file: &str) {
    for _ in 0..18000 {
        if place.path(file).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(place.path(file).exists(), "{file} was not written");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
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

/// The second signal does not wait for the update, here of some seconds, and nothing says that it was saved.
#[test]
fn a_second_one_quits_at_once() {
    let place = Place::new();
    place.save_images("images", 1, 32, 64);
    let args =
        ["train", "--data", "images", "--channels", "32", "--batch", "64", "--microbatch", "4", "--device", "cpu"];
    let more = ["--images", "10000000", "--augment", "0", "--grid-every", "10000000", "--out", "run"];
    let mut child = start(&place, &[&args[..], &more].concat());
    signalled(&place, &child, "run/stats.jsonl");
    // until the first was heard: were they sent together, they might be one
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("Ctrl-C again quits at once") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    signalled(&place, &child, "run/stats.jsonl");
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("stopped at once") && !said.contains("everything so far is saved"), "{said}");
    assert!(!place.path("run/state.safetensors").exists());
}

/// The levels of stage 1 are saved on the way, too.
#[test]
fn levels_stop_between_two_looks_and_go_on_from_there() {
    let place = Place::new();
    let seeds = ["--seeds", "5000-5127", "--steps", "6"];
    place.succeeds(&[&["sample", "--model", "gaussian-mixture", "--out", "data.npz"], &seeds[..]].concat());
    let args = |out: &'static str| {
        let first = ["reproduce", "fig3", "--model", "gaussian-mixture", "--data", "data.npz", "--steps", "4"];
        let second = ["--phase1-updates", "1200", "--phase1-batch", "16", "--held-out", "8", "--out", out];
        first.into_iter().chain(second).collect::<Vec<_>>()
    };
    let child = start(&place, &args("run"));
    let (code, said) = interrupted(&place, child, "run/cells/levels-004.state.json");
    assert!(
        code == Some(130) && said.contains("in phase 1 for 4 steps") && said.contains("--resume"),
        "{code:?} {said}"
    );
    assert!(!place.path("run/cells/levels-004.json").exists());
    place.succeeds(&[args("run"), vec!["--resume"]].concat());
    place.succeeds(&args("straight"));
    let read = |run: &str| std::fs::read_to_string(place.path(&format!("{run}/cells/levels-004.json"))).unwrap();
    assert_eq!(read("straight"), read("run"));
    assert!(!place.path("run/cells/levels-004.state.json").exists());
}

/// Where nothing listens, what is finished is kept, and that is said.
#[test]
fn a_run_says_how_to_go_on_wherever_it_is_stopped() {
    let place = Place::new();
    let args = ["compare", "gaussian-mixture", "--methods", "karras/heun,karras/euler", "--steps", "3,5,7"];
    let child = start(&place, &[&args[..], &["--images", "20000", "--set", "held_out=8", "--out", "run"]].concat());
    let (code, said) = interrupted(&place, child, "run/run.json");
    assert!(code == Some(130) && said.contains("--resume goes on from there"), "{code:?} {said}");
}
