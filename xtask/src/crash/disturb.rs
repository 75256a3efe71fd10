//! What ends a run before its time.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::commands::Subject;
use super::{Place, Random};

/// System calls that change what is on the disk.
const CALLS: [&str; 17] = [
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "ftruncate",
    "truncate",
];
/// Of these, those that give a file its name.
const NAMES: [&str; 5] = ["rename", "renameat", "renameat2", "link", "linkat"];
/// Of these, those that return when what was done before is on the disk.
const SYNCS: [&str; 3] = ["fsync", "fdatasync", "syncfs"];

/// A system call of a thread: which one, and how many of them it has made with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    name: &'static str,
    number: u64,
}

impl Call {
    /// strace's words for what to do to it.
    fn inject(self, what: &str) -> [String; 2] {
        ["-e".to_owned(), format!("inject={}:{what}:when={}", self.name, self.number)]
    }
}

/// What ends a run.
#[derive(Clone, Copy, Debug)]
pub enum Disturbance {
    /// SIGKILL after a time.
    Killed(Duration),
    /// SIGKILL as this call that changes the disk begins.
    KilledAt(Call),
    /// The power goes before a name is on the disk: this call is answered and not made, and SIGKILL comes as the next sync begins. What was
    /// done between the two has reached the disk all the same, as file systems may have it.
    Lost(Call, Option<Call>),
    /// A signal that asks for the end, after a time.
    Asked(&'static str, Duration),
    /// A disk of so many bytes.
    Full(u64),
}

/// How a disturbed run ended.
pub enum Ended {
    /// It had finished before.
    Finished,
    /// It was ended.
    Early,
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(after) => write!(f, "killed after {:.3} s", after.as_secs_f64()),
            Self::KilledAt(call) => write!(f, "killed-at {} {}", call.name, call.number),
            Self::Lost(call, _) => write!(f, "lost-name {} {}", call.name, call.number),
            Self::Asked(signal, after) => write!(f, "SIG{signal} after {:.3} s", after.as_secs_f64()),
            Self::Full(bytes) => write!(f, "full-disk of {bytes} bytes"),
        }
    }
}

impl Disturbance {
    /// One at random, within what an undisturbed run does.
    pub fn random(random: &mut Random, duration: Duration, calls: &[Call], bytes: u64) -> Self {
        let after = duration.mul_f64(random.share() * 1.05);
        match random.below(12) {
            0..=2 => Self::Killed(after),
            3..=6 => match one_of_a_kind(random, calls, &CALLS) {
                Some(at) => Self::KilledAt(calls[at]),
                None => Self::Killed(after),
            },
            7..=8 => match one_of_a_kind(random, calls, &NAMES) {
                Some(at) => {
                    let next = calls[at..].iter().find(|call| SYNCS.contains(&call.name));
                    Self::Lost(calls[at], next.copied())
                }
                None => Self::Killed(after),
            },
            9..=10 => Self::Asked(["INT", "TERM", "HUP"][random.below(3) as usize], after),
            _ => Self::Full(4096 + random.below(bytes)),
        }
    }

    /// Runs the command so.
    pub fn run(self, place: &Place, subject: &Subject, resume: bool) -> Result<Ended> {
        let args = subject.args(resume);
        match self {
            Self::Killed(after) => signalled(place, &args, "KILL", after),
            Self::Asked(signal, after) => signalled(place, &args, signal, after),
            Self::KilledAt(call) => traced(place, &args, &call.inject("signal=KILL")),
            Self::Lost(call, sync) => {
                let killed = sync.map(|sync| sync.inject("signal=KILL"));
                traced(place, &args, &[call.inject("retval=0"), killed.unwrap_or_default()].concat())
            }
            Self::Full(bytes) => full(place, subject, resume, bytes),
        }
    }
}

/// A place in `calls`, of a name at random among those of `names` that are there: there are far more writes than anything else.
fn one_of_a_kind(random: &mut Random, calls: &[Call], names: &[&str]) -> Option<usize> {
    let kinds: Vec<&&str> = names.iter().filter(|name| calls.iter().any(|call| call.name == **name)).collect();
    let kind = kinds.get(random.below(kinds.len() as u64) as usize)?;
    let places: Vec<usize> = (0..calls.len()).filter(|&at| calls[at].name == **kind).collect();
    places.get(random.below(places.len() as u64) as usize).copied()
}

/// Runs under strace, which does this to some system calls.
fn traced(place: &Place, args: &[String], injections: &[String]) -> Result<Ended> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={}", CALLS.join(","))]);
    strace.args(injections.iter().filter(|text| !text.is_empty())).arg(&place.program);
    let output = place.inside(&mut strace, args).stdout(Stdio::null()).output().context("cannot start strace")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!text.contains("panicked"), "it panicked: {}", text.trim());
    Ok(if output.status.success() { Ended::Finished } else { Ended::Early })
}

/// Sends a signal after a time. A run that is asked ends by itself, in order.
fn signalled(place: &Place, args: &[String], signal: &str, after: Duration) -> Result<Ended> {
    let mut child =
        place.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start the program")?;
    thread::sleep(after);
    if child.try_wait()?.is_none() {
        let sent =
            Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).stderr(Stdio::null()).status();
        sent.context("cannot start kill")?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Ended::Finished);
    }
    // killed by the signal before it could listen, or ended in order: nothing else
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!text.contains("panicked"), "it panicked: {}", text.trim());
    Ok(Ended::Early)
}

/// Runs on a disk in memory that is too small, which then grows; what it left there is moved to where it belongs.
fn full(place: &Place, subject: &Subject, resume: bool, bytes: u64) -> Result<Ended> {
    let script = r#"
        mount -t tmpfs -o size=$1 none disk || exit 90
        if [ -e out ]; then cp -a out disk/ || exit 91; fi
        shift
        for input in *; do case $input in disk|out*|stderr) ;; *) ln -s "$PWD/$input" disk/ || exit 92 ;; esac; done
        cd disk && "$@" 2>../stderr; code=$?; cd ..
        mount -o remount,size=1g disk || exit 93
        find disk -maxdepth 1 -type l -delete
        rm -rf out out.zip out.npz && cp -a disk/. . || exit 94
        exit $code"#;
    fs::create_dir_all(place.folder.join("disk"))?;
    let mut unshare = Command::new("unshare");
    // room for what is there already, and for links
    let there = super::compare::bytes(&place.folder.join(subject.output)).unwrap_or(0);
    unshare.args(["-rm", "sh", "-c", script, "sh", &(bytes + there + 16384).to_string()]).arg(&place.program);
    let status = place
        .inside(&mut unshare, &subject.args(resume))
        .stdout(Stdio::null())
        .status()
        .context("cannot start unshare")?;
    let told = fs::read_to_string(place.folder.join("stderr")).unwrap_or_default();
    for left in ["stderr", "disk"] {
        let path = place.folder.join(left);
        let _ = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
    }
    match status.code() {
        Some(0) => Ok(Ended::Finished),
        Some(code @ 90..=94) => bail!("a small disk could not be had ({code})"),
        _ => {
            ensure!(told.contains("no space left"), "on a full disk it says: {}", told.trim());
            Ok(Ended::Early)
        }
    }
}

/// System calls that change the disk, of the thread that makes most of them, in an undisturbed run.
pub fn calls(place: &Place, subject: &Subject) -> Result<Vec<Call>> {
    let log = place.folder.join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={}", CALLS.join(",")), "-o"]).arg(&log).arg(&place.program);
    let output = place.inside(&mut strace, &subject.args(false)).output().context("cannot start strace")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&log).context("strace left nothing")?;
    fs::remove_file(&log)?;
    Ok(calls_of(&text))
}

/// The calls in what strace writes: a line each, with the thread's number, the call's name and its arguments.
fn calls_of(log: &str) -> Vec<Call> {
    let mut threads = HashMap::<&str, Vec<Call>>::new();
    for line in log.lines().filter(|line| !line.contains("resumed>")) {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        let Some(name) = CALLS.iter().find(|call| **call == name) else { continue };
        let calls = threads.entry(thread).or_default();
        let number = 1 + calls.iter().filter(|call| call.name == *name).count() as u64;
        calls.push(Call { name, number });
    }
    threads.into_values().max_by_key(Vec::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_and_one_of_each_kind_is_as_likely() {
        let log = "7  write(3, \"rename(\", 7) = 7\n8 write(4, \"\", 0) = 0\n7 fsync(3) = 0\n7 linkat(1, \"a\", 2, \"b\", 0 <unfinished ...>\n\
                   7 <... linkat resumed>) = 0\n7 write(3, \"\", 0) = 0\n7 fsync(5) = 0\n";
        let calls = calls_of(log);
        let names: Vec<(&str, u64)> = calls.iter().map(|call| (call.name, call.number)).collect();
        assert_eq!(names, [("write", 1), ("fsync", 1), ("linkat", 1), ("write", 2), ("fsync", 2)]);
        let mut random = Random::new(3);
        let mut lost = 0;
        for _ in 0..200 {
            if let Disturbance::Lost(call, sync) = Disturbance::random(&mut random, Duration::from_secs(1), &calls, 9) {
                lost += 1;
                assert_eq!((call, sync), (calls[2], Some(calls[4])));
                let words = ["-e", "inject=linkat:retval=0:when=1"].map(str::to_owned);
                assert_eq!(call.inject("retval=0"), words);
            }
        }
        assert!((15..60).contains(&lost), "{lost}");
    }
}
