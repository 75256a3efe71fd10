//! Runs: folders that hold what is needed to repeat them, and commands that take it from there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ui;

/// Name of the page, in the run folder.
pub const REPORT: &str = "report.html";

/// Where a run goes.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Folder of the run; must not exist yet
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Go on with the run in --out; compare and reproduce may add methods, plans and steps
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

/// An error of work that saves its state in a file, with what there is to go on from. What diverged does so again: updates are
/// repeated to the bit, so that nothing is gained by going on with the same settings.
pub fn failed(error: fewstep_nn::Error, state: &Path) -> anyhow::Error {
    if !state.exists() {
        return anyhow!("{error}; no state was saved yet");
    }
    let again = match error {
        fewstep_nn::Error::Diverged { .. } => "a run with other settings needs a new --out",
        _ => "--resume goes on from it",
    };
    anyhow!("{error}; the last good state is {}, {again}", state.display())
}

/// What is run: the arguments of this process, with those of --config in front of its own.
static COMMAND: OnceLock<Vec<String>> = OnceLock::new();
/// The run that is repeated.
static REPEATED: OnceLock<Repeated> = OnceLock::new();

#[derive(Debug)]
struct Repeated {
    /// Its `run.json`.
    run: Value,
    /// Whether all its options stand as they were.
    as_it_was: bool,
}

/// The command as `run.json` keeps it.
pub fn command() -> Vec<String> {
    COMMAND.get().cloned().unwrap_or_else(|| std::env::args().collect())
}

/// The arguments of this process, after those of the run that it repeats and does not replace. `program` knows which options take
/// values.
///
/// # Errors
/// If `--config` names no run, or one of another command.
pub fn arguments(program: &clap::Command) -> Result<Vec<OsString>> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let command = command_of(&typed).and_then(|at| program.find_subcommand(&typed[at]));
    let takes_config = |command: &&clap::Command| command.get_arguments().any(|arg| arg.get_long() == Some("config"));
    let Some((path, command)) = config_of(&typed).zip(command.filter(takes_config)) else {
        let _ = COMMAND.set(words(&typed));
        return Ok(typed);
    };
    let run = read(&path)?;
    let all = repeated(&typed, &run, &path, command)?;
    let own = command_of(&typed).map_or(typed.len(), |at| at + 1);
    let as_it_was = Words::new(&words(&typed[own..]), command).are_of_the_run_alone();
    let _ = REPEATED.set(Repeated { run, as_it_was });
    // what is repeated stands there in full: the file needs not be there again
    let parsed = Words::new(&words(&all)[2..], command);
    let own =
        parsed.options.into_iter().filter(|option| option[0] != "--config" && !option[0].starts_with("--config="));
    let head = words(&all[..2]);
    let _ = COMMAND.set(head.into_iter().chain(parsed.positional).chain(own.flatten()).collect());
    Ok(all)
}

fn words(args: &[OsString]) -> Vec<String> {
    args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// Where the command stands: the first word that is no option. (No option before a command takes a value.)
fn command_of<T: AsRef<std::ffi::OsStr>>(words: &[T]) -> Option<usize> {
    let option = |word: &T| word.as_ref().to_string_lossy().starts_with('-');
    (1..words.len()).find(|&at| !option(&words[at]))
}

/// What stands after a command: its positional words, and each option with its values.
struct Words {
    positional: Vec<String>,
    options: Vec<Vec<String>>,
}

impl Words {
    fn new(words: &[String], command: &clap::Command) -> Self {
        let takes_value = |name: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
            arg.is_some_and(|arg| arg.get_action().takes_values())
        };
        let (mut positional, mut options) = (Vec::new(), Vec::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                None => positional.push(word.clone()),
                Some(name) => {
                    let value = if takes_value(name) { words.next() } else { None };
                    options.push([word].into_iter().chain(value).cloned().collect());
                }
            }
        }
        Self { positional, options }
    }

    /// Whether they say where a run goes and comes from, and nothing of what is run.
    fn are_of_the_run_alone(&self) -> bool {
        let of_the_run = ["--config", "--out", "--resume", "--dry-run", "--json"];
        self.positional.is_empty() && self.options.iter().all(|option| of_the_run.contains(&name_of(option)))
    }
}

/// The name of an option, without its value.
fn name_of(option: &[String]) -> &str {
    option[0].split('=').next().unwrap_or_default()
}

fn config_of(args: &[OsString]) -> Option<PathBuf> {
    let at = args.iter().position(|arg| arg == "--config");
    let next = at.and_then(|at| args.get(at + 1)).map(PathBuf::from);
    let joined = || args.iter().find_map(|arg| arg.to_str()?.strip_prefix("--config=").map(PathBuf::from));
    next.or_else(joined)
}

fn read(path: &Path) -> Result<Value> {
    let file = if path.is_dir() { path.join(RUN_FILE) } else { path.to_owned() };
    let text = json::read_text(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no run.json: it is not JSON", file.display()))
}

/// `fewstep COMMAND`, the options of the earlier run that are not typed now, and those that are.
fn repeated(typed: &[OsString], run: &Value, path: &Path, command: &clap::Command) -> Result<Vec<OsString>> {
    let earlier = run["provenance"]["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let earlier: Vec<String> = earlier.map(str::to_owned).collect();
    let name = run["kind"].as_str().unwrap_or_default();
    let at = command_of(&earlier).filter(|&at| earlier[at] == name);
    let at = at.with_context(|| format!("{} does not say what was run: it is no run.json", path.display()))?;
    let own = command_of(typed)
        .filter(|&at| typed[at] == name)
        .with_context(|| format!("{0} is of `fewstep {name}`: write `fewstep {name} --config {0}`", path.display()))?;
    let (before, now) = (Words::new(&earlier[at + 1..], command), Words::new(&words(&typed[own + 1..]), command));
    // Of the earlier run alone: whether it was resumed, and what it repeated itself (its options stand there already).
    let replaced = |option: &Vec<String>| {
        let name = name_of(option);
        ["--config", "--resume", "--dry-run", "--json"].contains(&name)
            || now.options.iter().any(|other| name_of(other) == name)
    };
    let positional = if now.positional.is_empty() { before.positional } else { Vec::new() };
    let kept = before.options.into_iter().filter(|option| !replaced(option)).flatten();
    let head = [typed[0].clone(), typed[own].clone()];
    let flags = typed[1..own].iter().cloned(); // such as --json
    let all = head.into_iter().chain(positional.into_iter().chain(kept).map(OsString::from));
    Ok(all.chain(flags).chain(typed[own + 1..].iter().cloned()).collect())
}

/// Says so where models or data are not those of the run that is repeated. `now` is of the form of its `run.json`.
pub fn warn_of_changes(now: &Value) {
    let Some(earlier) = REPEATED.get() else { return };
    let mut others = Vec::new();
    changed_hashes(&earlier.run, now, &mut others);
    if !others.is_empty() {
        ui::note(format!("warning: not the files of the run that is repeated: {}", others.join(", ")));
    }
}

/// A new run folder with its `run.json`.
pub fn create<T: Serialize + DeserializeOwned>(out: &Path, run: &T) -> Result<RunFolder> {
    let folder = RunFolder::create(out)?;
    folder.write_json(RUN_FILE, run)?;
    let now = serde_json::to_value(run)?;
    warn_of_changes(&now);
    warn_of_defaults::<T>(&now)?;
    Ok(folder)
}

/// Says so where a run that is repeated with the same options is another all the same, as this version has other defaults.
fn warn_of_defaults<T: Serialize + DeserializeOwned>(now: &Value) -> Result<()> {
    let Some(earlier) = REPEATED.get().filter(|earlier| earlier.as_it_was) else { return Ok(()) };
    // as this version understands it: what its file does not say had a meaning, too
    let Ok(earlier) = serde_json::from_value::<T>(earlier.run.clone()) else { return Ok(()) };
    let mut others = Vec::new();
    changed_settings(&serde_json::to_value(earlier)?["task"]["settings"], &now["task"]["settings"], "", &mut others);
    if !others.is_empty() {
        ui::note(format!(
            "warning: not the settings of the run that is repeated, of an earlier version: {}",
            others.join(", ")
        ));
    }
    Ok(())
}

/// The settings that differ, by their place, with both values.
fn changed_settings(earlier: &Value, now: &Value, place: &str, found: &mut Vec<String>) {
    match (earlier, now) {
        (Value::Object(before), Value::Object(after)) if before.keys().eq(after.keys()) => {
            for ((key, value), other) in before.iter().zip(after.values()) {
                let dot = if place.is_empty() { "" } else { "." };
                changed_settings(value, other, &format!("{place}{dot}{key}"), found);
            }
        }
        _ if earlier == now => {}
        _ => found.push(format!("{place} {now} (was {earlier})")),
    }
}

/// What hashes differ of, by the name that stands beside them if there is one.
fn changed_hashes(earlier: &Value, now: &Value, found: &mut Vec<String>) {
    match (earlier, now) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let Some(other) = after.get(key) else { continue };
                // `model_sha256` is of `model`, a plain `sha256` of `name`
                let what = key.strip_suffix("_sha256").or((key == "sha256").then_some("name"));
                match what {
                    Some(what) if value != other => {
                        let named = after.get(what).and_then(Value::as_str).unwrap_or(what);
                        found.push(format!("{named} (its SHA-256 differs)"));
                    }
                    _ => changed_hashes(value, other, found),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            before.iter().zip(after).for_each(|(before, after)| changed_hashes(before, after, found));
        }
        _ => {}
    }
}

/// Opens the folder of an earlier run of this kind and its `run.json`.
pub fn reopen<T: DeserializeOwned>(out: &Path, kind: &str) -> Result<(RunFolder, T)> {
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

    fn split(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn command() -> clap::Command {
        let value = |name: &'static str| clap::Arg::new(name).long(name);
        let flag = |name: &'static str| value(name).action(clap::ArgAction::SetTrue);
        let command = clap::Command::new("fit").arg(clap::Arg::new("what"));
        let values = ["config", "steps", "model", "out", "gamma"].map(value);
        command.args(values).args(["resume", "xflip", "dry-run"].map(flag))
    }

    #[test]
    fn typed_options_come_after_the_earlier_ones_that_they_leave() {
        let earlier =
            "bin/fewstep --json fit --config a.json --steps 3,5 --model=fit --xflip all --resume --out a --gamma -1";
        let earlier: Vec<&str> = earlier.split(' ').collect();
        let run = serde_json::json!({ "kind": "fit", "provenance": { "command": earlier } });
        let repeated = |typed: &str| repeated(&split(typed), &run, Path::new("run.json"), &command());
        let all = repeated("fewstep fit --config run.json --out=b --steps 4").unwrap();
        assert_eq!(all, split("fewstep fit all --model=fit --xflip --gamma -1 --config run.json --out=b --steps 4"));
        let all = repeated("fewstep --json fit other --config run.json --out fit").unwrap();
        let expected =
            "fewstep fit --steps 3,5 --model=fit --xflip --gamma -1 --json other --config run.json --out fit";
        assert_eq!(all, split(expected));
        let error = repeated("fewstep train --config run.json --out fit").unwrap_err();
        assert!(error.to_string().contains("fewstep fit --config run.json"), "{error}");
    }

    #[test]
    fn settings_that_changed_are_named_where_nothing_was_typed() {
        let settings = |critic: f64| serde_json::json!({ "lr": 1, "weights": { "rollout": { "critic": critic } } });
        let mut found = Vec::new();
        changed_settings(&settings(0.0), &settings(0.3), "", &mut found);
        assert_eq!(found, ["weights.rollout.critic 0.3 (was 0.0)"]);
        changed_settings(&settings(0.3), &settings(0.3), "", &mut found);
        assert_eq!(found.len(), 1);
        let typed = |text: &str| Words::new(&words(&split(text)), &command()).are_of_the_run_alone();
        assert!(typed("--config run.json --out=b --resume") && !typed("--config a --gamma 2") && !typed("all --out b"));
    }

    #[test]
    fn changed_files_are_named() {
        let run = |hash: &str| {
            serde_json::json!({
                "task": { "model": "m.pkl", "model_sha256": hash, "models": [{ "name": "n", "sha256": hash }], "lr": hash }
            })
        };
        let mut found = Vec::new();
        changed_hashes(&run("a"), &run("b"), &mut found);
        assert_eq!(found, ["m.pkl (its SHA-256 differs)", "n (its SHA-256 differs)"]);
        found.clear();
        changed_hashes(&run("a"), &run("a"), &mut found);
        assert!(found.is_empty());
    }
}
