//! `train` and its resume.

use crate::support::Place;

const RECIPE: [&str; 22] = [
    "--data",
    "images",
    "--channels",
    "8",
    "--channel-mult",
    "1,2",
    "--blocks",
    "1",
    "--attention",
    "4",
    "--batch",
    "8",
    "--lr-rampup",
    "16",
    "--save-every",
    "16",
    "--grid-every",
    "1000000",
    "--seed",
    "3",
    "--augment",
    "0.1",
];

fn train(out: &str, images: &str, more: &[&str]) -> Vec<String> {
    let args = ["train", "--out", out, "--images", images];
    args.iter().chain(&RECIPE).chain(more).map(|arg| (*arg).to_owned()).collect()
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_run_leaves_a_model_that_samples_and_its_log() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let result = place.json(&strs(&train("run", "32", &["--cond", "--half"])));
    assert_eq!(result["images_seen"], 32);
    assert_eq!(result["iterations"], 4);
    let log = std::fs::read_to_string(place.path("run/stats.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 4);
    let info = place.succeeds(&["info", "run/model.safetensors"]);
    assert!(info.contains("f16") && info.contains("32 images"), "{info}");
    place.succeeds(&[
        "sample",
        "--model",
        "run/model.safetensors",
        "--seeds",
        "0-1",
        "--steps",
        "2",
        "--class",
        "1",
        "--out",
        "grid.png",
    ]);
    assert!(place.path("run/samples/000000032.png").exists());
}

#[test]
fn a_stopped_and_resumed_run_is_the_run_that_never_stopped() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    place.succeeds(&strs(&train("straight", "48", &[])));
    place.succeeds(&strs(&train("stopped", "24", &[])));
    place.succeeds(&strs(&train("stopped", "48", &["--resume"])));
    for file in ["model.safetensors", "state.safetensors", "stats.jsonl"] {
        let read = |run: &str| std::fs::read(place.path(&format!("{run}/{file}"))).unwrap();
        assert!(read("straight") == read("stopped"), "{file} differs");
    }
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_written() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    std::fs::create_dir_all(place.path("taken")).unwrap();
    std::fs::write(place.path("taken/file"), "mine").unwrap();
    let error = |args: Vec<String>| place.run(&strs(&args));
    let taken = error(train("taken", "16", &[]));
    assert!(taken.code == 1 && taken.stderr.contains("taken"), "{}", taken.stderr);
    assert_eq!(std::fs::read_to_string(place.path("taken/file")).unwrap(), "mine");
    let few = error(train("new", "16", &["--microbatch", "3"]));
    assert!(few.code == 1 && few.stderr.contains("microbatch"), "{}", few.stderr);
    let nothing = error(train("nowhere", "16", &["--resume"]));
    assert!(nothing.code == 1 && nothing.stderr.contains("run"), "{}", nothing.stderr);
    assert!(!place.path("new").exists() && !place.path("nowhere").exists());
}

/// A width that no network can have is refused before anything is made, by a dry run as well.
#[test]
fn a_width_that_cannot_be_is_refused_at_once() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    for (arch, what) in [("ddpmpp", "144 channels"), ("ncsnpp", "144 channels"), ("adm", "144 channels")] {
        for more in [&[][..], &["--dry-run"]] {
            let own =
                ["--arch", arch, "--data", "images", "--channels", "48", "--channel-mult", "1,2", "--blocks", "1"];
            let args = [&["train", "--out", "run", "--images", "8", "--batch", "8"], &own[..], more].concat();
            let message = place.fails(&args);
            assert!(message.contains(what) && message.contains("equal groups"), "{message}");
            assert!(!place.path("run").exists());
        }
    }
}
