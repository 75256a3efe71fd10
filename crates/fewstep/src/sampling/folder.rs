//! A folder of PNGs that knows which sampler filled it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fewstep_core::plan::Plan;
use fewstep_io::atomic::Batch;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, dataset::Images, png};
use fewstep_nn::Ranks;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result, ensure};
use crate::models::ModelId;
use crate::runs::{Lock, ResumeError, Run, RunOptions, Task};

/// PNGs in a subfolder, as the EDM code has it.
const SUBFOLDER: u64 = 1000;

/// What the pixels of an image depend on besides its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleTask {
    /// The model.
    pub model: ModelId,
    /// The class of all, where one was asked for.
    #[serde(default)]
    pub class: Option<usize>,
    /// SHA-256 of the file that latents come from.
    #[serde(default)]
    pub latents_sha256: Option<String>,
    /// Whether PNGs lie in subfolders of 1000.
    pub subdirs: bool,
    /// The sampler.
    pub plan: Plan,
}

/// Which samples are made may change; how they are made may not.
impl Task for SampleTask {
    const KIND: &'static str = "sample";

    fn continuing(self, earlier: Self) -> std::result::Result<Self, ResumeError> {
        let parts = [
            ("model, its precision or guidance", !self.model.same(&earlier.model)),
            ("plan", self.plan != earlier.plan),
            ("class", self.class != earlier.class),
            ("latents", self.latents_sha256 != earlier.latents_sha256),
            ("subfolders", self.subdirs != earlier.subdirs),
        ];
        let differ: Vec<&str> = parts.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect();
        if differ.is_empty() {
            Ok(self)
        } else {
            Err(ResumeError(format!("it is of another sampler (other {})", differ.join(", "))))
        }
    }
}

/// Between two waits for the disk: a power cut loses no more than this.
const SYNC: Duration = Duration::from_secs(1);

/// The folder.
#[derive(Debug)]
pub struct SampleFolder {
    run: Run<SampleTask>,
    /// Subfolders that are there.
    subfolders: BTreeSet<String>,
    /// Files since the last wait for the disk.
    written: Batch,
    synced: Instant,
    /// Images that this run has written, those of a batch that failed half-way among them.
    made: AtomicUsize,
}

impl SampleFolder {
    /// A new folder, or an old one to go on with or to start again.
    ///
    /// # Errors
    /// If it holds something else, or another run goes on in it.
    pub fn open(task: SampleTask, options: &RunOptions, overwrite: bool) -> Result<Self> {
        let out = &options.out;
        let is_run = out.join(RUN_FILE).exists();
        if overwrite && is_run {
            clear(out)?;
        }
        let resume = options.resume && is_run;
        // the first process alone has a folder of samples
        let run = Run::start(task, &RunOptions { resume, ranks: Ranks::alone(), ..options.clone() });
        let run = run.map_err(|error| match error {
            Error::File(fewstep_io::Error::RunFolderExists { path }) => Error::Input(format!(
                "the folder {} already holds files: choose another one; --resume goes on with a folder of samples, --overwrite \
                 starts it again",
                path.display()
            )),
            other => other,
        })?;
        let written = Batch::new();
        Ok(Self { run, subfolders: BTreeSet::new(), written, synced: Instant::now(), made: AtomicUsize::new(0) })
    }

    /// Whether the image of this number is there, whole: what a power cut left of one is not.
    pub fn has(&self, number: u64) -> bool {
        self.run.resumed && png::is_whole(self.run.folder.file(&self.name(number)))
    }

    /// Writes images under their numbers, on all processors.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn take(&mut self, numbers: &[u64], images: &Images) -> Result<()> {
        if self.run.file.task.subdirs {
            for name in numbers.iter().map(|&number| subfolder(number)) {
                if !self.subfolders.contains(&name) {
                    self.run.folder.subfolder(&name)?;
                    self.subfolders.insert(name);
                }
            }
        }
        let pngs: Vec<(usize, PathBuf)> =
            numbers.iter().map(|&number| self.run.folder.file(&self.name(number))).enumerate().collect();
        let write = &|part: &[(usize, PathBuf)]| -> fewstep_io::Result<()> {
            part.iter().try_for_each(|(index, path)| {
                let pixels = images.image(*index).unwrap_or_default();
                self.written.write(path, &png::encode(pixels, images.channels, images.height, images.width)?)?;
                self.made.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let parts = pngs.chunks(pngs.len().div_ceil(threads).max(1));
            let workers: Vec<_> = parts.map(|part| scope.spawn(move || write(part))).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        if self.synced.elapsed() >= SYNC {
            std::mem::take(&mut self.written).finish()?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// What to say of a run that failed and found so many of its images there. They and its own stay, and so does all of a folder
    /// that it went on with, whose other images are not counted here. What it began and left empty goes.
    pub fn abandon(self, error: Error, found: usize) -> Error {
        let images = found + self.made.load(Ordering::Relaxed);
        let out = self.run.folder.path().to_owned();
        if images > 0 {
            // synced as far as it goes: the error at hand is the one to tell
            let _ = self.written.finish();
            let what = error.sentence();
            let reason = format!("{what}; {images} samples were made before and are kept in {}", out.display());
            return match error {
                Error::Network(fewstep_nn::Error::Process { code, .. }) => {
                    fewstep_nn::Error::Process { reason, code }.into()
                }
                _ => Error::Input(reason),
            };
        }
        if !self.run.resumed {
            for name in &self.subfolders {
                let _ = std::fs::remove_dir(out.join(name));
            }
            let _ = std::fs::remove_file(out.join(RUN_FILE));
            let _ = std::fs::remove_dir(&out);
        }
        error
    }

    /// Returns when all images are on the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self) -> Result<()> {
        Ok(self.written.finish()?)
    }

    fn name(&self, number: u64) -> String {
        if self.run.file.task.subdirs {
            format!("{}/{number:06}.png", subfolder(number))
        } else {
            format!("{number:06}.png")
        }
    }
}

fn subfolder(number: u64) -> String {
    format!("{:06}", number - number % SUBFOLDER)
}

/// Removes what an earlier run left, and nothing else.
fn clear(path: &Path) -> Result<()> {
    let _lock = Lock::take(path)?;
    let folder = RunFolder::open_existing(path)?;
    let run: serde_json::Value = folder.read_json(RUN_FILE)?;
    ensure!(
        run["kind"] == SampleTask::KIND,
        "{} is not a folder of samples, so it is not overwritten: choose another folder",
        path.display()
    );
    let is_number = |name: &str| name.len() >= 6 && name.bytes().all(|byte| byte.is_ascii_digit());
    let is_png = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        path.extension().is_some_and(|extension| extension == "png") && is_number(stem)
    };
    let remove_pngs = |folder: &Path| -> std::io::Result<()> {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if is_png(&path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    };
    let failed = || format!("cannot clear the folder {}", path.display());
    remove_pngs(path).with_context(failed)?;
    for entry in path.read_dir().with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.path().is_dir() && is_number(&entry.file_name().to_string_lossy()) {
            remove_pngs(&entry.path()).with_context(failed)?;
            // One that holds anything else stays, and with it the complaint that the folder is not empty.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    std::fs::remove_file(path.join(RUN_FILE)).with_context(failed)
}
