//! `train` and its resume.

use std::io::Write;

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
    "--set",
    "training.rampup_images=16",
    "--set",
    "output.save_every=16",
    "--set",
    "output.grid_every=1000000",
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
    let result = place.json(&strs(&train("run", "32", &["--cond", "--set", "output.half=true"])));
    assert_eq!(result["images_seen"], 32);
    assert_eq!(result["iterations"], 4);
    let log = std::fs::read_to_string(place.path("run/stats.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 4);
    let info = place.succeeds(&["info", "run/model.safetensors"]);
    assert!(info.contains("f16") && info.contains("32 images"), "{info}");
    place.succeeds(&[
        "sample",
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

/// Longer than any file that is read whole: a log of years, of which the middle is one long line that is none.
#[test]
fn a_log_of_any_length_is_shown() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    place.succeeds(&strs(&train("run", "32", &[])));
    let page = |out: &str| {
        place.succeeds(&["report", "run", "--out", out]);
        std::fs::read_to_string(place.path(out)).unwrap()
    };
    let short = page("short.html");
    let text = std::fs::read_to_string(place.path("run/stats.jsonl")).unwrap();
    let (first, rest) = text.split_at(text.find('\n').unwrap() + 1);
    std::fs::write(place.path("run/stats.jsonl"), first).unwrap();
    let mut log = std::fs::OpenOptions::new().append(true).open(place.path("run/stats.jsonl")).unwrap();
    log.set_len(257 << 20).unwrap();
    log.write_all(format!("\n{rest}").as_bytes()).unwrap();
    assert!(short.contains("32 images seen, loss ") && page("long.html") == short);
    assert_eq!(place.json(&["info", "run"])[0]["latest"]["images"], 32);
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
    let sample = ["sample", "run", "--steps", "1", "--solver", "euler", "--seeds", "0-39", "--out", "x.npz"];
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
    let few = error(train("new", "16", &["--set", "training.microbatch=3"]));
    assert!(few.code == 1 && few.stderr.contains("microbatch"), "{}", few.stderr);
    let nothing = error(train("nowhere", "16", &["--resume"]));
    assert!(nothing.code == 1 && nothing.stderr.contains("run"), "{}", nothing.stderr);
    assert!(!place.path("new").exists() && !place.path("nowhere").exists());
}

/// A training that ended with the batch in which it had seen enough is finished, and goes on to nothing.
#[test]
fn a_finished_run_is_resumed_in_peace() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    place.succeeds(&strs(&train("run", "20", &[])));
    let finished = place.succeeds(&strs(&train("run", "20", &["--resume"])));
    assert!(finished.contains("it has seen its 24 images already"), "{finished}");
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

/// Rates that no training has and sizes beyond counting are refused before anything is made, by a dry run as well.
#[test]
fn settings_outside_their_domain_are_refused_at_once() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let refused = |images: &str, set: &str, what: &str| {
        for more in [&[set][..], &[set, "--dry-run"]] {
            let message = place.fails(&strs(&train("run", images, more)));
            assert!(message.contains(what), "{set}: {message}");
        }
    };
    refused("24", "--lr=-0.1", "the setting training.learning_rate must be a finite number above 0, not -0.1");
    refused("24", "--lr=0", "must be a finite number above 0, not 0");
    refused("24", "--lr=nan", "must be a finite number above 0, not NaN");
    refused("24", "--lr=inf", "must be a finite number above 0, not inf");
    let average = "the setting training.ema_images must be a finite number of at least 0, not -1";
    refused("24", "--set=training.ema_images=-1", average);
    refused("24", "--set=training.ema_images=nan", "training.ema_images is a finite number, such as");
    let most = "the setting training.images must be at most 1000000000000000, not 18446744073709551615";
    refused("18446744073709551615", "--set=training.p_std=1.2", most);
}

/// Grids are counted by division: update by update it would take years.
#[test]
fn a_long_training_is_forecast_at_once() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let forecast = place.json(&strs(&train("run", "1000000000000000", &["--dry-run"])));
    let part = |at: usize| forecast["parts"][at]["evaluations"].as_u64().unwrap();
    assert_eq!((part(0), part(1) % (64 * 1_000_000_000)), (1_000_000_000_000_000, 0));
}

/// What would make the run something else than its run.json says is refused, whether a state was saved or not.
#[test]
fn a_resumed_run_is_the_one_that_its_run_json_describes() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    place.succeeds(&strs(&train("run", "24", &[])));
    let resume = |images: &str, more: &[&str]| train("run", images, &[more, &["--resume"]].concat());
    let with = |replaced: &[(&str, &str)]| {
        let mut args = resume("48", &[]);
        for (option, value) in replaced {
            let at = args.iter().position(|arg| arg == option).unwrap();
            args[at + 1] = (*value).to_owned();
        }
        args
    };
    let other = |name: &str, count: usize| {
        let all = [
            (with(&[("--channels", "16")]), "settings.network.channels 16 (was 8)"),
            (with(&[("--channel-mult", "1,1")]), "settings.network.channel_mult"),
            (with(&[("--blocks", "2")]), "settings.network.blocks 2 (was 1)"),
            (with(&[("--attention", "8")]), "settings.network.attention"),
            (resume("48", &["--arch", "adm"]), "settings.network.architecture"),
            (resume("48", &["--precond", "vp"]), "settings.network.parameterisation"),
            (resume("48", &["--cond"]), "settings.network.conditional true (was false)"),
            (resume("48", &["--set", "network.dropout=0.2"]), "settings.network.dropout"),
            (resume("48", &["--set", "network.label_dropout=0.2"]), "settings.network.label_dropout"),
            (with(&[("--batch", "4")]), "settings.training.batch 4 (was 8)"),
            (resume("48", &["--set", "training.microbatch=4"]), "settings.training.microbatch 4 (was 0)"),
            (resume("48", &["--lr", "0.1"]), "settings.training.learning_rate 0.1 (was 0.001)"),
            (resume("48", &["--set", "training.rampup_images=8"]), "settings.training.rampup_images 8 (was 16)"),
            (resume("48", &["--set", "training.ema_images=9"]), "settings.training.ema_images 9.0 (was 500000.0)"),
            (resume("48", &["--set", "training.ema_rampup=0.0"]), "settings.training.ema_rampup"),
            (resume("48", &["--set", "training.p_mean=-1.0"]), "settings.training.p_mean"),
            (resume("48", &["--set", "training.p_std=1.0"]), "settings.training.p_std"),
            (resume("48", &["--set", "training.adam.beta1=0.8"]), "settings.training.adam.beta1"),
            (with(&[("--augment", "0")]), "settings.training.augment"),
            (resume("48", &["--set", "training.xflip=true"]), "settings.training.xflip true (was false)"),
            (with(&[("--seed", "4")]), "settings.training.seed 4 (was 3)"),
            (resume("48", &["--set", "output.half=true"]), "settings.output.half true (was false)"),
            (resume("48", &["--precision", "bf16"]), "precision \"bf16\" (was \"f32\")"),
            (resume("48", &["--set", "data.max_images=16"]), "data.images 16 (was 24)"),
        ];
        for (args, what) in all.into_iter().take(count) {
            let error = place.fails(&strs(&args));
            assert!(error.contains("cannot go on so") && error.contains(what), "{name}: {what}: {error}");
        }
    };
    other("with a state", usize::MAX);
    let fewer = place.fails(&strs(&resume("16", &[])));
    assert!(fewer.contains("has seen 24 images already"), "{fewer}");
    std::fs::rename(place.path("run/state.safetensors"), place.path("state.safetensors")).unwrap();
    other("without a state", 4); // the task is compared in the same place
    std::fs::rename(place.path("state.safetensors"), place.path("run/state.safetensors")).unwrap();
    // images of another content, under the same name
    std::fs::rename(place.path("images"), place.path("moved")).unwrap();
    place.save_images("images", 1, 8, 23);
    let error = place.fails(&strs(&resume("48", &[])));
    assert!(error.contains("data.sha256") && error.contains("data.images 23 (was 24)"), "{error}");
    // what the data set is called, for how long, and how often something is written may change; run.json says what is so now
    let mut moved = with(&[("--data", "moved")]);
    moved.extend(["--set", "output.save_every=8", "--set", "output.grid_every=0"].map(str::to_owned));
    place.succeeds(&strs(&moved));
    let task = &place.read_json("run/run.json")["task"];
    assert_eq!((&task["data"]["name"], &task["settings"]["training"]["images"]), (&"moved".into(), &48.into()));
    assert_eq!(task["settings"]["output"], serde_json::json!({ "save_every": 8, "grid_every": 0, "half": false }));
    assert_eq!(std::fs::read_to_string(place.path("run/stats.jsonl")).unwrap().lines().count(), 6);
}

/// Everything that can be set is printed, and what is printed can be read; what is typed comes last.
#[test]
fn settings_come_from_a_file_and_the_command_line() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    let printed = place.succeeds(&strs(&train("run", "24", &["--print-settings"])));
    assert!(printed.contains("rampup_images = 16") && printed.contains("p_std = 1.2"), "{printed}");
    std::fs::write(place.path("train.toml"), &printed).unwrap();
    let short = ["train", "--data", "images", "--out", "run", "--settings", "train.toml"];
    place.succeeds(&[&short[..], &["--images", "16"]].concat());
    let settings = &place.read_json("run/run.json")["task"]["settings"];
    assert_eq!((&settings["training"]["images"], &settings["training"]["batch"]), (&16.into(), &8.into()));
    let error = place.fails(&[&short[..], &["--set", "training.rate=1"]].concat());
    assert!(error.contains("--set training.rate=1") && error.contains("unknown field `rate`"), "{error}");
}

/// A rate beyond all reason: the update is named, and what there is to go on from.
#[test]
fn a_diverging_training_names_the_update_and_the_last_good_state() {
    let place = Place::new();
    place.save_images("images", 1, 8, 24);
    // the rate rises from 0: the first update changes nothing
    let diverging = |out: &str, every: &str| {
        place.run(&strs(&train(out, "400", &["--lr", "1e30", "--set", &format!("output.save_every={every}")])))
    };
    let run = diverging("saved", "8");
    assert!(run.code == 1 && run.stderr.contains("the last good state is saved/state.safetensors"), "{}", run.stderr);
    assert!(run.stderr.contains(" became ") && run.stderr.contains("a new --out"), "{}", run.stderr);
    let run = diverging("unsaved", "0");
    assert!(run.code == 1 && run.stderr.contains("no state was saved yet"), "{}", run.stderr);
}
