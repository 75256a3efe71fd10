//! Processes that are started here, and watched (`--processes`).

use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{ALONE, MEETING, PARENT, RANK, SIZE, started};
use crate::{interrupt, ui};

/// How many processes this one starts, of those that were `asked` for: none where it is one of them.
pub fn to_start(asked: Option<usize>) -> Result<Option<usize>> {
    let Some(processes) = asked.filter(|_| std::env::var_os(MEETING).is_none()) else { return Ok(None) };
    ensure!(processes > 0, "--processes must be at least 1");
    ALONE.store(processes == 1, Ordering::SeqCst);
    ensure!(
        processes == 1 || started()?.is_none(),
        "--processes starts processes on this machine, and this one was started with others already: leave it out"
    );
    Ok((processes > 1).then_some(processes))
}

/// How long the others have to end by themselves once one has failed: they hear of it.
const GRACE: Duration = Duration::from_secs(10);

/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(20);

/// Starts so many of this program with the same arguments, waits for them, and returns the exit code: that of the first that failed. What
/// asks this process to end asks all of them.
pub fn supervise(processes: usize) -> Result<u8> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    interrupt::pass_on();
    let mut running = Running(Vec::new());
    for rank in 0..processes {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1));
        command.env(RANK, rank.to_string()).env(SIZE, processes.to_string());
        command.env(MEETING, folder.path().join("meeting")).env(PARENT, std::process::id().to_string());
        command.env("TMPDIR", folder.path()); // what a process that is ended leaves there goes with it
        if std::env::var_os("OMP_NUM_THREADS").is_none() {
            command.env("OMP_NUM_THREADS", (cores / processes).max(1).to_string());
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0); // signals from a terminal come through this one
        running.0.push((rank, command.spawn().with_context(|| format!("cannot start process {rank}"))?));
    }
    let (mut code, mut failed, mut asked) = (0, None::<Instant>, false);
    while !running.0.is_empty() {
        if interrupt::asked() && !asked {
            asked = true;
            running.0.iter().for_each(|(_, child)| ask_to_end(child));
        }
        let mut ended = Vec::new();
        for (rank, child) in &mut running.0 {
            if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for process {rank}"))? {
                ended.push((*rank, status));
            }
        }
        running.0.retain(|(rank, _)| ended.iter().all(|(other, _)| other != rank));
        for (rank, status) in ended.into_iter().filter(|(_, status)| !status.success()) {
            if failed.is_none() {
                code = code_of(status);
                if let Some(how) = killed_by(status) {
                    ui::note(format!("process {rank} of {processes} was killed by {how}"));
                }
            }
            failed.get_or_insert_with(Instant::now);
        }
        // those that were asked to end may have much to save
        if !asked && failed.is_some_and(|since| since.elapsed() > GRACE) {
            return Ok(code);
        }
        std::thread::sleep(LOOK);
    }
    Ok(code)
}

/// Processes that end when nobody waits for them any more.
struct Running(Vec<(usize, Child)>);

impl Drop for Running {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill(); // one that has ended needs not be
            let _ = child.wait();
        }
    }
}

/// Asks the system to end this process with the one that started it for its share of the work.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    if let Some(parent) = std::env::var(PARENT).ok().and_then(|id| id.parse::<i32>().ok()) {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::TERM));
        if getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent) {
            std::process::exit(1); // it has gone before this one came to ask
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128u8.saturating_add(u8::try_from(signal).unwrap_or(0));
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The signal that ended a process, where it was one that nobody asks with.
fn killed_by(status: ExitStatus) -> Option<String> {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let why = if signal == 9 { ", as the system does for want of memory" } else { "" };
        return Some(format!("signal {signal}{why}"));
    }
    let _ = status;
    None
}

#[cfg(unix)]
fn ask_to_end(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, Signal::INT); // one that has just ended needs not be asked
    }
}

#[cfg(not(unix))]
fn ask_to_end(_: &Child) {}
