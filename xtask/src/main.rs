//! Project tasks, run as `cargo xtask <task>`: what a bare machine needs before `cargo` alone is enough.

mod book;
mod crash;
mod disk;
mod fuzz;
mod libtorch;
mod licenses;
mod tasks;
mod tools;
mod words;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <task> [options]

  libtorch [--cuda]    put libtorch into .libtorch/ (--cuda: with the libraries that a GPU needs)
  demo [args]          libtorch, then `fewstep demo`
  test [args]          libtorch, then every test, those of `python` among them; args choose among cargo's and go to `cargo test`
  golden [args]        libtorch, then only the comparisons with golden data
  picture [report]     docs/demo.png, the report of runs/demo as a browser shows it (needs Chromium)
  bench [args]         libtorch, then the same network in fewstep and in PyTorch, timed in turn
  exports              libtorch, then exported plans run by diffusers itself and compared with ours
  python [args]        a Python environment, the wheel of python/ in it, and its tests; args go to pytest
  program              libtorch, then plans of the built-in network and of its TorchScript copy, compared
  fuzz [--minutes N]   libtorch, then every fuzz target in turn, N minutes in all (names of targets choose among them)
  sanitize             libtorch, then the tests of our C++ under AddressSanitizer and UndefinedBehaviorSanitizer
  crash [--runs N]     libtorch, then every command that writes, ended at random moments, resumed and compared (needs strace)
  deny [checks]        licences, duplicates and sources of every dependency, by cargo-deny (`advisories`: with known faults)
  words                names and words that the project has better ones for
  book                 links checked, and the documents as a site in target/book/site, by mdBook
  licenses             the licences of everything in the program, for `fewstep --licenses`
  gpu [args]           libtorch --cuda, then only the tests that need a GPU

A LIBTORCH of your own (version 2.11) is used instead of .libtorch/ when that variable is set.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the task that `args` name and returns what it exits with.
fn run(args: &[String]) -> Result<ExitCode> {
    let root = root();
    let (task, rest) = match args.split_first() {
        None => ("help", args),
        Some((task, rest)) => (task.as_str(), rest),
    };
    // `cargo xtask test -- foo` and `cargo xtask test foo` mean the same.
    let rest = rest.strip_prefix(&["--".to_string()]).unwrap_or(rest);
    match task {
        "libtorch" => {
            let cuda = match rest {
                [] => false,
                [flag] if flag == "--cuda" => true,
                _ => bail!("`cargo xtask libtorch` takes no option but --cuda"),
            };
            let place = libtorch::ensure(&root, cuda)?;
            eprintln!("libtorch {} is ready in {}", libtorch::VERSION, place.display());
            Ok(ExitCode::SUCCESS)
        }
        "demo" => tasks::demo(&root, rest),
        "test" => tasks::test(&root, rest),
        "picture" => tasks::picture(&root, rest),
        "golden" => tasks::golden(&root, rest),
        "bench" => tasks::bench(&root, rest),
        "exports" => tasks::exports(&root, rest),
        "python" => tasks::python(&root, rest),
        "program" => tasks::program(&root, rest),
        "gpu" => tasks::gpu(&root, rest),
        "sanitize" => tasks::sanitize(&root, rest),
        "fuzz" => fuzz::fuzz(&root, rest),
        "crash" => crash::crash(&root, rest),
        "deny" => tasks::deny(&root, rest),
        "words" => words::check(&root),
        "book" => book::build(&root),
        "licenses" => licenses::write(&root).map(|()| ExitCode::SUCCESS),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        unknown => bail!("there is no task `{unknown}`; `cargo xtask help` lists them"),
    }
}

/// The workspace's folder: the one above this package's.
fn root() -> PathBuf {
    // Cargo sets the variable at run time too, so that a moved checkout does not keep the old place.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    manifest.parent().map_or(manifest.clone(), Path::to_path_buf)
}
