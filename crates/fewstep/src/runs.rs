//! The run store: folders that hold what is needed to repeat, resume and report a run.
//!
//! A run folder belongs to one process at a time. Its `run.json` says what the run is now: a resumed run compares its task with the one
//! that is there, whole, and writes down what it has become.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fewstep_io::run_folder::RUN_FILE;
pub use fewstep_io::run_folder::check_free;
use fewstep_io::{RunFolder, atomic, json};
use fewstep_nn::Ranks;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;

use crate::data::has_extension;
use crate::describe::printable;
use crate::error::{Context, Error, Result, bail, ensure};
use crate::provenance::Provenance;

/// Name of the page, in the run folder.
pub const REPORT: &str = "report.html";

/// Where a run goes.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Its folder: a new one, or with `resume` that of an earlier run.
    pub out: PathBuf,
    /// Whether to go on with the run that is there.
    pub resume: bool,
    /// The command that repeats the run, for its `run.json`.
    pub command: Vec<String>,
    /// The processes that run it together.
    pub ranks: Ranks,
}

/// What a run is to do, whole: everything that its outcome depends on.
pub trait Task: Serialize + DeserializeOwned {
    /// Name of the command, in `run.json`.
    const KIND: &'static str;

    /// The name of this task's command, where several share a form.
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    /// Whether tasks of this form are of the command `kind`.
    fn is_kind(kind: &str) -> bool {
        kind == Self::KIND
    }

    /// The task of a run that goes on from one with the task `earlier`.
    ///
    /// # Errors
    /// Why it cannot go on.
    fn continuing(self, earlier: Self) -> std::result::Result<Self, ResumeError>;

    /// The command that repeats this task whole, which `command` has gone on with, and `earlier` before.
    fn command(&self, _earlier: &[String], command: &[String]) -> Vec<String> {
        command.to_vec()
    }
}

/// Why a run cannot go on from an earlier one, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResumeError(pub String);

/// `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunFile<T> {
    /// Name of the command.
    pub kind: String,
    /// Version, command, time and threads.
    pub provenance: Provenance,
    /// What the run does.
    pub task: T,
}

/// A run folder that this process works in, until it is dropped.
///
/// Of several processes the first works in the folder that was asked for. Every other has one of its own, which goes with it: it does the
/// same and writes the same, and nobody reads it but itself. An earlier run is there in both, in the others' as links.
#[derive(Debug)]
pub struct Run<T> {
    /// The folder.
    pub folder: RunFolder,
    /// Its `run.json`.
    pub file: RunFile<T>,
    /// Whether it goes on from an earlier run.
    pub resumed: bool,
    _place: Place,
}

/// What keeps others out of a run's folder.
#[derive(Debug)]
enum Place {
    /// A lock, of the first process.
    Locked { _lock: Lock },
    /// A folder that nobody knows, of another; it is removed.
    Own { _folder: TempDir },
}

impl<T: Task> Run<T> {
    /// A new run in an empty folder, or the one that is there to go on with.
    ///
    /// # Errors
    /// If the folder holds something else, another process works in it, or the run that is there cannot go on with this task.
    pub fn start(task: T, options: &RunOptions) -> Result<Self> {
        let ranks = &options.ranks;
        ranks.check_same("task", &serde_json::to_string(&task)?)?;
        let first = if ranks.is_first() { Some(Self::start_first(task, options)?) } else { None };
        // the first process has made sure of the folder, and what it holds does not change until all have seen it
        let (file, resumed): (Value, bool) = ranks.from_first(|| match &first {
            Some(run) => Ok::<_, Error>((serde_json::to_value(&run.file)?, run.resumed)),
            None => bail!("the first process has no run"),
        })?;
        let run = match first {
            Some(run) => run,
            None => Self::start_beside(&file, resumed, &options.out)?,
        };
        ranks.wait()?;
        Ok(run)
    }

    /// In a folder of this process's own, beside the first's at `out`.
    fn start_beside(file: &Value, resumed: bool, out: &Path) -> Result<Self> {
        let own = tempfile::tempdir()?;
        let folder = RunFolder::create(own.path().join("run"))?;
        if resumed {
            link_all(&std::path::absolute(out)?, folder.path()).with_context(|| {
                format!("{} cannot be read here: its disk must be one that all processes see", out.display())
            })?;
        }
        let file: RunFile<T> = serde_json::from_value(file.clone())?;
        folder.write_json(RUN_FILE, &file)?;
        Ok(Self { folder, file, resumed, _place: Place::Own { _folder: own } })
    }

    fn start_first(task: T, options: &RunOptions) -> Result<Self> {
        let RunOptions { out, resume, command, .. } = options;
        if !resume {
            // locked before it is looked into: another run may begin there at the same time
            atomic::make_folder(out)?;
            let lock = Lock::take(out)?;
            let folder = RunFolder::create(out)?;
            let file = RunFile { kind: task.kind().to_owned(), provenance: Provenance::now(command), task };
            folder.write_json(RUN_FILE, &file)?;
            return Ok(Self { folder, file, resumed: false, _place: Place::Locked { _lock: lock } });
        }
        let lock = Lock::take(RunFolder::open_to_read(out)?.path())?;
        let folder = RunFolder::open_existing(out)?;
        let earlier: RunFile<T> = read_file(&folder)?;
        let task = task.continuing(earlier.task).map_err(|why| {
            Error::Input(format!(
                "the run in {} cannot go on so: {why}; repeat what it was started with, or choose a new --out",
                out.display()
            ))
        })?;
        let provenance = Provenance::now(&task.command(&earlier.provenance.command, command));
        let file = RunFile { kind: task.kind().to_owned(), provenance, task };
        folder.write_json(RUN_FILE, &file)?;
        Ok(Self { folder, file, resumed: true, _place: Place::Locked { _lock: lock } })
    }
}

/// Makes `to` look like the folder `from`: links to its files, which are replaced whole when they are written anew, and copies of logs,
/// which grow.
fn link_all(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in from.read_dir()? {
        let entry = entry?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            std::fs::create_dir_all(&place)?;
            link_all(&path, &place)?;
        } else if has_extension(&path, "jsonl") {
            std::fs::copy(&path, &place)?;
        } else {
            link(&path, &place)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(from, to).map(|_| ())
}

/// `run.json` of a folder, of a run of this kind.
///
/// # Errors
/// If there is none, or it is of another command or version.
pub fn read_file<T: Task>(folder: &RunFolder) -> Result<RunFile<T>> {
    let run: Value = folder.read_json(RUN_FILE)?;
    ensure!(
        run["kind"].as_str().is_some_and(T::is_kind),
        "{} is the folder of `fewstep {}`, not of `fewstep {}`: choose another --out",
        folder.path().display(),
        printable(run["kind"].as_str().unwrap_or("something else")),
        T::KIND
    );
    serde_json::from_value(run).with_context(|| {
        format!("{} cannot be understood by this version: was it written by another?", folder.file(RUN_FILE).display())
    })
}

/// A folder that no other process may work in meanwhile.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The folder itself is locked, so that nothing stays when the process is killed. None where the file system has no locks.
    _folder: Option<File>,
}

impl Lock {
    /// Refuses a folder that another process works in.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let Ok(folder) = File::open(path) else { return Ok(Self { _folder: None }) };
        match folder.try_lock() {
            Ok(()) => Ok(Self { _folder: Some(folder) }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(_)) => Ok(Self { _folder: None }),
        }
    }
}

/// An error of work that saves its state in a file, with what there is to go on from. What diverged does so again: updates are
/// repeated to the bit, so that nothing is gained by going on with the same settings.
pub fn failed(error: fewstep_nn::Error, state: &Path, ranks: &Ranks) -> Error {
    // another process's failure is told as it is, and the first process alone has a state
    if matches!(error, fewstep_nn::Error::Process { .. }) || !ranks.is_first() {
        return error.into();
    }
    let what = error.to_string();
    if !state.exists() {
        return Error::Input(format!("{what}; no state was saved yet"));
    }
    let again = match error {
        fewstep_nn::Error::Diverged { .. } => "a run with other settings needs a new --out",
        _ => "--resume goes on from it",
    };
    Error::Input(format!("{what}; the last good state is {}, {again}", state.display()))
}

/// JSON of an earlier run, if it is there.
///
/// # Errors
/// If it is damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = json::read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = serde_json::from_str(&text);
    Ok(Some(value.with_context(|| format!("{} is damaged; remove it to do that part anew", path.display()))?))
}

/// A drawn image that a run's results name, for its page; empty where somebody removed it.
///
/// # Errors
/// If it is not one of the folder's own.
pub fn read_image(folder: &RunFolder, name: &Path) -> Result<Vec<u8>> {
    match folder.read(name) {
        Err(fewstep_io::Error::Missing { .. }) => Ok(Vec::new()),
        read => Ok(read?),
    }
}

/// Removes a file that is of no use any more, if it is there.
///
/// # Errors
/// If it is there and cannot be removed.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A name for files.
pub fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// The places at which two JSON values differ, such as `settings.batch`, with both values.
pub fn differences(earlier: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(earlier, now, "", &mut found);
    found
}

fn compare(earlier: &Value, now: &Value, place: &str, found: &mut Vec<String>) {
    match (earlier, now) {
        (Value::Object(before), Value::Object(after)) => {
            let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let dot = if place.is_empty() { "" } else { "." };
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(&of(before), &of(after), &format!("{place}{dot}{key}"), found);
            }
        }
        _ if earlier == now => {}
        _ => found.push(format!("{place} {now} (was {earlier})")),
    }
}

/// The sentence about what differs between a task and the one that a run was started with; none where nothing does.
pub fn what_differs<T: Serialize>(earlier: &T, now: &T) -> Option<ResumeError> {
    let value = |task: &T| serde_json::to_value(task).unwrap_or(Value::Null);
    let found = differences(&value(earlier), &value(now));
    (!found.is_empty()).then(|| ResumeError(found.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Add {
        to: u64,
        rate: f64,
    }

    impl Task for Add {
        const KIND: &'static str = "add";

        fn continuing(self, earlier: Self) -> std::result::Result<Self, ResumeError> {
            match what_differs(&Self { to: self.to, ..earlier }, &self) {
                Some(what) => Err(what),
                None => Ok(self),
            }
        }
    }

    fn options(out: &Path, resume: bool) -> RunOptions {
        let command = vec!["fewstep".to_owned(), "add".to_owned()];
        RunOptions { out: out.to_owned(), resume, command, ranks: Ranks::alone() }
    }

    #[test]
    fn a_resumed_run_says_what_it_is_now_and_only_goes_on_with_its_own_task() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("run");
        let start = |to: u64, rate: f64, resume: bool| Run::start(Add { to, rate }, &options(&out, resume));
        assert!(start(1, 0.5, true).unwrap_err().to_string().contains("not a run folder"));
        drop(start(1, 0.5, false).unwrap());
        assert!(start(1, 0.5, false).unwrap_err().to_string().contains("--resume"));
        let error = start(2, 0.25, true).unwrap_err().to_string();
        assert!(error.contains("rate 0.25 (was 0.5)"), "{error}");
        let run = start(2, 0.5, true).unwrap();
        assert!(run.resumed);
        drop(run);
        let file: RunFile<Add> = read_file(&RunFolder::open_to_read(&out).unwrap()).unwrap();
        assert_eq!(file.task, Add { to: 2, rate: 0.5 });
    }

    #[test]
    fn a_folder_belongs_to_one_run_at_a_time() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("run");
        let first = Run::start(Add { to: 1, rate: 0.5 }, &options(&out, false)).unwrap();
        let error = Run::start(Add { to: 1, rate: 0.5 }, &options(&out, true)).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        drop(first);
        assert!(Run::start(Add { to: 1, rate: 0.5 }, &options(&out, true)).is_ok());
    }

    /// Two that begin at once: the second has to see what the first has made of the folder.
    #[test]
    fn a_new_run_looks_into_its_folder_when_it_has_locked_it() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("run");
        std::fs::create_dir(&out).unwrap();
        let lock = Lock::take(&out).unwrap();
        let error = Run::start(Add { to: 1, rate: 0.5 }, &options(&out, false)).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        std::fs::write(out.join(RUN_FILE), "{}").unwrap();
        let error = Run::start(Add { to: 1, rate: 0.5 }, &options(&out, false)).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "what it holds is not read before: {error}");
        drop(lock);
        let error = Run::start(Add { to: 1, rate: 0.5 }, &options(&out, false)).unwrap_err();
        assert!(matches!(error, Error::File(fewstep_io::Error::RunFolderExists { .. })), "{error}");
    }

    #[test]
    fn differences_are_named_by_their_place() {
        let value = |critic: f64| serde_json::json!({ "lr": 1, "tune": { "rollout": { "critic": critic } } });
        assert_eq!(differences(&value(0.0), &value(0.3)), ["tune.rollout.critic 0.3 (was 0.0)"]);
        assert!(differences(&value(0.3), &value(0.3)).is_empty());
        assert_eq!(differences(&serde_json::json!({}), &serde_json::json!({ "a": 1 })), ["a 1 (was null)"]);
    }
}
