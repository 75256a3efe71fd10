//! Several processes that share the work of a command: they leave what one leaves, and fail together.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::interrupt;
use crate::support::{Place, Run};

/// What differs between two runs of the same command.
const OWN: [&str; 4] = ["provenance", "seconds", "seconds_per_image", "search_seconds"];

/// A value without what differs, and numbers apart from it.
fn numbers(value: &Value, numbers_found: &mut Vec<f64>) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
            kept.map(|(key, value)| (key.clone(), numbers(value, numbers_found)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        Value::Array(list) => list.iter().map(|value| numbers(value, numbers_found)).collect(),
        Value::Number(number) => {
            numbers_found.push(number.as_f64().unwrap());
            Value::Null
        }
        other => other.clone(),
    }
}

/// Every file under a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// Two runs have left the same files: JSON with the same numbers to `tolerance`, everything else (but pages and logs, which are made of
/// these) to the byte, and weights left out where they may differ.
#[track_caller]
fn same(place: &Place, run: &str, alone: &str, tolerance: f64) {
    let (found, expected) = (files(&place.path(run)), files(&place.path(alone)));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &found {
        if name.ends_with(".json") {
            let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let (ours, theirs) = (numbers(&read(bytes), &mut a), numbers(&read(&expected[name]), &mut b));
            assert_eq!(ours, theirs, "{name}");
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() <= tolerance * b.abs(), "{name}: {a} {b}");
            }
        } else if ![".html", ".jsonl", ".csv"].iter().any(|end| name.ends_with(end)) {
            let weights = tolerance > 0.0 && name.ends_with(".safetensors");
            assert!(weights || *bytes == expected[name], "{name} differs");
        }
    }
}

fn by(processes: usize, args: &[&str]) -> Vec<String> {
    let own = args.iter().map(|arg| (*arg).to_owned());
    own.chain(["--processes".to_owned(), processes.to_string(), "--timeout".to_owned(), "60".to_owned()]).collect()
}

#[track_caller]
fn succeeds(place: &Place, processes: usize, args: &[&str]) -> Run {
    let args = by(processes, args);
    let run = place.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
    run
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap()
}

/// With data, a feature network and statistics.
fn place() -> Place {
    let place = Place::with_model();
    place.save_images("data", 1, 8, 40);
    place.succeeds(&["features", "--data", "data", "--out", "features.safetensors", "--epochs", "1", "--batch", "8"]);
    place
}

/// Samples in a folder and in a file, distances, statistics: to the byte.
#[test]
fn samples_and_distances_are_those_of_one_process() {
    let place = place();
    let sample = ["sample", "model.safetensors", "--seeds", "0-21", "--batch", "4", "--steps", "3"];
    let eval = ["eval", "--features", "features.safetensors", "--json"];
    let mut alone = None;
    for processes in [1, 2, 3] {
        let [folder, arrays, statistics] = ["", ".npz", "-ref.npz"].map(|end| format!("images-{processes}{end}"));
        let run = succeeds(&place, processes, &[&sample[..], &["--out", &folder]].concat());
        assert_eq!(run.stdout.matches("22 samples").count(), 1, "one process speaks: {}", run.stdout);
        succeeds(&place, processes, &[&sample[..], &["--out", &arrays]].concat());
        succeeds(
            &place,
            processes,
            &["ref", "--data", "data", "--features", "features.safetensors", "--batch", "1", "--out", &statistics],
        );
        let stored = [&eval[..], &["data", "--ref", &statistics, "--batch", "1"]].concat();
        let sampled = [&eval[..], &["model.safetensors", "--seeds", "0-21", "--batch", "4", "--steps", "3"]].concat();
        let measured = [stored, [&sampled[..], &["--ref", &statistics]].concat()];
        let measured = measured.map(|args| json(&succeeds(&place, processes, &args))["metrics"].clone());
        let files: Vec<Vec<u8>> =
            [&arrays, &statistics].into_iter().map(|name| std::fs::read(place.path(name)).unwrap()).collect();
        match &alone {
            None => alone = Some((measured, files)),
            Some(alone) => {
                assert_eq!(&(measured, files), alone, "{processes} processes");
                same(&place, &folder, "images-1", 0.0);
            }
        }
    }
}

/// A comparison: its plans, its distances and its errors.
#[test]
fn a_comparison_is_that_of_one_process() {
    let place = place();
    let args = [
        "compare",
        "model.safetensors",
        "--features",
        "features.safetensors",
        "--ref",
        "data",
        "--images",
        "150",
        "--methods",
        "least-squares+gauss-newton+moments,gits/ipndm4",
        "--steps",
        "3,4",
        "--set=ranges=2",
        "--set=held_out=5",
        "--set=search.teacher.samples=7",
        "--set=search.teacher.grid=7",
        "--set=search.gits={samples=7,grid=7}",
        "--set=teacher_steps=3",
    ];
    for processes in [1, 2] {
        succeeds(&place, processes, &[&args[..], &["--out", &format!("run{processes}")]].concat());
    }
    same(&place, "run2", "run1", 1e-6);
    // of one process, the run of two goes on, and the other way round
    let more = |processes: usize| {
        let out = format!("run{processes}");
        let methods = ["--methods", "least-squares+gauss-newton+moments,gits/ipndm4,karras/euler"];
        let own: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--methods" && !arg.contains("gits/")).collect();
        succeeds(&place, 3 - processes, &[&own[..], &methods, &["--out", &out, "--resume"]].concat());
    };
    more(1);
    more(2);
    same(&place, "run2", "run1", 1e-6);
}

/// Both phases: plans to 1e-6, networks but for the order of sums.
#[test]
fn a_fit_is_that_of_one_process() {
    let place = place();
    let args = [
        "fit",
        "model.safetensors",
        "--data",
        "data",
        "--steps",
        "3",
        "--updates",
        "4",
        "--method",
        "least-squares",
        "--set=search.teacher.samples=8",
        "--set=held_out.samples=8",
        "--set=tune.trajectories=32",
        "--set=tune.batch=24",
        "--set=interpolate.images=12",
        "--features",
        "features.safetensors",
        "--ref",
        "data",
    ];
    for processes in [1, 2] {
        succeeds(&place, processes, &[&args[..], &["--out", &format!("run{processes}")]].concat());
    }
    same(&place, "run2", "run1", 1e-3); // a network a little apart has a distance a little apart
    let plan = |run: &str| place.read_json(&format!("{run}/steps-003/round-1-phase-1.json"));
    let [mut a, mut b] = [Vec::new(), Vec::new()];
    assert_eq!(numbers(&plan("run2"), &mut a), numbers(&plan("run1"), &mut b));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()));
}

/// A training, stopped and gone on with by other numbers of processes.
#[test]
fn a_training_goes_on_with_any_number_of_processes() {
    let place = place();
    let train = |processes: usize, images: &str, rest: &[&str]| {
        let own =
            ["train", "--data", "data", "--channels", "8", "--channel-mult", "1", "--blocks", "1", "--batch", "8"];
        let settings = ["--augment", "0", "--images", images, "--set", "output.grid_every=64"];
        succeeds(&place, processes, &[&own[..], &settings, rest].concat())
    };
    train(1, "128", &["--out", "alone"]);
    train(2, "64", &["--out", "run"]);
    train(3, "96", &["--out", "run", "--resume"]);
    train(1, "128", &["--out", "run", "--resume"]);
    let losses = |run: &str| -> Vec<f64> {
        let text = std::fs::read_to_string(place.path(run).join("stats.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
    };
    let (found, expected) = (losses("run"), losses("alone"));
    assert_eq!(found.len(), 16);
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5 * b), "{found:?} {expected:?}");
}

/// A process of so many, started as `torchrun` would start it.
fn start(place: &Place, rank: usize, size: usize, port: u16, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
    let numbers = [("RANK", rank.to_string()), ("WORLD_SIZE", size.to_string()), ("MASTER_PORT", port.to_string())];
    command.args(args).envs(numbers).env("MASTER_ADDR", "127.0.0.1").env("OMP_NUM_THREADS", "1");
    command.env("GLOO_SOCKET_IFNAME", "lo").current_dir(place.path("."));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const ENDLESS: [&str; 8] = ["sample", "gaussian-mixture", "--seeds", "0-9999999", "--batch", "4", "--steps", "40"];

/// Waits until samples appear.
fn wait_for(place: &Place, file: &str) {
    let started = Instant::now();
    while !place.path(file).exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "{file} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that is killed, and one that stands still, end all of them; what was made stays.
#[test]
fn a_process_that_dies_or_hangs_ends_the_others() {
    for (signal, says) in [("-KILL", "another process has gone"), ("-STOP", "did not come within 2 s")] {
        let (place, port) = (Place::new(), free_port());
        let args = [&ENDLESS[..], &["--out", "out", "--timeout", "2"]].concat();
        let mut children: Vec<Child> = (0..3).map(|rank| start(&place, rank, 3, port, &args)).collect();
        wait_for(&place, "out/000003.png");
        let process = children[1].id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
        let last = children.pop().unwrap();
        let (code, said) = ended(children.remove(0));
        assert!(code == 1 && said.contains(says) && said.contains("are kept in out"), "{code} {said}");
        assert_eq!(ended(last).0, 1);
        let _ = children[0].kill();
        let _ = children[0].wait();
    }
}

/// The sentence and the code of the process that fails are everybody's.
#[test]
fn the_reason_of_one_is_that_of_all() {
    let (place, port) = (Place::new(), free_port());
    // a folder that is there already: the first process refuses it
    std::fs::create_dir_all(place.path("out/old")).unwrap();
    let args = [&ENDLESS[..], &["--out", "out", "--timeout", "20"]].concat();
    let children: Vec<Child> = (0..2).map(|rank| start(&place, rank, 2, port, &args)).collect();
    let ends: Vec<(i32, String)> = children.into_iter().map(ended).collect();
    assert!(ends.iter().all(|(code, _)| *code == 1), "{ends:?}");
    assert!(ends[0].1.contains("already holds files"), "{ends:?}");
    assert!(ends[1].1.is_empty(), "the first one speaks: {ends:?}");
    // and so where they were started here
    let run = place.run(&[&ENDLESS[..], &["--out", "out", "--processes", "2"]].concat());
    assert_eq!(run.code, 1);
    assert_eq!(run.stderr.matches("already holds files").count(), 1, "{}", run.stderr);
}

/// Other arguments, or another file of the same name.
#[test]
fn processes_that_differ_are_refused_at_the_start() {
    let (place, other) = (Place::with_model(), Place::new());
    other.save_model("model.safetensors", 1, 2);
    let sample = |seeds: &'static str| {
        ["sample", "model.safetensors", "--seeds", seeds, "--class", "0", "--timeout", "20", "--out", "out.npz"]
    };
    for (place_of_second, seeds, says) in
        [(&place, "0-8", "another command line"), (&other, "0-9", "another model model.safetensors")]
    {
        let port = free_port();
        let first = start(&place, 0, 2, port, &sample("0-9"));
        let second = start(place_of_second, 1, 2, port, &sample(seeds));
        let ((code, said), (other_code, _)) = (ended(first), ended(second));
        assert!(
            code == 1 && other_code == 1 && said.contains(&format!("process 1 has {says} than process 0")),
            "{said}"
        );
        assert!(!place.path("out.npz").exists());
    }
}

/// Ctrl-C asks all of them: the update is finished and saved, and the run goes on from there.
#[test]
fn an_interrupted_training_of_several_goes_on() {
    let place = place();
    let own = ["train", "--data", "data", "--channels", "8", "--channel-mult", "1", "--blocks", "1", "--batch", "8"];
    let args = |rest: &[&'static str]| {
        [&own[..], &["--augment", "0", "--set", "output.grid_every=0", "--out", "run", "--processes", "2"], rest]
            .concat()
    };
    let child = interrupt::start(&place, &args(&["--images", "1000000"]));
    wait_for(&place, "run/stats.jsonl");
    std::thread::sleep(Duration::from_millis(300));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let (code, said) = ended(child);
    assert_eq!(code, 130, "{said}");
    assert_eq!(said.matches("--resume goes on").count(), 1, "{said}");
    let header = fewstep_io::safetensors::read_header(place.path("run/state.safetensors")).unwrap();
    let seen: u64 = header.metadata["images"].parse().unwrap();
    let lines = std::fs::read_to_string(place.path("run/stats.jsonl")).unwrap().lines().count() as u64;
    assert_eq!(seen, 8 * lines);
    let images = (seen + 16).to_string();
    let run = place.run(
        &[
            &own[..],
            &["--augment", "0", "--set", "output.grid_every=0", "--out", "run", "--resume", "--images", &images],
        ]
        .concat(),
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// A folder of samples that two processes began and three finish.
#[test]
fn a_folder_of_samples_goes_on_with_any_number_of_processes() {
    let place = Place::with_model();
    let sample = |seeds: &'static str, rest: &[&'static str]| {
        [&["sample", "model.safetensors", "--seeds", seeds, "--batch", "4", "--steps", "2"][..], rest].concat()
    };
    place.succeeds(&sample("0-30", &["--out", "alone"]));
    succeeds(&place, 2, &sample("0-12", &["--out", "run"]));
    let run = succeeds(&place, 3, &sample("0-30", &["--out", "run", "--resume"]));
    assert!(run.stdout.contains("31 samples (13 were there)"), "{}", run.stdout);
    let pngs = |folder: &str| {
        let mut all = files(&place.path(folder));
        all.remove("run.json");
        all
    };
    assert_eq!(pngs("run"), pngs("alone"));
}

#[test]
fn what_is_not_shared_out_says_so() {
    let place = place();
    for args in [
        &["demo", "--processes", "2"][..],
        &["info", "data", "--processes", "2"],
        &["features", "--data", "data", "--out", "f.safetensors", "--processes", "2"],
    ] {
        let run = place.run(args);
        assert!(run.code == 1 && run.stderr.contains("does not share its work out"), "{}", run.stderr);
    }
    assert!(place.fails(&["sample", "model.safetensors", "--out", "x", "--processes", "0"]).contains("at least 1"));
}
