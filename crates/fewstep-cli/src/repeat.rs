//! Where a run goes, and what it takes from an earlier one: `--out`, `--resume`, `--config`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use fewstep::features::FeatureOptions;
use fewstep::runs::{RunOptions, Task, differences};
use fewstep_io::json;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_nn::Ranks;
use serde_json::Value;

use crate::ui;

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

impl RunArgs {
    /// As the library takes them, for these processes.
    pub fn options(&self, ranks: Ranks) -> RunOptions {
        RunOptions { out: self.out.clone(), resume: self.resume, command: command(), ranks }
    }
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

/// The arguments `typed`, after those of the run that it repeats and does not replace. `program` knows which options take
/// values.
///
/// # Errors
/// If `--config` names no run, or one of another command.
pub fn arguments(program: &clap::Command, typed: Vec<OsString>) -> Result<Vec<OsString>> {
    let command = command_of(&typed).and_then(|at| program.find_subcommand(&typed[at]));
    let takes_config = |command: &&clap::Command| command.get_arguments().any(|arg| arg.get_long() == Some("config"));
    let Some((path, command)) = config_of(&typed).zip(command.filter(takes_config)) else {
        let _ = COMMAND.set(words(&typed));
        return Ok(typed);
    };
    let run = read(&path)?;
    let all = repeated(&typed, &run, &path, command)?;
    let own = command_of(&typed).map_or(typed.len(), |at| at + 1);
    let as_it_was = CommandLine::new(&words(&typed[own..]), command).are_of_the_run_alone();
    let _ = REPEATED.set(Repeated { run, as_it_was });
    // what is repeated stands there in full: the file needs not be there again
    let parsed = CommandLine::new(&words(&all)[2..], command);
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
struct CommandLine {
    positional: Vec<String>,
    options: Vec<Vec<String>>,
}

impl CommandLine {
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

/// The value of an option; empty where it takes none.
fn value_of(option: &[String]) -> &str {
    match option.get(1) {
        Some(value) => value,
        None => option[0].split_once('=').map_or("", |(_, value)| value),
    }
}

/// The first feature network, of those that `option` names, that is a program.
fn feature_program(option: &[String]) -> Option<&str> {
    let names = if name_of(option) == "--features" { value_of(option) } else { "" };
    names.split(',').map(str::trim).find(|name| FeatureOptions::is_program(name))
}

/// The name of an option, with that of the setting where it is one of many.
fn what_it_says(option: &[String]) -> (&str, &str) {
    let (name, value) = (name_of(option), value_of(option));
    (name, if name == "--set" { value.split('=').next().unwrap_or_default() } else { "" })
}

fn config_of(args: &[OsString]) -> Option<PathBuf> {
    let at = args.iter().position(|arg| arg == "--config");
    let next = at.and_then(|at| args.get(at + 1)).map(PathBuf::from);
    let joined = || args.iter().find_map(|arg| arg.to_str()?.strip_prefix("--config=").map(PathBuf::from));
    next.or_else(joined)
}

fn read(path: &Path) -> Result<Value> {
    let file = if path.is_dir() { path.join(RUN_FILE) } else { path.to_owned() };
    let text = json::read_text(&file)?;
    serde_json::from_str(&text).with_context(|| format!("{} is no run.json: it is not JSON", file.display()))
}

/// `fewstep COMMAND`, the options of the earlier run that are not typed now, and those that are. What lets a program run is
/// typed anew: a `run.json` may be someone else's.
fn repeated(typed: &[OsString], run: &Value, path: &Path, command: &clap::Command) -> Result<Vec<OsString>> {
    let earlier = run["provenance"]["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let earlier: Vec<String> = earlier.map(str::to_owned).collect();
    let kind = run["kind"].as_str().unwrap_or_default();
    // `fit` on a model that cannot be tuned is a run of `plan`
    let are_of = |word: &str| word == kind || (kind == "plan" && word == "fit");
    let at = command_of(&earlier).filter(|&at| are_of(&earlier[at]));
    let at = at.with_context(|| format!("{} does not say what was run: it is no run.json", path.display()))?;
    let name = &earlier[at];
    let own = command_of(typed)
        .filter(|&at| typed[at] == **name)
        .with_context(|| format!("{0} is of `fewstep {name}`: write `fewstep {name} --config {0}`", path.display()))?;
    let (before, now) =
        (CommandLine::new(&earlier[at + 1..], command), CommandLine::new(&words(&typed[own + 1..]), command));
    let typed_now = |name: &str| now.options.iter().any(|option| name_of(option) == name);
    // a run that goes on does so where it stands now, as folders are copied and moved
    let own_folder = typed_now("--resume") && !typed_now("--out");
    // of the earlier run alone: whether it was resumed, and what it repeated itself (its options stand there already)
    let replaced = |option: &Vec<String>| {
        (own_folder && name_of(option) == "--out")
            || ["--config", "--resume", "--dry-run", "--json", "--trust"].contains(&name_of(option))
            || now.options.iter().any(|other| what_it_says(other) == what_it_says(option))
    };
    let positional = if now.positional.is_empty() { before.positional } else { Vec::new() };
    let kept: Vec<Vec<String>> = before.options.into_iter().filter(|option| !replaced(option)).collect();
    if let Some(program) = kept.iter().find_map(|option| feature_program(option)) {
        bail!(
            "{} would run the TorchScript program {program}, which can do whatever you can. If you trust its file, type --features again",
            path.display()
        );
    }
    let head = [typed[0].clone(), typed[own].clone()];
    let flags = typed[1..own].iter().cloned(); // such as --json
    let out = if own_folder { vec!["--out".into(), folder_of(path).into_os_string()] } else { Vec::new() };
    let all = head.into_iter().chain(positional.into_iter().chain(kept.into_iter().flatten()).map(OsString::from));
    Ok(all.chain(out).chain(flags).chain(typed[own + 1..].iter().cloned()).collect())
}

/// The folder of the run that `--config` names by its folder or its `run.json`.
fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Says so where a task is not that of the run that is repeated: other files under the names of old, or other settings where nothing
/// new was typed, as this version has other defaults.
pub fn warn_of_changes<T: Task>(task: &T) -> Result<()> {
    let Some(earlier) = REPEATED.get() else { return Ok(()) };
    let now = serde_json::to_value(task)?;
    let mut files = Vec::new();
    changed_hashes(&earlier.run["task"], &now, &mut files);
    if !files.is_empty() {
        ui::note(format!("warning: not the files of the run that is repeated: {}", files.join(", ")));
    }
    // as this version understands it: what its file does not say had a meaning, too
    let Ok(task) = serde_json::from_value::<T>(earlier.run["task"].clone()) else { return Ok(()) };
    let settings = differences(&serde_json::to_value(task)?["settings"], &now["settings"]);
    if earlier.as_it_was && !settings.is_empty() {
        ui::note(format!(
            "warning: not the settings of the run that is repeated, of an earlier version: {}",
            settings.join(", ")
        ));
    }
    Ok(())
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

    /// `fit` leaves a run of `plan` where nothing can be tuned.
    #[test]
    fn a_fit_that_tuned_nothing_is_repeated_as_it_was_typed() {
        let run = serde_json::json!({ "kind": "plan", "provenance": { "command": ["fewstep", "fit", "all", "--steps", "3"] } });
        let repeated = |typed: &str| repeated(&split(typed), &run, Path::new("run.json"), &command());
        let all = repeated("fewstep fit --config run.json --out b").unwrap();
        assert_eq!(all, split("fewstep fit all --steps 3 --config run.json --out b"));
        assert!(repeated("fewstep plan --config run.json --out b").is_err());
    }

    #[test]
    fn single_settings_replace_those_of_the_same_name_alone() {
        let earlier = ["fewstep", "fit", "--set", "a.b=1", "--set=c.d=2", "--set", "e=3", "--out", "a"];
        let run = serde_json::json!({ "kind": "fit", "provenance": { "command": earlier } });
        let typed = split("fewstep fit --config run.json --out b --set=c.d=9");
        let all =
            repeated(&typed, &run, Path::new("run.json"), &command().arg(clap::Arg::new("set").long("set"))).unwrap();
        assert_eq!(all, split("fewstep fit --set a.b=1 --set e=3 --config run.json --out b --set=c.d=9"));
    }

    #[test]
    fn a_run_that_is_repeated_as_it_was_types_nothing_of_what_is_run() {
        let typed = |text: &str| CommandLine::new(&words(&split(text)), &command()).are_of_the_run_alone();
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
