//! Ctrl-C in long work that can be saved: the first finishes the update and saves, the second quits at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::ui;

/// Exit code of a process that Ctrl-C ended.
pub const EXIT_CODE: u8 = 130;

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);
static RESUMABLE: AtomicBool = AtomicBool::new(false);

/// As long as it lives, Ctrl-C (or a request to terminate) only asks, and the work looks at [`asked`] after every update.
/// Elsewhere it ends the process: files appear whole or not at all, so nothing is lost that was finished.
#[derive(Debug)]
pub struct Listener(());

/// Starts to listen.
pub fn listen() -> Result<Listener> {
    install()?;
    LISTENING.store(true, Ordering::SeqCst);
    Ok(Listener(()))
}

/// From now on what ends the process says how to go on: the run folder keeps what is finished.
pub fn resumable() -> Result<()> {
    install()?;
    RESUMABLE.store(true, Ordering::SeqCst);
    Ok(())
}

fn install() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut installed = Ok(());
    ONCE.call_once(|| {
        installed = Signals::new([SIGINT, SIGTERM]).map(|mut signals| {
            std::thread::spawn(move || signals.forever().for_each(|_| handle()));
        });
    });
    Ok(installed?)
}

fn handle() {
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

/// The end of work that was saved: no failure, and not done either.
#[derive(Debug, thiserror::Error)]
#[error("stopped as asked, {0}; everything so far is saved: the same command with --resume goes on from there")]
pub struct Stopped(String);

/// Ends work that was saved; `place` says where it stands.
pub fn stopped<T>(place: &str) -> Result<T> {
    Err(Stopped(place.to_owned()).into())
}
