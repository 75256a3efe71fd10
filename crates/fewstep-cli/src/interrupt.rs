//! Requests to end: Ctrl-C, SIGTERM, SIGHUP. Work that saves itself finishes its update and saves at the first, the second quits at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::ui;

/// Exit code of a process that Ctrl-C ended.
pub const EXIT_CODE: u8 = 130;

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);
static RESUMABLE: AtomicBool = AtomicBool::new(false);
static PASSING_ON: AtomicBool = AtomicBool::new(false);

/// As long as it lives, a signal only asks, and the work looks at [`asked`] after every update. Elsewhere it ends the process: files
/// appear whole or not at all, so nothing is lost that was finished.
#[derive(Debug)]
pub struct Listener(());

/// Starts to listen.
pub fn listen() -> Listener {
    LISTENING.store(true, Ordering::SeqCst);
    Listener(())
}

/// From now on what ends the process says how to go on: the run folder keeps what is finished.
pub fn resumable() {
    RESUMABLE.store(true, Ordering::SeqCst);
}

/// Takes signals from now on.
pub fn install() -> Result<()> {
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(wanted).context("cannot wait for signals")?;
    std::thread::spawn(move || signals.forever().for_each(|_| handle()));
    Ok(())
}

/// Whether whoever started this process wants a signal ignored, as nohup does (where the system says so).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

/// From now on a signal asks nothing of this process but to ask those that work for it ([`asked`]); they say what comes of it.
pub fn pass_on() {
    PASSING_ON.store(true, Ordering::SeqCst);
    LISTENING.store(true, Ordering::SeqCst);
}

fn handle() {
    if PASSING_ON.load(Ordering::SeqCst) && !ASKED.swap(true, Ordering::SeqCst) {
        return;
    }
    if LISTENING.load(Ordering::SeqCst) && !ASKED.swap(true, Ordering::SeqCst) {
        ui::note("stopping after this update; Ctrl-C again quits at once");
        return;
    }
    if RESUMABLE.load(Ordering::SeqCst) {
        ui::note("stopped at once; what was finished is kept: the same command with --resume goes on from there");
    }
    // nothing is torn down that the other threads, in the middle of an update, still use
    low_level::exit(i32::from(EXIT_CODE));
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENING.store(false, Ordering::SeqCst);
    }
}

/// Whether someone asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
