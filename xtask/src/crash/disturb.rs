//! What ends a run before its time.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::commands::Subject;
use super::{Place, Random};

/// System calls that change what is on the disk.
const CALLS: [&str; 19] = [
    "write",
    "pwrite64",
    "writev",
    "copy_file_range",
    "sendfile",
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

/// Exit code of a run that a signal asked to end.
const STOPPED: i32 = 130;

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

/// How files come to their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As this file system has it: without a name until they are whole.
    Unnamed,
    /// As where a file without a name cannot be given one: under a hidden name, which is changed when they are whole.
    Hidden,
}

impl Way {
    /// strace's words for it.
    fn inject(self) -> &'static [&'static str] {
        match self {
            Self::Unnamed => &[],
            Self::Hidden => &["-e", "inject=linkat:error=EOPNOTSUPP"],
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Hidden { " under hidden names" } else { "" })
    }
}

/// What ends a run.
#[derive(Clone, Copy, Debug)]
pub enum Disturbance {
    /// SIGKILL after a time.
    Killed(Duration),
    /// SIGKILL as this call that changes the disk begins.
    KilledAt(Call, Way),
    /// The power goes before a name is on the disk: this call is answered and not made, and SIGKILL comes as the next sync begins. What was
    /// done between the two has reached the disk all the same, as file systems may have it.
    Lost(Call, Call, Way),
    /// A signal that asks for the end, after a time.
    Asked(&'static str, Duration),
    /// A disk of so many bytes.
    Full(u64),
    /// The same command in the same folder, started after a time, which does not end the run.
    Joined(Duration),
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
            Self::KilledAt(call, way) => write!(f, "killed-at {} {}{way}", call.name, call.number),
            Self::Lost(call, _, way) => write!(f, "lost-name {} {}{way}", call.name, call.number),
            Self::Asked(signal, after) => write!(f, "SIG{signal} after {:.3} s", after.as_secs_f64()),
            Self::Full(bytes) => write!(f, "full-disk of {bytes} bytes"),
            Self::Joined(after) => write!(f, "joined after {:.3} s", after.as_secs_f64()),
        }
    }
}

impl Disturbance {
    /// One at random, within what an undisturbed run does.
    pub fn random(random: &mut Random, duration: Duration, calls: &[Calls], bytes: u64) -> Self {
        let after = duration.mul_f64(random.share() * 1.05);
        let Calls { all, names, way } = &calls[random.below(calls.len() as u64) as usize];
        match random.below(13) {
            0..=2 => Self::Killed(after),
            3..=6 => one_of_a_kind(random, all).map_or(Self::Killed(after), |call| Self::KilledAt(call, *way)),
            7..=8 if !names.is_empty() => {
                let (name, sync) = names[random.below(names.len() as u64) as usize];
                Self::Lost(name, sync, *way)
            }
            7..=8 => Self::Killed(after),
            9..=10 => Self::Asked(["INT", "TERM", "HUP"][random.below(3) as usize], after),
            11 => Self::Full(4096 + random.below(bytes)),
            _ => Self::Joined(after),
        }
    }

    /// Runs the command so.
    pub fn run(self, place: &Place, subject: &Subject, resume: bool) -> Result<Ended> {
        let args = subject.args(resume);
        match self {
            Self::Killed(after) => Ok(signalled(place, &args, "KILL", after)?.0),
            Self::Asked(signal, after) => {
                let before = subject.begun(place);
                let (ended, output) = signalled(place, &args, signal, after)?;
                if matches!(ended, Ended::Early) {
                    answered(signal, &output, subject.begun(place) != before)?;
                }
                Ok(ended)
            }
            Self::KilledAt(call, way) => traced(place, &args, &call.inject("signal=KILL"), way),
            Self::Lost(call, sync, way) => {
                traced(place, &args, &[call.inject("retval=0"), sync.inject("signal=KILL")].concat(), way)
            }
            Self::Full(bytes) => full(place, subject, resume, bytes),
            Self::Joined(after) => joined(place, subject, resume, after),
        }
    }
}

/// One of `calls`, of a name at random: there are far more writes than anything else.
fn one_of_a_kind(random: &mut Random, calls: &[Call]) -> Option<Call> {
    let kinds: Vec<&str> = CALLS.into_iter().filter(|name| calls.iter().any(|call| call.name == *name)).collect();
    let kind = kinds.get(random.below(kinds.len() as u64) as usize)?;
    let calls: Vec<&Call> = calls.iter().filter(|call| call.name == *kind).collect();
    calls.get(random.below(calls.len() as u64) as usize).copied().copied()
}

/// Runs under strace, which does this to some system calls.
fn traced(place: &Place, args: &[String], injections: &[String], way: Way) -> Result<Ended> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={}", CALLS.join(","))]);
    strace.args(way.inject()).args(injections).arg(&place.program);
    let output = place.inside(&mut strace, args).stdout(Stdio::null()).output().context("cannot start strace")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!text.contains("panicked"), "it panicked: {}", text.trim());
    Ok(if output.status.success() { Ended::Finished } else { Ended::Early })
}

/// Sends a signal after a time. A run that is asked ends by itself, in order.
fn signalled(place: &Place, args: &[String], signal: &str, after: Duration) -> Result<(Ended, Output)> {
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
        return Ok((Ended::Finished, output));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!text.contains("panicked"), "it panicked: {}", text.trim());
    Ok((Ended::Early, output))
}

/// Makes sure that a run ended as it should where a signal asked it to, and says how to go on where it has `begun`.
fn answered(signal: &str, output: &Output, begun: bool) -> Result<()> {
    let told = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        None => ensure!(!begun, "SIG{signal} ended it when it had begun"), // before it listens
        code => ensure!(code == Some(STOPPED), "on SIG{signal} it ended with {}: {}", output.status, told.trim()),
    }
    ensure!(!begun || told.contains("--resume"), "on SIG{signal} it does not say how to go on: {}", told.trim());
    Ok(())
}

/// Runs two in one folder, the second after a time. One of them does all, and one that is refused says why.
fn joined(place: &Place, subject: &Subject, resume: bool, after: Duration) -> Result<Ended> {
    let start = |resume: bool| {
        let mut command = place.command(&subject.args(resume));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start the program")
    };
    let first = start(resume)?;
    thread::sleep(after);
    let second = start(resume || subject.goes_on(place))?;
    let outputs = [first.wait_with_output()?, second.wait_with_output()?];
    let told = outputs.each_ref().map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
    ensure!(
        outputs.iter().any(|output| output.status.success()),
        "of two runs in one folder none ended well: {told:?}"
    );
    for (output, told) in outputs.iter().zip(&told).filter(|(output, _)| !output.status.success()) {
        let refused = ["another run is going on in", "already holds files"].iter().any(|why| told.contains(why));
        ensure!(refused, "one of two runs in one folder ended with {}: {told}", output.status);
    }
    Ok(Ended::Finished)
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

/// The system calls of an undisturbed run that change the disk.
pub fn calls(place: &Place, subject: &Subject, way: Way) -> Result<Calls> {
    let log = place.folder.join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={}", CALLS.join(","))]).args(way.inject());
    strace.arg("-o").arg(&log).arg(&place.program);
    let output = place.inside(&mut strace, &subject.args(false)).output().context("cannot start strace")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&log).context("strace left nothing")?;
    fs::remove_file(&log)?;
    Ok(Calls::of(&text, way))
}

/// What can be done to the calls of a run.
#[derive(Debug)]
pub struct Calls {
    /// Those of the thread that makes most of them.
    pub all: Vec<Call>,
    /// Those that name a file, each with the next sync of any thread. strace counts the calls of each thread apart and does to all of them
    /// what it is asked to do to one, so that these are such as no other thread makes as many of.
    names: Vec<(Call, Call)>,
    /// How files came to their names.
    way: Way,
}

impl Calls {
    /// Of what strace writes: a line each, with the thread's number, the call's name and its arguments.
    fn of(log: &str, way: Way) -> Self {
        let mut made: Vec<(&str, Call)> = Vec::new();
        let mut counts = HashMap::<(&str, &str), u64>::new();
        for line in log.lines().filter(|line| !line.contains("resumed>")) {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let name = rest.trim_start().split('(').next().unwrap_or_default();
            let Some(name) = CALLS.iter().find(|call| **call == name) else { continue };
            let count = counts.entry((thread, name)).or_default();
            *count += 1;
            // those that are refused do nothing
            if *name != "linkat" || way == Way::Unnamed {
                made.push((thread, Call { name, number: *count }));
            }
        }
        let of_thread = |thread: &str| made.iter().filter(|(other, _)| *other == thread).count();
        let busiest = made.iter().map(|(thread, _)| *thread).max_by_key(|thread| of_thread(thread));
        let is_unique = |(thread, call): &(&str, Call)| {
            !counts.iter().any(|((other, name), count)| other != thread && *name == call.name && *count >= call.number)
        };
        let mut names = Vec::new();
        for (at, call) in made.iter().enumerate().filter(|(_, call)| NAMES.contains(&call.1.name) && is_unique(call)) {
            let sync = made[at..].iter().find(|(_, call)| SYNCS.contains(&call.name));
            names.extend(sync.filter(|sync| is_unique(sync)).map(|sync| (call.1, sync.1)));
        }
        let all = made.iter().filter(|(thread, _)| Some(*thread) == busiest).map(|(_, call)| *call).collect();
        Self { all, names, way }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_and_one_of_each_kind_is_as_likely() {
        let log = "7  write(3, \"rename(\", 7) = 7\n8 write(4, \"\", 0) = 0\n7 fsync(3) = 0\n7 linkat(1, \"a\", 2, \"b\", 0 <unfinished ...>\n\
                   7 <... linkat resumed>) = 0\n7 write(3, \"\", 0) = 0\n7 fsync(5) = 0\n";
        let calls = [Calls::of(log, Way::Unnamed)];
        let names: Vec<(&str, u64)> = calls[0].all.iter().map(|call| (call.name, call.number)).collect();
        assert_eq!(names, [("write", 1), ("fsync", 1), ("linkat", 1), ("write", 2), ("fsync", 2)]);
        let mut random = Random::new(3);
        let mut lost = 0;
        for _ in 0..200 {
            if let Disturbance::Lost(call, sync, Way::Unnamed) =
                Disturbance::random(&mut random, Duration::from_secs(1), &calls, 9)
            {
                lost += 1;
                assert_eq!((call, sync), (calls[0].all[2], calls[0].all[4]));
                let words = ["-e", "inject=linkat:retval=0:when=1"].map(str::to_owned);
                assert_eq!(call.inject("retval=0"), words);
            }
        }
        assert!((15..60).contains(&lost), "{lost}");
        // under hidden names linkat is refused, and rename gives a file its name
        let log =
            "7 linkat(1) = -1 EOPNOTSUPP (INJECTED)\n7 copy_file_range(3, 4) = 9\n7 rename(a) = 0\n7 fsync(5) = 0\n";
        let calls = Calls::of(log, Way::Hidden);
        assert_eq!(calls.all.iter().map(|call| call.name).collect::<Vec<_>>(), ["copy_file_range", "rename", "fsync"]);
        assert_eq!(calls.names, [(calls.all[1], calls.all[2])]);
    }

    #[test]
    fn a_signal_is_answered_with_a_code_and_the_way_on() {
        use std::os::unix::process::ExitStatusExt;
        let of = |status: i32, told: &str, begun: bool| {
            let status = std::process::ExitStatus::from_raw(status);
            answered("INT", &Output { status, stdout: Vec::new(), stderr: told.into() }, begun).is_ok()
        };
        let [stopped, failed, killed] = [130 << 8, 1 << 8, 2];
        assert!(of(stopped, "stopped; --resume goes on", true) && of(stopped, "", false) && of(killed, "", false));
        assert!(!of(failed, "error: --resume", true) && !of(stopped, "stopped", true) && !of(killed, "", true));
    }

    /// Two threads write files, and the first waits for the disk.
    #[test]
    fn what_another_thread_would_lose_too_is_not_lost() {
        let log = "1 linkat(a) = 0\n1 fsync(a) = 0\n2 linkat(b) = 0\n3 linkat(c) = 0\n2 linkat(d) = 0\n1 syncfs(e) = 0\n2 linkat(f) = 0\n";
        let call = |name, number| Call { name, number };
        assert_eq!(Calls::of(log, Way::Unnamed).names, [(call("linkat", 2), call("syncfs", 1))]);
    }
}
