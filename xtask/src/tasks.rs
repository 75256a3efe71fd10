//! The tasks that make sure of libtorch and then hand over to cargo or Python.

use crate::disk::{self, Need};
use crate::libtorch;
use crate::tools::CARGO_DENY;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What `bench` and `program` compare with, a requirement of pip's a line.
const BENCH_PACKAGES: &str = "torch==2.11.0\nnumpy\n";

/// The Python environment that the Python package is tested in, and the file of its requirements.
const PYTHON_VENV: &str = ".python-venv";
const PYTHON_LIST: &str = "python/requirements-test.txt";

/// libtorch, then every test of the workspace and, unless `args` choose among those, of the Python package.
///
/// `--release` here and in `demo`: one profile, so that libtorch's bindings (the longest step) are compiled once.
pub fn test(root: &Path, args: &[String]) -> Result<ExitCode> {
    let mut needs = vec![libtorch::need(root), need_of_build(root, 8.0, ("release/deps", "architecture-"))];
    if args.is_empty() {
        needs.push(need_of_python(root, PYTHON_VENV, &requirements(root, PYTHON_LIST)?));
    }
    disk::check(root, &needs)?;
    libtorch::ensure(root, false)?;
    let mut tests = cargo(root);
    tests.args(["test", "--release"]);
    let chooses = |arg: &String| arg.starts_with("-p") || arg.starts_with("--package");
    if !args.iter().take_while(|arg| *arg != "--").any(chooses) {
        tests.arg("--workspace"); // beside packages it would take all the same
    }
    tests.args(args);
    // Tests already run side by side; with threads of their own besides, their spinning slows them tenfold on few cores.
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        tests.env("OMP_NUM_THREADS", "1");
    }
    let status = tests.status().context("cannot start cargo")?;
    if !status.success() || !args.is_empty() {
        return Ok(exit_code(status));
    }
    tests_of_python(root, &[]) // the tests have built the program
}

/// libtorch, then `fewstep demo`.
pub fn demo(root: &Path, args: &[String]) -> Result<ExitCode> {
    disk::check(root, &[libtorch::need(root), need_of_build(root, 2.0, ("release", "fewstep"))])?;
    libtorch::ensure(root, false)?;
    hand_over(cargo(root).args(["run", "--release", "-p", "fewstep-cli", "--", "demo"]).args(args))
}

/// The README's picture: the newest demo's report (or the page that `args` names) in a headless Chromium.
pub fn picture(root: &Path, args: &[String]) -> Result<ExitCode> {
    let page = args.first().map_or_else(|| root.join("runs/demo/report.html"), |page| root.join(page));
    if !page.exists() {
        bail!("there is no {}: run `cargo xtask demo` first, or name a report", page.display());
    }
    libtorch::ensure(root, false)?;
    let mut test = cargo(root);
    test.args(["test", "--release", "-p", "fewstep-cli", "--test", "cli", "the_picture_is_taken"]);
    hand_over(test.env("PICTURE_OF", page).env("PICTURE", root.join("docs/demo.png")))
}

/// libtorch, then the tests with `golden` in their names.
pub fn golden(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, false)?;
    hand_over(cargo(root).args(["test", "--workspace", "--release", "golden"]).args(args))
}

/// libtorch with its CUDA libraries, then the tests with `cuda` in their names, which are ignored where a GPU is not asked for.
pub fn gpu(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, true)?;
    let mut tests = cargo(root);
    tests.args(["test", "--workspace", "--release", "cuda"]).args(args);
    // what follows `--` is for the tests themselves, which these are ignored by otherwise
    if !args.iter().any(|arg| arg == "--") {
        tests.arg("--");
    }
    hand_over(tests.arg("--ignored"))
}

/// cargo-deny on `deny.toml`: the checks that are named, or those that need nothing from outside.
pub fn deny(root: &Path, args: &[String]) -> Result<ExitCode> {
    let mut deny = Command::new(CARGO_DENY.folder(root)?.join(CARGO_DENY.name));
    deny.args(["--workspace", "--all-features", "--locked", "check", "--hide-inclusion-graph"]).current_dir(root);
    if args.is_empty() {
        deny.args(["bans", "licenses", "sources"]);
    }
    hand_over(deny.args(args))
}

/// libtorch, then the integration tests of `fewstep-nn`, which reach all of its C++ but what needs a GPU: that is compiled with sanitizers,
/// into a target folder of its own.
///
/// What libtorch leaves allocated is no leak of ours, and it allocates with one set of functions what it frees with another.
pub fn sanitize(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, false)?;
    let runtime = Command::new("c++").arg("-print-file-name=libasan.so").output().context("cannot start c++")?;
    let runtime = String::from_utf8_lossy(&runtime.stdout).trim().to_owned();
    if !Path::new(&runtime).is_absolute() {
        bail!("this needs GCC's AddressSanitizer, and c++ knows no libasan.so");
    }
    let mut tests = cargo(root);
    tests.args(["test", "--release", "-p", "fewstep-nn", "--test", "it"]).args(args);
    tests.env("CARGO_TARGET_DIR", root.join("target").join("sanitize")).env("CARGO_INCREMENTAL", "0");
    tests.env("FEWSTEP_SANITIZE", "address,undefined").env("OMP_NUM_THREADS", "2");
    // the tests alone: cargo and the compiler are not instrumented
    tests.env(runner_variable(), format!("env LD_PRELOAD={runtime}"));
    tests.env("ASAN_OPTIONS", "detect_leaks=0:alloc_dealloc_mismatch=0").env("UBSAN_OPTIONS", "print_stacktrace=1");
    hand_over(&mut tests)
}

/// The variable by which cargo is told how to start what it built for this machine.
fn runner_variable() -> String {
    format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", std::env::consts::ARCH.to_uppercase())
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
    let python = python_with(root, ".bench-venv", BENCH_PACKAGES)?;
    hand_over(Command::new(python).arg(script).args(args).current_dir(root))
}

/// libtorch, a release build, a Python environment with diffusers, then `testdata/exports/diffusers_check.py`.
pub fn exports(root: &Path, args: &[String]) -> Result<ExitCode> {
    let packages = requirements(root, "testdata/exports/requirements.txt")?;
    check_with(root, (".exports-venv", &packages), &root.join("testdata/exports/diffusers_check.py"), args)
}

/// libtorch, a release build, a Python environment with PyTorch, then `bench/program_check.py`.
pub fn program(root: &Path, args: &[String]) -> Result<ExitCode> {
    check_with(root, (".bench-venv", BENCH_PACKAGES), &root.join("bench").join("program_check.py"), args)
}

/// libtorch, a release build, a Python environment with these packages, then a script that is given the built program.
fn check_with(root: &Path, (venv, packages): (&str, &str), script: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, false)?;
    let status =
        cargo(root).args(["build", "--release", "-p", "fewstep-cli"]).status().context("cannot start cargo")?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    let python = python_with(root, venv, packages)?;
    let mut check = Command::new(python);
    check.arg(script).arg(target(root).join("release").join("fewstep"));
    hand_over(check.args(args).current_dir(root))
}

/// libtorch, a release build to compare with, a Python environment with PyTorch and diffusers, the wheel of `python/` in it, and its
/// tests; `args` go to pytest.
pub fn python(root: &Path, args: &[String]) -> Result<ExitCode> {
    libtorch::ensure(root, false)?;
    let status =
        cargo(root).args(["build", "--release", "-p", "fewstep-cli"]).status().context("cannot start cargo")?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    tests_of_python(root, args)
}

/// The same where the program is built.
fn tests_of_python(root: &Path, args: &[String]) -> Result<ExitCode> {
    let folder = root.join("python");
    let python = python_with(root, PYTHON_VENV, &requirements(root, PYTHON_LIST)?)?;
    let wheels = target(root).join("wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels).with_context(|| format!("cannot empty {}", wheels.display()))?; // of other versions
    }
    let mut build = Command::new(&python);
    build.args(["-m", "maturin", "build", "--release", "--quiet", "--out"]).arg(&wheels).current_dir(&folder);
    let status = without_ours(root, &mut build).status().context("cannot start maturin")?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", "--no-index", "--find-links"]);
    let status = install.arg(&wheels).arg("fewstep").status().context("cannot start pip")?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    // The tests run on what was installed, from a folder where the sources are not found first.
    let mut tests = Command::new(&python);
    tests.args(["-m", "pytest", "-q", "-n", "2"]).args(args).current_dir(folder.join("tests"));
    tests.env("FEWSTEP", target(root).join("release").join("fewstep"));
    hand_over(&mut tests)
}

/// Where cargo builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target))
}

/// The requirements of pip's, a line each, that a file of ours lists.
fn requirements(root: &Path, list: &str) -> Result<String> {
    fs::read_to_string(root.join(list)).with_context(|| format!("cannot read {list}"))
}

/// What building takes of the disk, unless there is a file in the target folder's `place` whose name begins so.
fn need_of_build(root: &Path, gigabytes: f64, (place, name): (&str, &str)) -> Need {
    let files = fs::read_dir(target(root).join(place)).into_iter().flatten().flatten();
    let is_there = files.map(|file| file.file_name()).any(|file| file.to_string_lossy().starts_with(name));
    Need { what: "the build", gigabytes, is_there }
}

/// What an environment takes of the disk, most of it PyTorch's libraries for GPUs; pip keeps them packed while it unpacks them.
fn need_of_python(root: &Path, venv: &str, packages: &str) -> Need {
    Need { what: "Python packages", gigabytes: 8.0, is_there: is_ready(&root.join(venv), packages) }
}

/// Whether an environment was made with exactly these packages.
fn is_ready(venv: &Path, packages: &str) -> bool {
    fs::read_to_string(venv.join("ready")).is_ok_and(|found| found == packages)
}

/// The Python of an environment with these requirements of pip's, which is made here the first time.
fn python_with(root: &Path, name: &str, packages: &str) -> Result<OsString> {
    let venv = root.join(name);
    let python = venv.join("bin").join("python");
    if is_ready(&venv, packages) {
        return Ok(python.into());
    }
    disk::check(root, &[need_of_python(root, name, packages)])?;
    let packages_on_a_line = packages.lines().collect::<Vec<_>>().join(", ");
    eprintln!("making {name} with {packages_on_a_line} (several GB, once)");
    let status = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).status();
    if !status.context("python3 was not found: install Python 3.10 or newer")?.success() {
        bail!("python3 could not make a virtual environment in {}", venv.display());
    }
    // The folder hides itself from git, as newer versions of venv do by themselves.
    fs::write(venv.join(".gitignore"), "*\n").with_context(|| format!("cannot write into {name}"))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(packages.lines());
    if !pip.status().with_context(|| format!("the Python of {name} does not start"))?.success() {
        bail!("pip could not install {packages_on_a_line}: see its message above, then run the task again");
    }
    fs::write(venv.join("ready"), packages).with_context(|| format!("cannot write into {name}"))?;
    Ok(python.into())
}

/// A cargo that sees the environment as it would without us.
///
/// Cargo's own `[env]` has put LIBTORCH into ours. Inherited, it would look to the next cargo like a variable of the user's,
/// and the bindings would be compiled anew each time `cargo build` and `cargo xtask` take turns.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    without_ours(root, cargo.current_dir(root));
    cargo
}

/// The command without the variables that cargo put into our environment.
fn without_ours<'a>(root: &Path, command: &'a mut Command) -> &'a mut Command {
    if libtorch::own(root).is_none() {
        command.env_remove("LIBTORCH");
    }
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
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
