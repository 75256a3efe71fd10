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

/// Labels that begin at 1: a class 0 that no image is of.
#[test]
fn classes_without_images_are_told_and_not_sampled() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let names = |folder: &str| place.list(&format!("images/{folder}"));
    let labels = [("above", 1), ("below", 2)].map(|(folder, label)| {
        let entries = names(folder).into_iter().map(move |name| format!("[\"{folder}/{name}\", {label}]"));
        entries.collect::<Vec<_>>().join(", ")
    });
    // with the mark that Windows' editor writes
    let json = format!("\u{feff}{{\"labels\": [{}]}}", labels.join(", "));
    std::fs::write(place.path("images/dataset.json"), json).unwrap();
    let info = place.succeeds(&["info", "images"]);
    assert!(info.contains("2 classes of 12 images; without images: 0"), "{info}");
    let run = place.run(&strs(&train("run", "16", &["--cond"])));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("warning: 1 of the 3 classes have no images (0)"), "{}", run.stderr);
    let info = place.succeeds(&["info", "run/model.safetensors"]);
    assert!(info.contains("classes with images") && info.contains("[1,2]"), "{info}");
    let sample = ["sample", "--model", "run", "--steps", "1", "--solver", "euler", "--seeds", "0-39", "--out", "x.npz"];
    place.succeeds(&sample);
    let classes = fewstep_io::npz::read(place.path("x.npz")).unwrap()["classes"].to_i64().unwrap();
    assert!(classes.contains(&1) && classes.contains(&2) && !classes.contains(&0), "{classes:?}");
    let asked = place.run(&[&sample[..], &["--class", "0", "--overwrite"]].concat());
    assert!(asked.code == 0 && asked.stderr.contains("trained on no image of class 0"), "{}", asked.stderr);
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
            let own = ["--arch", arch, "--data", "images", "--channels", "48", "--channel-mult", "1,2", "--blocks", "1"];
            let args = [&["train", "--out", "run", "--images", "8", "--batch", "8"], &own[..], more].concat();
            let message = place.fails(&args);
            assert!(message.contains(what) && message.contains("equal groups"), "{message}");
            assert!(!place.path("run").exists());
        }
    }
}
