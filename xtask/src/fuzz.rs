//! `cargo xtask fuzz`: every fuzz target in turn, from the files of `testdata/` on.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::tools::CARGO_FUZZ;
use crate::{libtorch, tasks};

/// What is built with instrumentation.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// A target, with the files that are its first inputs: folders and the ends of names in them, and a byte before each if it takes one.
struct Target {
    name: &'static str,
    seeds: &'static [(&'static str, &'static str)],
    before: Option<u8>,
}

const fn target(name: &'static str, seeds: &'static [(&'static str, &'static str)], before: Option<u8>) -> Target {
    Target { name, seeds, before }
}

const TARGETS: [Target; 22] = [
    target("pickle", &[("testdata/edm_pickles", ".pkl"), ("testdata/edm_networks", ".pkl")], None),
    target("pickle_program", &[], None),
    target("torch_zip", &[("testdata/edm_pickles", ".pth"), ("testdata/torchscript", ".pt")], None),
    target("safetensors", &[("fuzz/seeds/safetensors", "")], Some(0)),
    target("npz", &[("fuzz/seeds/npz", ".npz")], Some(0)),
    target("dataset", &[("fuzz/seeds/dataset", "")], None),
    target(
        "dataset_members",
        &[("testdata/metrics/grey_jpeg_a", ".jpg"), ("testdata/metrics/colour_a", ".png")],
        Some(0),
    ),
    target("plan", &[("testdata/exports/plans", ".json")], None),
    target("search_settings", &[("fuzz/seeds/search_settings", "")], None),
    target("checkpoint", &[("fuzz/seeds/checkpoint", "")], Some(0)),
    target("description", &[("testdata/torchscript", ".json")], None),
    target("settings", &[("fuzz/seeds/settings", "")], None),
    target("run_file", &[("fuzz/seeds/run_file", "")], None),
    target("statistics", &[("fuzz/seeds/npz", ".npz")], None),
    target("snapshot", &[("fuzz/seeds/snapshot", "")], None),
    target(
        "features",
        &[("fuzz/seeds/features", ""), ("testdata/inception_files", ".pth"), ("testdata/inception_files", ".pt")],
        Some(0),
    ),
    target("rows", &[("fuzz/seeds/safetensors", "")], None),
    target("arrays", &[("fuzz/seeds/arrays", ".npz")], Some(0)),
    target("dataset_folder", &[("fuzz/seeds/dataset_folder", "")], None),
    target("run_folder", &[("fuzz/seeds/run_folder", "")], None),
    target("state", &[], None),
    target("export", &[("testdata/exports/plans", ".json")], Some(0)),
];

/// What a target came to.
struct Ran {
    name: &'static str,
    seconds: f64,
    runs: u64,
    /// Where its output stands, if it ended with a finding.
    finding: Option<PathBuf>,
}

/// Runs them for `--minutes` in all, on as many at a time as there are cores; names of targets choose among them.
pub fn fuzz(root: &Path, args: &[String]) -> Result<ExitCode> {
    let (minutes, chosen) = parse(args)?;
    let place = libtorch::ensure(root, false)?;
    let tool = CARGO_FUZZ.folder(root)?;
    let mut build = tasks::cargo(root);
    let path = std::env::join_paths(
        [tool].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    build.args(["fuzz", "build", "--sanitizer", "none", "--target", TRIPLE]).env("PATH", path);
    ensure!(build.status().context("cannot start cargo")?.success(), "the fuzz targets could not be built");

    let jobs = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
    let seconds = (minutes * 60.0 * jobs as f64 / chosen.len() as f64).ceil().max(1.0);
    eprintln!("{} targets for {seconds} s each, {jobs} at a time", chosen.len());
    let queue: Mutex<VecDeque<&Target>> = Mutex::new(chosen.into_iter().collect());
    let ran = Mutex::new(Vec::new());
    let library = place.join("lib");
    let next = || queue.lock().ok()?.pop_front();
    thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(target) = next() {
                let done = run(root, target, seconds as u64, &library)?;
                if let Ok(mut ran) = ran.lock() {
                    ran.push(done);
                }
            }
            Ok(())
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })?;
    let ran = ran.into_inner().unwrap_or_default();
    Ok(tell(&ran))
}

/// The results as a table, and whether there was no finding.
fn tell(ran: &[Ran]) -> ExitCode {
    println!("{:<18} {:>8} {:>12}  finding", "target", "seconds", "runs");
    for Ran { name, seconds, runs, finding } in ran {
        let finding = finding.as_ref().map_or("none".to_owned(), |log| format!("see {}", log.display()));
        println!("{name:<18} {seconds:>8.0} {runs:>12}  {finding}");
    }
    let all: f64 = ran.iter().map(|ran| ran.seconds).sum();
    println!("{:<18} {all:>8.0} seconds of one core", "in all");
    if ran.iter().any(|ran| ran.finding.is_some()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn parse(args: &[String]) -> Result<(f64, Vec<&'static Target>)> {
    let (mut minutes, mut chosen) = (10.0, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--minutes" {
            let text = args.next().context("--minutes takes a number")?;
            minutes = text.parse().with_context(|| format!("--minutes takes a number, not {text}"))?;
        } else {
            let found = TARGETS.iter().find(|target| target.name == *arg);
            chosen.push(found.with_context(|| {
                format!("there is no target {arg}: {}", TARGETS.each_ref().map(|target| target.name).join(", "))
            })?);
        }
    }
    if chosen.is_empty() {
        chosen = TARGETS.iter().collect();
    }
    Ok((minutes, chosen))
}

/// Runs one target: inputs that reach new code are kept in `fuzz/corpus`, findings in `fuzz/artifacts`.
fn run(root: &Path, target: &Target, seconds: u64, library: &Path) -> Result<Ran> {
    let folder = root.join("fuzz");
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|name| folder.join(name).join(target.name));
    for place in [&corpus, &artifacts] {
        fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    }
    let seeds = seeds(root, target)?;
    let log = artifacts.with_extension("log");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let program = folder.join("target").join(TRIPLE).join("release").join(target.name);
    let mut command = Command::new(program);
    command
        .args([&corpus, &seeds])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=65536", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"])
        .env("LD_LIBRARY_PATH", library)
        .env("OMP_NUM_THREADS", "1")
        .stdout(output.try_clone()?)
        .stderr(output);
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start the target {}", target.name))?;
    let seconds = started.elapsed().as_secs_f64();
    let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let runs = text.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let runs = runs.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    eprintln!("{}: {}", target.name, if status.success() { "no finding" } else { "a finding" });
    Ok(Ran { name: target.name, seconds, runs, finding: (!status.success()).then_some(log) })
}

/// The folder of a target's first inputs, made anew.
fn seeds(root: &Path, target: &Target) -> Result<PathBuf> {
    let to = tasks::target(root).join("fuzz-seeds").join(target.name);
    let _ = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    for (folder, end) in target.seeds {
        let from = root.join(folder);
        let entries = fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_file() && name.ends_with(end) {
                let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let bytes: Vec<u8> = target.before.into_iter().chain(bytes).collect();
                fs::write(to.join(name), bytes).with_context(|| format!("cannot write into {}", to.display()))?;
            }
        }
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_known_and_has_its_seeds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files: Vec<String> = fs::read_dir(root.join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let mut names = TARGETS.each_ref().map(|target| target.name.to_owned());
        names.sort();
        assert_eq!(files, names);
        for target in &TARGETS {
            for (folder, end) in target.seeds {
                let found = fs::read_dir(root.join(folder)).unwrap();
                let ends = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.ends_with(end));
                assert!(found.flatten().any(|entry| ends(&entry.file_name())), "{}: {folder}", target.name);
            }
        }
    }

    #[test]
    fn arguments_are_minutes_and_targets() {
        let parse = |text: &str| parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap().1.len(), TARGETS.len());
        let (minutes, chosen) = parse("plan --minutes 0.5 npz").unwrap();
        assert_eq!((minutes, chosen.len(), chosen[1].name), (0.5, 2, "npz"));
        assert!(parse("--minutes many").is_err() && parse("nothing").err().unwrap().to_string().contains("pickle"));
    }
}
