//! Run folders: everything a run leaves, written so that a kill at any moment loses at most the last line of a log.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::safetensors::{self, Metadata};
use crate::tensors::TensorMap;
use crate::{Error, Result, atomic, json};

mod log;

/// The file that makes a folder a run folder.
pub const RUN_FILE: &str = "run.json";

const FORMAT: &str = "run file";

/// Longest file of a folder that is read whole: results of a run, images that it drew.
const MOST_BYTES: u64 = 256 << 20;

/// Refuses a folder that a new run cannot have. A run that was killed while it wrote its first file may have left it unfinished, under a
/// hidden name: a folder with no other file in it is as good as an empty one.
///
/// # Errors
/// [`Error::RunFolderExists`] if it holds anything else.
pub fn check_free(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if path.is_dir() && atomic::holds_files(path)? {
        return Err(Error::RunFolderExists { path: path.to_owned() });
    }
    Ok(())
}

/// A folder that belongs to one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes a new folder (and its parents), or takes an existing one that is [free](check_free); unfinished files that a kill left in it
    /// are removed.
    ///
    /// # Errors
    /// [`Error::RunFolderExists`] if there is anything in it already.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        atomic::make_folder(&path)?;
        check_free(&path)?;
        atomic::sweep(&path)?;
        Ok(RunFolder { path })
    }

    /// Opens the folder of an earlier run, to go on with it, and removes unfinished files that a kill left in it.
    ///
    /// # Errors
    /// [`Error::NotARunFolder`] if it holds no `run.json`.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self> {
        let folder = Self::open_to_read(path)?;
        atomic::sweep(&folder.path)?;
        Ok(folder)
    }

    /// Opens the folder of a run that may still be going on: its unfinished files stay.
    ///
    /// # Errors
    /// As [`RunFolder::open_existing`].
    pub fn open_to_read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        if path.join(RUN_FILE).is_file() { Ok(RunFolder { path }) } else { Err(Error::NotARunFolder { path }) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether a file of that name is there.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Path of a file that the run's own results name: somebody else may have made the folder, and what is read of it goes into a page.
    /// (A link is followed: a run of several processes has links to its files in their folders.)
    ///
    /// # Errors
    /// [`Error::NotInside`] if it is not relative to the folder or leaves it, is no regular file, as a device or a pipe, which has no end,
    /// or is longer than any that a run leaves; [`Error::Missing`] if there is none.
    pub fn inside(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let name = name.as_ref();
        match self.regular(name)? {
            (_, length) if length > MOST_BYTES => Err(self.refused(name, "is far longer than what a run leaves")),
            (path, _) => Ok(path),
        }
    }

    /// Path and length of a regular file inside the folder.
    fn regular(&self, name: &Path) -> Result<(PathBuf, u64)> {
        if name.as_os_str().is_empty() || !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(self.refused(name, "is not a file inside it"));
        }
        let path = self.path.join(name);
        match fs::metadata(&path).map_err(|e| Error::read(&path, e))? {
            found if !found.is_file() => Err(self.refused(name, "is no regular file")),
            found => Ok((path, found.len())),
        }
    }

    fn refused(&self, name: &Path, reason: &'static str) -> Error {
        Error::NotInside { folder: self.path.clone(), name: name.display().to_string(), reason }
    }

    /// The bytes of a file that the run's own results name.
    ///
    /// # Errors
    /// As [`RunFolder::inside`], and if it cannot be read.
    pub fn read(&self, name: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = self.inside(name)?;
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).map_err(|e| Error::read(&path, e))?;
        file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|e| Error::read(&path, e))?; // it may grow meanwhile
        Ok(bytes)
    }

    /// Makes (or finds) a folder inside, for example `samples`, removes unfinished files that a kill left in it, and gives its path.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.file(name);
        atomic::make_folder(&path)?;
        atomic::sweep(&path)?;
        Ok(path)
    }

    /// Writes a file as indented JSON, replacing an earlier one whole.
    ///
    /// # Errors
    /// As [`atomic::write_json`].
    pub fn write_json<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<()> {
        atomic::write_json(self.file(name), value)
    }

    /// Reads a JSON file.
    ///
    /// # Errors
    /// As [`RunFolder::read`], and if it is no JSON, or is not what `T` needs.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let bytes = self.read(name)?;
        json::parse(&bytes).map_err(|reason| Error::format(FORMAT, self.file(name).display().to_string(), reason))
    }

    /// Appends one line of JSON to a log such as `stats.jsonl`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append_line<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.file(name);
        let failed = |e| Error::write(&path, e);
        let mut line = serde_json::to_vec(value).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        // One write, so that readers of a growing log see whole lines.
        file.write_all(&line).map_err(failed)
    }

    /// Returns when a log's lines are on the disk: before a state is saved that says they were written.
    ///
    /// # Errors
    /// If the disk refuses. A log that is not there is left so.
    pub fn sync_lines(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match OpenOptions::new().append(true).open(&path) {
            Ok(log) => log.sync_all().map_err(|e| Error::write(&path, e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::write(&path, e)),
        }
    }

    /// Cuts a log back to the lines whose whole number `key` is at most `last`, and drops a last line that a kill cut
    /// off: what a resumed run does before it goes on from step `last`. A log that is not there is left so.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn truncate_lines(&self, name: &str, key: &str, last: u64) -> Result<()> {
        let path = self.file(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::read(&path, e)),
        };
        let keep = |line: &&[u8]| {
            let value = serde_json::from_slice::<serde_json::Value>(line).ok();
            value.and_then(|value| value.get(key)?.as_u64()).is_some_and(|step| step <= last)
        };
        let kept: Vec<u8> = text.split_inclusive(|&b| b == b'\n').filter(keep).flatten().copied().collect();
        if kept == text { Ok(()) } else { atomic::write_bytes(&path, &kept) }
    }

    /// Saves the state that a resumed run needs, replacing an earlier one whole.
    ///
    /// # Errors
    /// As [`safetensors::write`].
    pub fn save_state(&self, name: &str, tensors: &TensorMap, metadata: &Metadata) -> Result<()> {
        safetensors::write(self.file(name), tensors, metadata)
    }

    /// Loads what [`RunFolder::save_state`] saved.
    ///
    /// # Errors
    /// As [`safetensors::read`].
    pub fn load_state(&self, name: &str) -> Result<safetensors::File> {
        safetensors::read(self.file(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::TensorData;
    use ::serde_json::{Value, json};

    #[test]
    fn a_new_run_never_overwrites_an_old_one() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("runs/first");
        let run = RunFolder::create(&path).unwrap();
        assert!(matches!(RunFolder::open_existing(&path), Err(Error::NotARunFolder { .. })));
        RunFolder::create(&path).unwrap(); // still empty
        run.write_json(RUN_FILE, &json!({"seed": 1})).unwrap();
        let message = RunFolder::create(&path).unwrap_err().to_string();
        assert!(message.contains("--resume") && message.contains("runs/first"), "{message}");
        let opened = RunFolder::open_existing(&path).unwrap();
        assert_eq!(opened.read_json::<Value>(RUN_FILE).unwrap(), json!({"seed": 1}));
        assert!(RunFolder::create(path.join(RUN_FILE)).is_err());
    }

    /// On file systems where every file has a name from the start.
    #[test]
    fn a_run_that_was_killed_in_its_first_file_starts_again() {
        let base = tempfile::tempdir().unwrap();
        let left = base.path().join(".fewstep-00000000-1-0.tmp"); // of another machine: it may still be written
        for name in [".fewstep-dead.tmp", ".fewstep-00000000-1-0.tmp"] {
            fs::write(base.path().join(name), b"{").unwrap();
        }
        check_free(base.path()).unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        assert!(!run.has(".fewstep-dead.tmp") && left.exists());
        run.write_json(RUN_FILE, &json!({})).unwrap();
        assert!(matches!(check_free(base.path()), Err(Error::RunFolderExists { .. })));
        check_free(base.path().join("none")).unwrap();
    }

    #[test]
    fn resuming_cuts_the_log_back_to_the_saved_step() {
        let base = tempfile::tempdir().unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        run.truncate_lines("stats.jsonl", "step", 0).unwrap();
        assert!(!run.has("stats.jsonl"));
        for step in [1, 2, 3, 4] {
            run.append_line("stats.jsonl", &json!({"step": step, "loss": 0.5})).unwrap();
        }
        fs::write(
            run.file("stats.jsonl"),
            [&fs::read(run.file("stats.jsonl")).unwrap()[..], b"{\"step\": 2, \"lo"].concat(),
        )
        .unwrap();
        run.truncate_lines("stats.jsonl", "step", 2).unwrap();
        run.append_line("stats.jsonl", &json!({"step": 3})).unwrap();
        let text = fs::read_to_string(run.file("stats.jsonl")).unwrap();
        assert_eq!(text, "{\"loss\":0.5,\"step\":1}\n{\"loss\":0.5,\"step\":2}\n{\"step\":3}\n");
    }

    #[test]
    fn files_are_read_inside_the_folder_alone() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("secret"), b"secret").unwrap();
        let run = RunFolder::create(base.path().join("run")).unwrap();
        fs::write(run.subfolder("images").unwrap().join("0.png"), b"png").unwrap();
        assert_eq!(run.read("images/0.png").unwrap(), b"png");
        assert!(matches!(run.read("none.png"), Err(Error::Missing { .. })));
        let absolute = base.path().join("secret");
        let outside =
            ["../secret", "images/../../secret", "/dev/zero", absolute.to_str().unwrap(), "", ".", "images/.."];
        for name in outside {
            let error = run.read(name).unwrap_err();
            assert!(
                matches!(error, Error::NotInside { .. }) && error.to_string().contains("inside"),
                "{name}: {error}"
            );
        }
        assert!(run.read("images").unwrap_err().to_string().contains("no regular file"));
        let long = fs::File::create(run.file("long")).unwrap();
        long.set_len(MOST_BYTES + 1).unwrap();
        assert!(run.read("long").unwrap_err().to_string().contains("far longer"));
        #[cfg(target_os = "linux")]
        {
            std::os::unix::fs::symlink("/dev/zero", run.file(RUN_FILE)).unwrap();
            assert!(matches!(run.read_json::<Value>(RUN_FILE), Err(Error::NotInside { .. })));
        }
    }

    #[test]
    fn state_survives_and_unfinished_files_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        run.write_json(RUN_FILE, &json!({})).unwrap();
        let tensors = TensorMap::from([("ema.w".to_owned(), TensorData::from_f32(&[1], &[2.0]).unwrap())]);
        let metadata = Metadata::from([("step".to_owned(), "7".to_owned())]);
        run.save_state("state.safetensors", &tensors, &metadata).unwrap();
        fs::write(run.file(".fewstep-x1.tmp"), b"half").unwrap();
        fs::write(run.subfolder("cells").unwrap().join(".fewstep-x2.tmp"), b"half").unwrap();
        assert!(RunFolder::open_to_read(base.path()).unwrap().has(".fewstep-x1.tmp"));
        let run = RunFolder::open_existing(base.path()).unwrap();
        assert_eq!(run.subfolder("cells").unwrap().read_dir().unwrap().count(), 0);
        assert!(!run.has(".fewstep-x1.tmp"));
        let state = run.load_state("state.safetensors").unwrap();
        assert_eq!((state.tensors, state.metadata), (tensors, metadata));
        assert!(run.subfolder("samples").unwrap().is_dir());
    }
}
