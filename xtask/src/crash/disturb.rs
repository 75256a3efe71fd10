//! What ends a run before its time.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::commands::Subject;
use super::{Place, Random};

/// System calls that change what is on the disk.
const CALLS: &str = "write,pwrite64,writev,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,\
                     mkdirat,ftruncate";

/// What ends a run.
#[derive(Clone, Copy, Debug)]
pub enum Disturbance {
    /// SIGKILL after a time.
    Killed(Duration),
    /// SIGKILL as this call of a thread that changes the disk begins.
    KilledAt(u64),
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
            Self::KilledAt(call) => write!(f, "killed-at call {call}"),
            Self::Asked(signal, after) => write!(f, "SIG{signal} after {:.3} s", after.as_secs_f64()),
            Self::Full(bytes) => write!(f, "full-disk of {bytes} bytes"),
        }
    }
}

impl Disturbance {
    /// One at random, within what an undisturbed run does.
    pub fn random(random: &mut Random, duration: Duration, calls: u64, bytes: u64) -> Self {
        let mut moment = || duration.mul_f64(random.share() * 1.05);
        let after = moment();
        match random.below(10) {
            0..=3 => Self::Killed(after),
            4..=6 => Self::KilledAt(1 + random.below(calls)),
            7..=8 => Self::Asked(["INT", "TERM", "HUP"][random.below(3) as usize], after),
            _ => Self::Full(4096 + random.below(bytes)),
        }
    }

    /// Runs the command so.
    pub fn run(self, place: &Place, subject: &Subject, resume: bool) -> Result<Ended> {
        let args = subject.args(resume);
        match self {
            Self::Killed(after) => signalled(place, &args, "KILL", after),
            Self::Asked(signal, after) => signalled(place, &args, signal, after),
            Self::KilledAt(call) => {
                let inject = format!("inject={CALLS}:signal=KILL:when={call}");
                let mut strace = Command::new("strace");
                strace
                    .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e", &inject])
                    .arg(&place.program);
                let status = place.inside(&mut strace, &args).stdout(Stdio::null()).stderr(Stdio::null()).status();
                Ok(if status.context("cannot start strace")?.success() { Ended::Finished } else { Ended::Early })
            }
            Self::Full(bytes) => full(place, subject, resume, bytes),
        }
    }
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

/// System calls of the thread with most of them that change the disk, in an undisturbed run.
pub fn count_calls(place: &Place, subject: &Subject) -> Result<u64> {
    let log = place.folder.join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={CALLS}"), "-o"]).arg(&log).arg(&place.program);
    let output = place.inside(&mut strace, &subject.args(false)).output().context("cannot start strace")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&log).context("strace left nothing")?;
    fs::remove_file(&log)?;
    let mut counts = std::collections::HashMap::<&str, u64>::new();
    for line in text.lines().filter(|line| !line.contains("resumed>")) {
        *counts.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    Ok(counts.into_values().max().unwrap_or(1))
}
