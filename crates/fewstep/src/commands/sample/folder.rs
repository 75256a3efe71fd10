//! A folder of PNGs that knows which sampler filled it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fewstep_core::plan::Plan;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, dataset::Images, png};
use serde::{Deserialize, Serialize};

use super::Args;
use crate::inputs::Latents;
use crate::provenance::Provenance;

const KIND: &str = "sample";
/// PNGs in a subfolder, as the EDM code has it.
const SUBFOLDER: u64 = 1000;

/// What the pixels of an image depend on besides its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    model_sha256: String,
    class: Option<i64>,
    latents_sha256: Option<String>,
    precision: String,
    subdirs: bool,
    plan: Plan,
}

/// `run.json` of a folder of samples.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    kind: String,
    provenance: Provenance,
    model: String,
    #[serde(flatten)]
    settings: Settings,
}

impl Settings {
    /// What was asked for.
    pub fn new(model_sha256: &str, plan: &Plan, latents: &Latents, args: &Args) -> Self {
        let latents_sha256 = match latents {
            Latents::Seeds { .. } => None,
            Latents::Given { sha256, .. } => Some(sha256.clone()),
        };
        Self {
            model_sha256: model_sha256.to_owned(),
            class: args.latents.class,
            latents_sha256,
            precision: args.compute.precision.clone(),
            subdirs: args.subdirs,
            plan: plan.clone(),
        }
    }
}

/// The folder.
#[derive(Debug)]
pub struct SampleFolder {
    folder: RunFolder,
    subdirs: bool,
    /// Whether this run began it.
    new: bool,
    /// Images that this run wrote.
    written: usize,
}

impl SampleFolder {
    /// A new folder, or an old one to go on with (`--resume`) or to start again (`--overwrite`).
    pub fn open(args: &Args, settings: Settings) -> Result<Self> {
        let subdirs = args.subdirs;
        if args.resume && args.out().join(RUN_FILE).exists() {
            let folder = RunFolder::open_existing(args.out())?;
            let run: Run = folder.read_json(RUN_FILE).with_context(|| foreign(args.out()))?;
            ensure!(
                run.kind == KIND && run.settings == settings,
                "{} was made by another sampler (model, plan, class, precision or --subdirs differ), so it cannot be resumed: \
                 repeat the options in its {RUN_FILE}, or choose another folder",
                args.out().display()
            );
            return Ok(Self { folder, subdirs, new: false, written: 0 });
        }
        if args.overwrite && args.out().join(RUN_FILE).exists() {
            clear(args.out())?;
        }
        ensure!(
            !args.out().is_dir() || args.out().read_dir()?.next().is_none(),
            "the folder {} already holds files: choose another one; --resume goes on with a folder of samples, --overwrite \
             starts it again",
            args.out().display()
        );
        let folder = RunFolder::create(args.out())?;
        let run = Run { kind: KIND.to_owned(), provenance: Provenance::now(), model: args.model.clone(), settings };
        folder.write_json(RUN_FILE, &run)?;
        Ok(Self { folder, subdirs, new: true, written: 0 })
    }

    /// Whether the image of this number is there.
    pub fn has(&self, number: u64) -> bool {
        self.folder.has(&self.name(number))
    }

    /// Writes images under their numbers.
    pub fn take(&mut self, numbers: &[u64], images: &Images) -> Result<()> {
        for (index, &number) in numbers.iter().enumerate() {
            if self.subdirs {
                self.folder.subfolder(&subfolder(number))?;
            }
            let pixels = images.image(index).unwrap_or_default();
            png::write(self.folder.file(&self.name(number)), pixels, images.channels, images.height, images.width)?;
            self.written += 1;
        }
        Ok(())
    }

    /// Removes the folder if this run began it and wrote no image; says what is kept otherwise.
    pub fn abandon(self, error: anyhow::Error) -> anyhow::Error {
        let path = self.folder.path();
        if self.new && self.written == 0 {
            // whoever put something into it meanwhile keeps it
            let removed = std::fs::remove_file(path.join(RUN_FILE)).and_then(|()| std::fs::remove_dir(path));
            return match removed {
                Ok(()) => error,
                Err(why) => anyhow::anyhow!("{error:#} (and {} could not be removed: {why})", path.display()),
            };
        }
        anyhow::anyhow!(
            "{error:#}; {} images were made before and are kept in {}, which --overwrite starts again",
            self.written,
            path.display()
        )
    }

    fn name(&self, number: u64) -> String {
        if self.subdirs { format!("{}/{number:06}.png", subfolder(number)) } else { format!("{number:06}.png") }
    }
}

fn subfolder(number: u64) -> String {
    format!("{:06}", number - number % SUBFOLDER)
}

fn foreign(path: &Path) -> String {
    format!("{} is not a folder of samples", path.display())
}

/// Removes what an earlier `sample` left, and nothing else.
fn clear(path: &Path) -> Result<()> {
    let folder = RunFolder::open_existing(path)?;
    let run: serde_json::Value = folder.read_json(RUN_FILE)?;
    ensure!(run["kind"] == KIND, "{}, so it is not overwritten: choose another folder", foreign(path));
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
