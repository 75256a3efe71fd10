//! `cargo xtask crash`: every command that writes is ended at a random moment, goes on, and is compared with a run that was left alone.
//!
//! A run is killed after a random time or at a random system call that changes the disk (entering it, so that it lies between a
//! write and a rename, too), loses a file's new name with the power (what came after it up to the next sync stays, as file systems are free
//! to have it), is asked to end by INT, TERM or HUP, which it has to answer with its exit code and how to go on, meets a full disk, or is
//! joined in its folder by another of the same command; the run that goes on may be ended again. Files come to their names as this file
//! system has it, or as on one where they lie under hidden names before. In the end it must have left what the undisturbed run left and nothing else, in its folder and beside it: arrays, networks,
//! images and figures to the bit, JSON, pages and tables but for times and provenance.

mod commands;
mod compare;
mod disturb;
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::commands::{COMMANDS, Subject};
use self::compare::{Contents, contents, difference};
use self::disturb::{Calls, Disturbance, Ended, Way};
use crate::{libtorch, tasks};

/// A random number generator of one word (xorshift).
pub(crate) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of `0..count`.
    fn below(&mut self, count: u64) -> u64 {
        self.next() % count.max(1)
    }

    /// Of `0.0..1.0`.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a run is compared with.
struct Straight {
    contents: Contents,
    /// How long it took.
    duration: Duration,
    /// System calls that change the disk, for each way in which files come to their names.
    calls: [Calls; 2],
    /// Bytes that it left.
    bytes: u64,
}

/// A place to run in.
pub(crate) struct Place {
    program: PathBuf,
    libtorch: PathBuf,
    folder: PathBuf,
}

impl Place {
    /// The program in this folder.
    fn command(&self, args: &[String]) -> Command {
        self.inside(&mut Command::new(&self.program), args)
    }

    /// `command`, in this folder, with what the program needs.
    fn inside(&self, command: &mut Command, args: &[String]) -> Command {
        let mut inside = Command::new(command.get_program());
        inside.args(command.get_args()).args(args).current_dir(&self.folder);
        inside.env("LD_LIBRARY_PATH", &self.libtorch).env("OMP_NUM_THREADS", "1").env("NO_COLOR", "1");
        inside
    }
}

/// Runs so many (`--runs`), of the commands that are named or of all in turn, from `--seed` on.
pub fn crash(root: &Path, args: &[String]) -> Result<ExitCode> {
    let (runs, seed, subjects) = parse(args)?;
    ensure!(cfg!(target_os = "linux"), "this needs Linux: it follows system calls");
    let found = Command::new("strace").arg("-V").output().is_ok();
    ensure!(found, "this needs strace, which was not found: install it (Debian's package strace)");
    let libtorch = libtorch::ensure(root, false)?.join("lib");
    let built =
        tasks::cargo(root).args(["build", "--release", "-p", "fewstep-cli"]).status().context("cannot start cargo")?;
    ensure!(built.success(), "the program could not be built");
    let program = tasks::target(root).join("release/fewstep");
    let folder = tasks::target(root).join("crash");
    let _ = fs::remove_dir_all(&folder);
    let inputs = folder.join("inputs");
    fs::create_dir_all(&inputs).with_context(|| format!("cannot make {}", inputs.display()))?;
    let place = Place { program, libtorch, folder: inputs };
    commands::prepare(root, &place)?;

    let mut straight = BTreeMap::new();
    for subject in &subjects {
        let place = anew(&place, &folder.join(format!("straight-{}", subject.name)))?;
        straight.insert(subject.name, alone(subject, &place)?);
        let Straight { contents, duration, calls, bytes } = &straight[subject.name];
        eprintln!(
            "{}: {:.1} s, {} calls that change the disk, {} files, {bytes} bytes",
            subject.name,
            duration.as_secs_f64(),
            calls[0].all.len(),
            contents.len()
        );
    }
    let mut random = Random::new(seed);
    let (mut counts, mut failed) = (BTreeMap::<String, u64>::new(), 0);
    for run in 0..runs {
        let subject = subjects[run as usize % subjects.len()];
        let own = folder.join(format!("run-{run}"));
        let place = anew(&place, &own)?;
        let mut history = Vec::new();
        match disturbed(subject, &place, &straight[subject.name], &mut random, &mut history) {
            Ok(()) => fs::remove_dir_all(&own).with_context(|| format!("cannot remove {}", own.display()))?,
            Err(error) => {
                failed += 1;
                println!("{} ({}): {error:#}\n  what it left: {}", subject.name, history.join("; "), own.display());
            }
        }
        *counts
            .entry(format!("{}, {}", subject.name, history.first().map_or("", |first| kind_of(first))))
            .or_default() += 1;
        if (run + 1) % 50 == 0 {
            eprintln!("{} of {runs} runs, {failed} failed", run + 1);
        }
    }
    for (what, count) in counts {
        println!("{count:>6}  {what}");
    }
    println!("{runs} runs from seed {seed}, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first word of what was done.
fn kind_of(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

fn parse(args: &[String]) -> Result<(u64, u64, Vec<&'static Subject>)> {
    let (mut runs, mut seed, mut subjects) = (100, 0, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let text = args.next().with_context(|| format!("{arg} takes a number"))?;
            text.parse().with_context(|| format!("{arg} takes a number, not {text}"))
        };
        match arg.as_str() {
            "--runs" => runs = number()?,
            "--seed" => seed = number()?,
            name => match COMMANDS.iter().find(|subject| subject.name == name) {
                Some(subject) => subjects.push(subject),
                None => bail!(
                    "there is no command {name} here: {}",
                    COMMANDS.each_ref().map(|subject| subject.name).join(", ")
                ),
            },
        }
    }
    if subjects.is_empty() {
        subjects = COMMANDS.iter().collect();
    }
    Ok((runs, seed, subjects))
}

/// A new folder with the inputs in it.
fn anew(place: &Place, folder: &Path) -> Result<Place> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for entry in fs::read_dir(&place.folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        std::os::unix::fs::symlink(&path, folder.join(name))
            .with_context(|| format!("cannot link {}", path.display()))?;
    }
    Ok(Place { program: place.program.clone(), libtorch: place.libtorch.clone(), folder: folder.to_owned() })
}

/// The undisturbed run, three times: its duration, then its system calls as files come to their names in each way.
fn alone(subject: &Subject, place: &Place) -> Result<Straight> {
    let started = Instant::now();
    let output = place.command(&subject.args(false)).output().context("cannot start the program")?;
    let duration = started.elapsed();
    ensure!(output.status.success(), "{}: {}", subject.name, String::from_utf8_lossy(&output.stderr));
    let contents = contents(&place.folder.join(subject.output))?;
    let bytes = compare::bytes(&place.folder.join(subject.output))?;
    let calls = |way: Way| -> Result<Calls> {
        subject.remove_output(place)?;
        let calls = disturb::calls(place, subject, way)?;
        check_left(subject, place, &contents)
            .with_context(|| format!("an undisturbed run of {} differs from another", subject.name))?;
        Ok(calls)
    };
    let calls = [calls(Way::Unnamed)?, calls(Way::Hidden)?];
    Ok(Straight { contents, duration, calls, bytes })
}

/// Makes sure that a run left this and nothing else.
fn check_left(subject: &Subject, place: &Place, expected: &Contents) -> Result<()> {
    if let Some(difference) = difference(&contents(&place.folder.join(subject.output))?, expected) {
        bail!("{difference}");
    }
    let strays = subject.strays(place)?;
    ensure!(strays.is_empty(), "{} lies beside its output", strays.join(", "));
    Ok(())
}

/// One run that is disturbed once or twice, and goes on to its end.
fn disturbed(
    subject: &Subject,
    place: &Place,
    straight: &Straight,
    random: &mut Random,
    history: &mut Vec<String>,
) -> Result<()> {
    let times = 1 + random.below(2);
    let mut resume = false;
    for time in 0..times {
        let mut disturbance = Disturbance::random(random, straight.duration, &straight.calls, straight.bytes);
        if let (Disturbance::Lost(call, _, way), 1..) = (disturbance, time) {
            disturbance = Disturbance::KilledAt(call, way); // which sync follows is known of an undisturbed run alone
        }
        history.push(disturbance.to_string());
        let ended = disturbance.run(place, subject, resume)?;
        resume = subject.goes_on(place);
        if matches!(ended, Ended::Finished) {
            break;
        }
    }
    let finished = place.command(&subject.args(resume)).output().context("cannot start the program")?;
    ensure!(
        finished.status.success(),
        "{}: {}",
        if resume { "it does not go on" } else { "it does not start again" },
        String::from_utf8_lossy(&finished.stderr).trim()
    );
    check_left(subject, place, &straight.contents).context("it differs from an undisturbed run")
}
