//! Samples of a plan, from seeds or latents of a file: a folder of PNGs, one PNG of all, or arrays.

mod file;
mod folder;
mod settings;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Instant;

use fewstep_core::observe::{Observer, Progress};
use fewstep_core::plan::Plan;
use fewstep_io::atomic::OutFile;
use fewstep_nn::TorchDenoiser;
use fewstep_nn::pixels::to_u8;
use fewstep_nn::tch::{Kind, Tensor};
use fewstep_nn::tensor::Batch;
use serde_json::json;

use self::file::Collected;
use self::folder::SampleFolder;
pub use self::folder::SampleTask;
pub use self::settings::{SampleOutput, SampleSettings};
pub use self::source::Source;
use crate::error::{Error, Result, bail};
use crate::forecast::Forecast;
use crate::models::ModelId;
use crate::pixels;
use crate::runs::RunOptions;

/// What is sampled.
#[derive(Debug)]
pub struct Sampling<'a> {
    /// The denoiser.
    pub denoiser: &'a dyn TorchDenoiser,
    /// The denoiser, as `run.json` keeps it.
    pub model: ModelId,
    /// The sampler.
    pub plan: &'a Plan,
    /// What samples start from.
    pub source: &'a Source,
    /// Samples at once.
    pub batch: usize,
}

/// Where samples go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A folder with a PNG for each, named after its number, that a later run can go on with.
    Folder {
        /// The folder.
        run: RunOptions,
        /// Whether PNGs lie in subfolders of 1000.
        subdirs: bool,
        /// Whether the samples of an earlier run are removed first.
        overwrite: bool,
    },
    /// All in one PNG.
    Grid {
        /// The file.
        path: PathBuf,
        /// Whether it replaces what is there.
        overwrite: bool,
        /// Images in a row; as many as there are rows where nothing is said.
        columns: Option<usize>,
    },
    /// An npz file, with `seeds` and `classes` if there are any, and `images` (u8 `[N, C, H, W]`), or
    /// `samples` (f32) where they are no images.
    Arrays {
        /// The file.
        path: PathBuf,
        /// Whether it replaces what is there.
        overwrite: bool,
        /// Floats as the sampler leaves them, in place of pixels; `samples` where they are to be decoded first.
        raw: bool,
    },
}

impl Destination {
    /// What is left of samples, all finite, which `name` names by their place in the batch: u8 pixels, or f32 values.
    fn values(&self, denoiser: &dyn TorchDenoiser, samples: &Batch, name: impl Fn(usize) -> String) -> Result<Tensor> {
        match self {
            Self::Arrays { raw, .. } if *raw || denoiser.pixel_shape().is_none() => {
                Ok(samples.0.f_to_kind(Kind::Float)?)
            }
            _ => {
                let images = denoiser.pixels(samples)?;
                if let Some(row) = pixels::first_not_finite(&images)? {
                    bail!(
                        "the decoder makes pixels that are not finite of {}: in half precision values overflow that f32 holds, so give \
                         it in a wider type, and say so in its input_dtype (docs/formats.md)",
                        name(row)
                    );
                }
                Ok(to_u8(&images))
            }
        }
    }
}

impl Sampling<'_> {
    /// What it would do, and its cost.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn forecast(&self) -> Result<Forecast> {
        let Self { denoiser, model, plan, source, .. } = self;
        let settings = json!({
            "model": model, "samples": source.len(), "solver": plan.solver, "nfe": plan.nfe(), "sigmas": plan.sigmas(),
        });
        let forecast = Forecast::new(&settings, denoiser.spec().calls)?;
        Ok(forecast.part("samples", (source.len() * plan.nfe()) as u64))
    }
}

/// What sampling came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// Samples that are there now.
    pub samples: usize,
    /// Those that were there before.
    pub kept: usize,
    /// Seconds that the others took.
    pub seconds: f64,
}

/// Samples, and leaves the samples at their destination.
///
/// # Errors
/// If the plan does not fit the denoiser, the denoiser fails, it or its decoder answers what is not finite, samples are no images and the
/// destination takes images alone, or the destination cannot be written.
pub fn sample(sampling: &Sampling, destination: &Destination, observer: &dyn Observer) -> Result<Sampled> {
    let Sampling { denoiser, plan, source, .. } = sampling;
    plan.check(denoiser.spec())?;
    let ranks = denoiser.ranks();
    ranks.check_same("sampling", &serde_json::to_string(&(plan, &sampling.model, source.len(), source.number(0)))?)?;
    // the first process alone leaves anything
    let mut target = if ranks.is_first() { Some(Target::open(sampling, destination)?) } else { None };
    let todo: Vec<usize> = ranks.from_first(|| {
        let is_there = |&index: &usize| target.as_ref().is_some_and(|target| target.has(source.number(index)));
        Ok::<_, Error>((0..source.len()).filter(|index| !is_there(index)).collect())
    })?;
    let (kept, started) = (source.len() - todo.len(), Instant::now());
    let mut progress = Progress::new(observer, "sample", "samples", source.len() as u64, kept as u64);
    let mut parts = todo.chunks(sampling.batch.max(1));
    let make = |part: &[usize]| {
        let (samples, classes) = source.samples(*denoiser, plan, part, observer)?;
        let values = destination.values(*denoiser, &samples, |row| source.name(part[row]))?;
        Ok::<_, Error>(vec![values, Tensor::from_slice(&classes)])
    };
    let mut made = 0;
    let take = |samples: Vec<Tensor>| {
        let part = parts.next().unwrap_or_default();
        let numbers: Vec<u64> = part.iter().map(|&index| source.number(index)).collect();
        if let (Some(target), [values, classes]) = (&mut target, samples.as_slice()) {
            target.take(&numbers, values, &Vec::<i64>::try_from(classes)?)?;
        }
        made += part.len();
        progress.set((kept + made) as u64, format!("{} evaluations each", plan.nfe()));
        Ok(())
    };
    let done = ranks.in_order(todo.chunks(sampling.batch.max(1)), make, take);
    match (done, target) {
        (Ok(()), Some(target)) => target.finish()?,
        (Err(error), Some(target)) => return Err(target.abandon(error, kept)),
        (done, None) => done?,
    }
    ranks.wait()?;
    Ok(Sampled { samples: source.len(), kept, seconds: started.elapsed().as_secs_f64() })
}

/// Takes samples and leaves them on disk.
#[derive(Debug)]
enum Target<'a> {
    /// Each image is written as it comes.
    Folder(Box<SampleFolder>),
    /// Samples are held until all are there.
    File(Collected<'a>),
}

impl<'a> Target<'a> {
    /// Makes sure of the place before any sample is made.
    fn open(sampling: &Sampling, destination: &'a Destination) -> Result<Self> {
        let Sampling { denoiser, model, plan, source, .. } = sampling;
        if !matches!(destination, Destination::Arrays { .. }) && denoiser.pixel_shape().is_none() {
            bail!(
                "{} makes samples of shape {:?}, which are no images of 1 or 3 channels, and has no decoder: PNG cannot hold them, \
                 so let --out end in .npz, or name its decoder in a JSON beside it (docs/formats.md)",
                model.name,
                denoiser.spec().shape
            );
        }
        Ok(match destination {
            Destination::Folder { run, subdirs, overwrite } => {
                let task = SampleTask {
                    model: model.clone(),
                    class: source.class(),
                    latents_sha256: source.sha256().map(str::to_owned),
                    subdirs: *subdirs,
                    plan: (*plan).clone(),
                };
                Self::Folder(Box::new(SampleFolder::open(task, run, *overwrite)?))
            }
            Destination::Grid { path, overwrite, columns } => {
                Self::File(Collected::grid(OutFile::new(path, *overwrite), *columns, *denoiser, source)?)
            }
            Destination::Arrays { path, overwrite, raw } => {
                Self::File(Collected::arrays(OutFile::new(path, *overwrite), *raw, *denoiser, source)?)
            }
        })
    }

    /// Whether the sample of this number needs not be made.
    fn has(&self, number: u64) -> bool {
        matches!(self, Self::Folder(folder) if folder.has(number))
    }

    /// Takes samples, as [`Destination::values`] leaves them, under their numbers, with their classes if they have any.
    fn take(&mut self, numbers: &[u64], values: &Tensor, classes: &[i64]) -> Result<()> {
        match self {
            Self::Folder(folder) => folder.take(numbers, &pixels::images(values)?),
            Self::File(file) => file.take(values, classes),
        }
    }

    /// What to say of a run that failed and found so many samples there.
    fn abandon(self, error: Error, found: usize) -> Error {
        match self {
            Self::Folder(folder) if !error.is_cancelled() => folder.abandon(error, found),
            Self::Folder(_) | Self::File(_) => error,
        }
    }

    /// Writes what was held back.
    fn finish(self) -> Result<()> {
        match self {
            Self::Folder(folder) => folder.finish(),
            Self::File(file) => file.finish(),
        }
    }
}
