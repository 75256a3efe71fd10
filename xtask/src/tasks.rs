//! The tasks that make sure of libtorch and then hand over to cargo or Python.

use crate::libtorch;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// What `bench` compares with, as pip names it.
const BENCH_PACKAGES: [&str; 2] = ["torch==2.11.0", "numpy"];

/// libtorch, then every test of the workspace.
///
/// `--release` here and in `demo`: one profile, so that libtorch's bindings (the longest step) are compiled once.
pub fn test(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, false)?;
    let mut tests = cargo(root);
    tests.args(["test", "--workspace", "--release"]).args(args);
    // Tests already run side by side; with threads of their own besides, their spinning slows them tenfold on few cores.
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        tests.env("OMP_NUM_THREADS", "1");
    }
    hand_over(&mut tests)
}

/// libtorch, then `fewstep demo`.
pub fn demo(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, false)?;
    hand_over(cargo(root).args(["run", "--release", "-p", "fewstep", "--", "demo"]).args(args))
}

/// libtorch, then the tests with `golden` in their names.
pub fn golden(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, false)?;
    hand_over(cargo(root).args(["test", "--workspace", "--release", "golden"]).args(args))
}

/// libtorch with its CUDA libraries, then the tests with `cuda` in their names.
pub fn gpu(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, true)?;
    hand_over(cargo(root).args(["test", "--workspace", "--release", "cuda"]).args(args))
}

/// libtorch, a release build, a Python environment with PyTorch, then `bench/compare_pytorch.py`, whose table is the output.
pub fn bench(root: &Path, args: &[String]) -> Result<ExitCode> {
    let script = root.join("bench").join("compare_pytorch.py");
    if !script.exists() {
        bail!("there is no {}", script.display());
    }
    libtorch::ensure(root, false)?;
    let status = cargo(root)
        .args(["build", "--release", "-p", "fewstep-nn", "--example", "throughput"])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    let python = bench_python(root)?;
    hand_over(Command::new(python).arg(script).args(args).current_dir(root))
}

/// The Python of `.bench-venv`, which is made here the first time.
fn bench_python(root: &Path) -> Result<OsString> {
    let venv = root.join(".bench-venv");
    let python = venv.join("bin").join("python");
    let stamp = venv.join("ready");
    let wanted = BENCH_PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(python.into());
    }
    eprintln!("making .bench-venv with {} (several GB, once)", BENCH_PACKAGES.join(" and "));
    let status = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).status();
    if !status.context("python3 was not found: install Python 3.10 or newer")?.success() {
        bail!("python3 could not make a virtual environment in {}", venv.display());
    }
    // The folder hides itself from git, as newer versions of venv do by themselves.
    fs::write(venv.join(".gitignore"), "*\n").context("cannot write into .bench-venv")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(BENCH_PACKAGES);
    if !pip.status().context("the Python of .bench-venv does not start")?.success() {
        bail!(
            "pip could not install {}: see its message above, then run `cargo xtask bench` again",
            wanted.replace('\n', ", ")
        );
    }
    fs::write(&stamp, wanted).context("cannot write into .bench-venv")?;
    Ok(python.into())
}

/// A cargo that sees the environment as it would without us.
///
/// Cargo's own `[env]` has put LIBTORCH into ours. Inherited, it would look to the next cargo like a variable of the user's,
/// and the bindings would be compiled anew each time `cargo build` and `cargo xtask` take turns.
fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    if libtorch::own(root).is_none() {
        cargo.env_remove("LIBTORCH");
    }
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Runs `command` to its end and exits as it does.
fn hand_over(command: &mut Command) -> Result<ExitCode> {
    let status =
        command.status().with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    Ok(exit_code(status))
}

/// The exit code of a finished child; 1 where a signal ended it.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
