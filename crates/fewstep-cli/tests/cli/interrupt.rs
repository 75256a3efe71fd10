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
    "--set",
    "output.save_every=1000000",
    "--set",
    "output.grid_every=1000000",
    "--augment",
    "0",
];

/// Starts the program, which takes INT and HUP also where these tests were started in the background and ignore them.
pub fn start(place: &Place, args: &[&str]) -> Child {
    let mut command = Command::new("env");
    command
        .arg("--default-signal=INT,HUP")
        .arg(env!("CARGO_BIN_EXE_fewstep"))
        .args(args)
        .current_dir(place.path("."))
        .env("OMP_NUM_THREADS", "1");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a file to appear, sends the signal, and returns exit code and stderr.
fn interrupted(place: &Place, child: Child, file: &str) -> (Option<i32>, String) {
    signalled(place, &child, file);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Waits for a file to appear and sends Ctrl-C.
fn signalled(place: &Place, child: &Child, file: &str) {
    sent("-INT", place, child, file);
}

/// Waits for a file to appear and sends a signal.
pub fn sent(signal: &str, place: &Place, child: &Child, file: &str) {
    for _ in 0..18000 {
        if place.path(file).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(place.path(file).exists(), "{file} was not written");
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
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
fn tuning_stops_between_two_evaluations_and_goes_on_from_there() {
    let place = Place::with_model();
    place.save_images("images", 1, 8, 24);
    let args = |out: &'static str| {
        let first = ["tune", "model.safetensors", "--data", "images", "--loss", "bound", "--steps", "3", "--out", out];
        let plan = ["--method", "karras/euler", "--set", "held_out.samples=2", "--set", "held_out.teacher_steps=3"];
        let tune = ["--set", "tune.batch=4", "--set", "tune.check_every=7", "--set", "tune.patience=1000"];
        [&first[..], &plan, &tune, &["--updates", "600"]].concat()
    };
    let child = start(&place, &args("run"));
    // the state is written at the first evaluation; the signal comes some updates later
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
    let args = [
        "train",
        "--data",
        "images",
        "--channels",
        "32",
        "--batch",
        "64",
        "--device",
        "cpu",
        "--set",
        "training.microbatch=4",
    ];
    let more = ["--images", "10000000", "--augment", "0", "--set", "output.grid_every=0", "--out", "run"];
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

/// The levels of phase 1 are saved on the way, too.
#[test]
fn levels_stop_between_two_evaluations_and_go_on_from_there() {
    let place = Place::new();
    place.save_images("data", 1, 32, 128);
    let args = |out: &'static str| {
        let first = ["reproduce", "gaussian-mixture", "--experiment", "fig3", "--data", "data", "--steps", "4"];
        let updates = ["--set=fit.paper.iterations=600", "--set=fit.paper.check_every=60"];
        let second = [updates[0], updates[1], "--set=fit.paper.batch=16", "--set=fit.held_out.samples=8", "--out", out];
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
    let state = place.path("run/cells/levels-004.state.json");
    assert!(!state.exists());
    // as if it had been killed a moment before it removed this
    std::fs::write(&state, "{}").unwrap();
    place.succeeds(&[args("run"), vec!["--resume"]].concat());
    assert!(!state.exists());
}

/// Where nothing listens, what is finished is kept, and that is said.
#[test]
fn a_run_says_how_to_go_on_wherever_it_is_stopped() {
    let place = Place::new();
    let args = ["compare", "gaussian-mixture", "--methods", "karras/heun,karras/euler", "--steps", "3,5,7"];
    for (signal, out) in [("-INT", "ctrl-c"), ("-TERM", "kill"), ("-HUP", "terminal")] {
        let child = start(&place, &[&args[..], &["--images", "20000", "--set", "held_out=8", "--out", out]].concat());
        sent(signal, &place, &child, &format!("{out}/run.json"));
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(130) && said.contains("--resume goes on from there"), "{signal} {said}");
    }
}
