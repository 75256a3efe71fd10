//! The image scorer: images of a plan, and how far their features are from those of data and of a teacher's images.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fewstep_core::observe::{Event, Observer, Progress};
use fewstep_core::plan::Plan;
use fewstep_eval::features::{FeatureId, FeatureNetwork};
use fewstep_eval::{Collected, Collector, FrechetReference, Keep, KidSide, Reference, Statistics};
use fewstep_nn::TorchDenoiser;
use fewstep_nn::tch::{Device, Tensor};
use fewstep_search::Seeded;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result, ensure};
use crate::pixels;
use crate::reference::ImageReference;
use crate::runs::slug;

/// What a teacher's images are called as a reference.
const TEACHER: &str = "teacher";

/// Columns and rows of the grids in reports.
const GRID: usize = 8;
/// Images of such a grid.
pub const GRID_IMAGES: usize = GRID * GRID;

/// Scores samplers by how far their images are from data, and from a teacher's images, under one or more feature networks.
pub struct ImageScorer<'a> {
    references: Vec<FeatureReference<'a>>,
    batch: usize,
}

/// What one feature network compares images with.
struct FeatureReference<'a> {
    features: &'a dyn FeatureNetwork,
    /// What tables call it.
    label: &'a str,
    data: Option<Side>,
    teacher: Option<Side>,
}

/// One side of distances.
struct Side {
    frechet: FrechetReference,
    kid: Option<KidSide>,
}

impl Side {
    fn new(statistics: &Statistics, features: Option<&Tensor>) -> Result<Self> {
        Ok(Self { frechet: FrechetReference::new(statistics)?, kid: features.map(KidSide::reference).transpose()? })
    }

    /// How far images are from it, by their statistics and, for KID, their features.
    fn distances(&self, statistics: &Statistics, features: Option<&KidSide>) -> Result<Distances> {
        let kid = self.kid.as_ref().zip(features).map(|(kid, features)| kid.distance(features)).transpose()?;
        Ok(Distances { frechet: self.frechet.distance(statistics)?, kid })
    }
}

/// Distances of images from a reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// Frechet distance.
    pub frechet: f64,
    /// KID, where the reference's features are at hand.
    pub kid: Option<f64>,
}

/// What one feature network says of a sampler's images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureScore {
    /// What tables call the network.
    pub features: String,
    /// From the data, if there is any.
    pub data: Option<Distances>,
    /// From the teacher's images of other seeds, once there are any.
    pub teacher: Option<Distances>,
}

/// The score of a sampler.
#[derive(Clone, Debug)]
pub struct Score {
    /// By each feature network, in order.
    pub scores: Vec<FeatureScore>,
    /// The first 64 images as PNG.
    pub grid: Vec<u8>,
    /// Seconds an image for sampling alone.
    pub seconds: f64,
}

impl Score {
    /// Frechet distance to the data, or to the teacher's images where there is none, by the first feature network: what a choice
    /// goes by.
    pub fn frechet(&self) -> f64 {
        let first = self.scores.first().and_then(|score| score.data.or(score.teacher));
        first.map_or(f64::NAN, |distances| distances.frechet)
    }
}

impl<'a> ImageScorer<'a> {
    /// A scorer by these feature networks and what they make of data.
    ///
    /// # Errors
    /// If a reference cannot be compared with.
    pub fn new(references: &'a [ImageReference], batch: usize) -> Result<Self> {
        let of_reference = |reference: &'a ImageReference| {
            let side = |data: &Reference| Side::new(&data.statistics, data.features.as_ref());
            let data = reference.data()?.map(side).transpose()?;
            Ok(FeatureReference { features: &*reference.features, label: reference.label(), data, teacher: None })
        };
        Ok(Self { references: references.iter().map(of_reference).collect::<Result<_>>()?, batch })
    }

    /// What tables call the feature networks, in the order of scores.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        self.references.iter().map(|reference| reference.label)
    }

    /// Samples `denoiser` under `plan` from `seeds` and measures the images, rounded to bytes.
    ///
    /// # Errors
    /// If the plan does not fit, the denoiser fails, its samples are no images or not finite, or there are no seeds.
    pub fn score(
        &self,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        seeds: &[u64],
        observer: &dyn Observer,
    ) -> Result<Score> {
        self.score_if_finite(denoiser, plan, seeds, observer)?.with_context(|| not_finite(plan))
    }

    /// The same; none where samples are not finite, as the plan diverges: others may be scored all the same.
    ///
    /// # Errors
    /// As [`ImageScorer::score`], but for that.
    pub fn score_if_finite(
        &self,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        seeds: &[u64],
        observer: &dyn Observer,
    ) -> Result<Option<Score>> {
        let Some(made) = self.made(denoiser, plan, seeds, observer)? else { return Ok(None) };
        let scores = self.references.iter().zip(&made.collected).map(|(reference, images)| {
            let sides = [&reference.data, &reference.teacher];
            let with_kid = sides.into_iter().flatten().any(|side| side.kid.is_some());
            let features = images.features.as_ref().filter(|_| with_kid).map(KidSide::compared).transpose()?;
            let distances = |side: &Side| side.distances(&images.statistics, features.as_ref());
            let of = |side: &Option<Side>| side.as_ref().map(distances).transpose();
            Ok(FeatureScore {
                features: reference.label.to_owned(),
                data: of(&reference.data)?,
                teacher: of(&reference.teacher)?,
            })
        });
        // choices go by them: those of one process, as others may round otherwise
        let scores = denoiser.ranks().from_first(|| scores.collect::<Result<_>>())?;
        Ok(Some(Score { scores, grid: made.grid, seconds: made.seconds }))
    }

    /// Scores are of distances from a teacher's images, too: those of `plan` from `seeds`, which should be no sampler's. They are made
    /// once, and what the feature networks make of them is kept in `folder`.
    ///
    /// # Errors
    /// As [`ImageScorer::score`], or if the folder cannot be used.
    pub fn teach(
        &mut self,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        seeds: Range<u64>,
        folder: &Path,
        observer: &dyn Observer,
    ) -> Result<()> {
        // one file may be two networks, by the pixels that it takes
        let file = |reference: &FeatureReference| {
            let FeatureId { name, sha256 } = reference.features.id();
            folder.join(format!("teacher-images-{}-{sha256:.12}.npz", slug(name)))
        };
        let files: Vec<PathBuf> = self.references.iter().map(file).collect();
        let teacher = if files.iter().all(|file| file.exists()) {
            files.iter().map(|file| Reference::read(file, TEACHER)).collect::<fewstep_eval::Result<Vec<_>>>()?
        } else {
            observer.event(Event::Note(&format!("teacher's images of other seeds, {} evaluations", plan.nfe())));
            let made = self.made(denoiser, plan, &seeds.collect::<Vec<_>>(), observer)?;
            let made = made.with_context(|| not_finite(plan))?.collected.into_iter();
            let made: Vec<Reference> = made.map(|made| Reference::from_collected(TEACHER, made)).collect();
            for (teacher, file) in made.iter().zip(&files) {
                teacher.write(file)?;
            }
            made
        };
        for (reference, teacher) in self.references.iter_mut().zip(&teacher) {
            reference.teacher = Some(Side::new(&teacher.statistics, teacher.features.as_ref())?);
        }
        Ok(())
    }

    /// None where samples are not finite.
    fn made(
        &self,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        seeds: &[u64],
        observer: &dyn Observer,
    ) -> Result<Option<Made>> {
        ensure!(!seeds.is_empty(), "there are no seeds to make images from");
        let keep = Keep { features: true, ..Keep::default() };
        let collectors: Vec<_> =
            self.references.iter().map(|reference| Collector::new(reference.features, keep)).collect();
        let collectors = RefCell::new(collectors);
        let mut first = Vec::new();
        let name = format!("{} evaluations", plan.nfe());
        let mut progress = Progress::new(observer, &name, "images", seeds.len() as u64, 0);
        let (mut seconds, mut done, mut diverged) = (0.0, 0, false);
        let make = |(index, part): (usize, &[u64])| {
            let started = Instant::now();
            let samples = Seeded::new(&denoiser, part, observer)?.run(plan)?;
            let images = denoiser.pixels(&samples)?.to_device(Device::Cpu); // waits for a GPU, so that its time is counted
            let seconds = started.elapsed().as_secs_f64();
            if images.f_isfinite()?.f_all()?.int64_value(&[]) == 0 {
                return Ok(Vec::new()); // which all processes are told, so that all end here
            }
            let start = index * self.batch;
            let shown = if start < GRID_IMAGES { images.shallow_clone() } else { images.f_narrow(0, 0, 0)? };
            let mut made = vec![Tensor::from_slice(&[seconds]), shown];
            made.extend(extract_all(&collectors.borrow(), &images, start as u64)?);
            Ok::<_, Error>(made)
        };
        let measure = |mut made: Vec<Tensor>| {
            diverged = made.is_empty();
            ensure!(!diverged, "{}", not_finite(plan));
            let extracted = made.split_off(2);
            if let [of_these, shown] = made.as_slice() {
                seconds += of_these.double_value(&[0]);
                if done < GRID_IMAGES as u64 {
                    first.push(shown.shallow_clone());
                }
            }
            done = take_all(&mut collectors.borrow_mut(), extracted)?;
            progress.set(done, "");
            Ok(())
        };
        let measured = denoiser.ranks().in_order(seeds.chunks(self.batch).enumerate(), make, measure);
        if diverged {
            return Ok(None);
        }
        measured?;
        let collected = collectors.into_inner().into_iter().map(Collector::finish);
        let collected = collected.collect::<fewstep_eval::Result<_>>()?;
        Ok(Some(Made { collected, grid: grid(&first)?, seconds: seconds / seeds.len() as f64 }))
    }
}

/// What is said of samples that are not finite.
fn not_finite(plan: &Plan) -> String {
    format!(
        "samples of {} evaluations hold values that are not finite: the model or the plan diverges there",
        plan.nfe()
    )
}

/// Images as the feature networks see them.
struct Made {
    collected: Vec<Collected>,
    grid: Vec<u8>,
    seconds: f64,
}

/// What each of the collectors takes of a sampler's images, of which `before` come before them, one after the other.
pub(crate) fn extract_all(collectors: &[Collector], images: &Tensor, before: u64) -> Result<Vec<Tensor>> {
    let mut extracted = Vec::new();
    for collector in collectors {
        extracted.extend(collector.extract_sampled(images, before)?);
    }
    Ok(extracted)
}

/// Lets each of the collectors take what was [extracted](extract_all) for it; the images that they have taken.
pub(crate) fn take_all(collectors: &mut [Collector], mut extracted: Vec<Tensor>) -> Result<u64> {
    for collector in collectors.iter_mut() {
        let rest = extracted.split_off(collector.extracted_length().min(extracted.len()));
        collector.take(std::mem::replace(&mut extracted, rest))?;
    }
    Ok(collectors.first().map_or(0, Collector::count))
}

/// Samples of `seeds` by `denoiser` under `plan`, as images `[N, C, H, W]` on the CPU; none where pixels are not finite.
///
/// # Errors
/// If the plan does not fit, the denoiser fails, or its samples are no images.
pub fn images(
    denoiser: &dyn TorchDenoiser,
    plan: &Plan,
    seeds: &[u64],
    batch: usize,
    observer: &dyn Observer,
) -> Result<Option<Tensor>> {
    let mut parts = Vec::new();
    let make = |part: &[u64]| {
        let samples = Seeded::new(&denoiser, part, observer)?.run(plan)?;
        Ok::<_, Error>(vec![denoiser.pixels(&samples)?.to_device(Device::Cpu)])
    };
    denoiser.ranks().in_order(seeds.chunks(batch.max(1)), make, |made| {
        parts.extend(made);
        Ok(())
    })?;
    let images = Tensor::f_cat(&parts, 0)?;
    Ok(pixels::first_not_finite(&images)?.is_none().then_some(images))
}

/// The first 64 images as one PNG; `batches`: `[N, C, H, W]` each.
pub fn grid(batches: &[Tensor]) -> Result<Vec<u8>> {
    let images = Tensor::cat(batches, 0);
    let count = images.size()[0].min(GRID_IMAGES as i64);
    Ok(fewstep_io::png::encode_grid(&pixels::to_images(&images.narrow(0, 0, count))?, GRID, 2)?)
}
