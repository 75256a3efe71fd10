//! Runs: folders that hold what is needed to repeat them, and commands that take it from there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use fewstep_io::RunFolder;
use fewstep_io::run_folder::RUN_FILE;
use serde::Serialize;
use serde_json::Value;

use crate::ui;

/// Where a run goes.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Folder of the run; must not exist yet
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Go on with the run in --out
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub repeat: Repeat,
}

/// What a run takes from another, and whether it runs at all.
#[derive(Clone, Debug, clap::Args)]
pub struct Repeat {
    /// Repeat the run of this run.json (or folder): options not given here are taken from there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the resolved settings and the cost in network evaluations, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What is run: the arguments of this process, with those of --config in front of its own.
static COMMAND: OnceLock<Vec<String>> = OnceLock::new();
/// `run.json` of the run that is repeated.
static REPEATED: OnceLock<Value> = OnceLock::new();

/// The command as `run.json` keeps it.
pub fn command() -> Vec<String> {
    COMMAND.get().cloned().unwrap_or_else(|| std::env::args().collect())
}

/// The arguments of this process, after those of the run that it repeats and does not replace.
///
/// # Errors
/// If `--config` names no run, or one of another command.
pub fn arguments() -> Result<Vec<OsString>> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let all = match config_of(&typed) {
        Some(path) => {
            let run = read(&path)?;
            let all = repeated(&typed, &run, &path)?;
            let _ = REPEATED.set(run);
            all
        }
        None => typed,
    };
    let _ = COMMAND.set(all.iter().map(|arg| arg.to_string_lossy().into_owned()).collect());
    Ok(all)
}

fn config_of(args: &[OsString]) -> Option<PathBuf> {
    let at = args.iter().position(|arg| arg == "--config");
    let next = at.and_then(|at| args.get(at + 1)).map(PathBuf::from);
    let joined = || args.iter().find_map(|arg| arg.to_str()?.strip_prefix("--config=").map(PathBuf::from));
    next.or_else(joined)
}

fn read(path: &Path) -> Result<Value> {
    let file = if path.is_dir() { path.join(RUN_FILE) } else { path.to_owned() };
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no run.json: it is not JSON", file.display()))
}

/// `fewstep COMMAND`, the options of the earlier run, and those that were typed now.
fn repeated(typed: &[OsString], run: &Value, path: &Path) -> Result<Vec<OsString>> {
    let words = run["provenance"]["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let earlier: Vec<&str> = words.collect();
    let name = run["kind"].as_str().unwrap_or_default();
    let at = earlier.iter().position(|word| *word == name && !name.is_empty());
    let at = at.with_context(|| format!("{} does not say what was run: it is no run.json", path.display()))?;
    let own = typed.iter().position(|word| word == name).with_context(|| {
        format!("{} is of `fewstep {name}`: write `fewstep {name} --config {}`", path.display(), path.display())
    })?;
    // Of the earlier run alone: whether it was resumed, and what it repeated itself (its options stand there already).
    let name_of = |word: &str| word.starts_with("--").then(|| word.split('=').next().unwrap_or(word).to_owned());
    let now = typed[own + 1..].iter().filter_map(|word| name_of(&word.to_string_lossy()));
    let replaced: Vec<String> = now.chain(["--config", "--resume", "--dry-run", "--json"].map(str::to_owned)).collect();
    let mut all = typed[..=own].to_vec();
    let mut keep = true;
    for word in &earlier[at + 1..] {
        // an option and, up to the next one, its value
        keep = name_of(word).map_or(keep, |name| !replaced.contains(&name));
        if keep {
            all.push(word.into());
        }
    }
    all.extend_from_slice(&typed[own + 1..]);
    Ok(all)
}

/// A new run folder with its `run.json`. Says so where models or data are not those of the run that is repeated.
pub fn create<T: Serialize>(out: &Path, run: &T) -> Result<RunFolder> {
    let folder = RunFolder::create(out)?;
    folder.write_json(RUN_FILE, run)?;
    if let Some(earlier) = REPEATED.get() {
        let mut others = Vec::new();
        changed_hashes(earlier, &serde_json::to_value(run)?, "", &mut others);
        if !others.is_empty() {
            ui::note(format!("warning: not the files of the run that is repeated: {}", others.join(", ")));
        }
    }
    Ok(folder)
}

/// The names under which hashes differ.
fn changed_hashes(earlier: &Value, now: &Value, name: &str, found: &mut Vec<String>) {
    match (earlier, now) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                changed_hashes(value, after.get(key).unwrap_or(&Value::Null), key, found);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            before.iter().zip(after).for_each(|(before, after)| changed_hashes(before, after, name, found));
        }
        _ if name.ends_with("sha256") && earlier != now => found.push(name.replace('_', " ")),
        _ => {}
    }
}

/// Opens the folder of an earlier run of this kind and its `run.json`.
pub fn reopen<T: serde::de::DeserializeOwned>(out: &Path, kind: &str) -> Result<(RunFolder, T)> {
    let folder = RunFolder::open_existing(out)?;
    let run: Value = folder.read_json(RUN_FILE)?;
    ensure!(
        run["kind"] == kind,
        "{} is the folder of `fewstep {}`, not of `fewstep {kind}`: choose another --out",
        out.display(),
        run["kind"].as_str().unwrap_or("something else")
    );
    let run = serde_json::from_value(run).with_context(|| {
        format!("{} cannot be understood by this version: was it written by another?", folder.file(RUN_FILE).display())
    })?;
    Ok((folder, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn typed_options_come_after_the_earlier_ones() {
        let command = "bin/fewstep --json fit --config a.json --steps 3,5 --model=m --resume --out a --gamma -1";
        let command: Vec<&str> = command.split(' ').collect();
        let run = serde_json::json!({ "kind": "fit", "provenance": { "command": command } });
        let typed = "fewstep fit --config run.json --out=b --steps 4";
        let all = repeated(&words(typed), &run, Path::new("run.json")).unwrap();
        assert_eq!(all, words("fewstep fit --model=m --gamma -1 --config run.json --out=b --steps 4"));
        let error = repeated(&words("fewstep train --config run.json"), &run, Path::new("run.json")).unwrap_err();
        assert!(error.to_string().contains("fewstep fit --config run.json"), "{error}");
        assert!(repeated(&words("fewstep fit"), &serde_json::json!({}), Path::new("x")).is_err());
    }

    #[test]
    fn changed_files_are_named() {
        let run = |hash: &str| serde_json::json!({ "task": { "model_sha256": hash, "models": [{ "sha256": hash }], "lr": hash } });
        let mut found = Vec::new();
        changed_hashes(&run("a"), &run("b"), "", &mut found);
        assert_eq!(found, ["model sha256", "sha256"]);
    }
}
