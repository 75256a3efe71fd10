//! The result cache: cells of tables, each a sampler scored once and kept with its plan and images in the run folder.

pub(crate) mod diverged;
mod row;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fewstep_core::observe::{Event, Observer};
use fewstep_core::plan::{Plan, Source};
use fewstep_io::atomic;
use fewstep_nn::TorchDenoiser;
use fewstep_nn::tch::Device;
use fewstep_search::{documented, sample};
use serde::{Deserialize, Serialize};

use self::diverged::or_infinite;
pub(crate) use self::row::with_earlier;
pub use self::row::{Distances, Row, Scores, deviation, mean, spread};
use crate::error::{Result, bail, ensure};
use crate::forecast::check_count;
use crate::runs::{read, remove_if_there, slug};
use crate::scorer::ImageScorer;

/// Rollout errors: mean squared differences of a pixel to the fine teacher's images.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// On held-out latents.
    pub held_out: f64,
    /// On the latents of the method's search, if it compares any.
    pub training: Option<f64>,
}

/// What finding a sampler took: evaluations of single images, and seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchCost {
    /// Evaluations of single images.
    pub evaluations: u64,
    /// Seconds.
    pub seconds: f64,
}

/// First of the seeds of the teacher's images that samplers are compared with.
const OTHER_SEEDS: u64 = 7 << 40;

documented! {
    /// Seeds that images are measured on: ranges one after the other.
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    pub struct SeedRanges {
        /// Images a range.
        pub images: u64,
        /// Ranges, one after the other: distances are their mean, with a standard deviation.
        pub ranges: u64,
        /// First seed.
        pub first: u64,
    }
}

impl SeedRanges {
    /// Seeds that no range has, as many as one has: those of the teacher's images that samplers are compared with. They do not depend on
    /// how many ranges there are, so that a run can have more of these later.
    pub fn others(&self) -> Range<u64> {
        OTHER_SEEDS..OTHER_SEEDS + self.images
    }

    /// The seeds of the range of this number, from 0.
    pub fn range(&self, range: u64) -> Range<u64> {
        let first = self.first.saturating_add(range.saturating_mul(self.images));
        first..first.saturating_add(self.images)
    }

    /// Refuses ranges too small or too large, by the names of the settings: images, ranges and the first seed.
    pub(crate) fn check(&self, [images, ranges, first]: [&str; 3]) -> Result<()> {
        ensure!(self.images >= 2, "the setting {images} must be at least 2, as a covariance needs two");
        check_count(images, self.images, 2)?;
        check_count(ranges, self.ranges, 1)?;
        let all = self.images * self.ranges;
        let Some(end) = self.first.checked_add(all) else {
            bail!("the setting {first} must leave room for {all} seeds after it, and is {}", self.first);
        };
        let others = self.others();
        ensure!(
            end <= others.start || self.first >= others.end,
            "the settings {first}, {images} and {ranges} take seeds {} to {end}, of which {} to {} are those of the teacher's images: \
             choose another {first}",
            self.first,
            others.start,
            others.end
        );
        Ok(())
    }
}

/// Where the cells of one model are scored and kept.
pub struct ResultCache<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The run folder.
    pub root: &'a Path,
    /// The cells' folder in it.
    pub folder: PathBuf,
    /// What scores images; none where samples are no images, and rollout errors alone are kept.
    pub scorer: Option<ImageScorer<'a>>,
    /// What images start from.
    pub seeds: SeedRanges,
    /// Who watches.
    pub observer: &'a dyn Observer,
}

impl ResultCache<'_> {
    /// The cell of `method` as far as it was scored, under the names that the model and the feature networks have now: some of the
    /// ranges of seeds may be left.
    pub fn begun(&self, method: &str, nfe: usize) -> Result<Option<Row>> {
        let row: Option<Row> = read(&self.file(method, nfe, "json"))?;
        Ok(row.map(|row| row.named(self.name, self.scorer.iter().flat_map(ImageScorer::networks))))
    }

    /// The same, if it was scored with this very plan.
    pub fn begun_of(&self, method: &str, plan: &Plan) -> Result<Option<Row>> {
        let Some(row) = self.begun(method, plan.nfe())? else { return Ok(None) };
        let kept = read::<Plan>(&self.file(method, plan.nfe(), "plan.json"))?;
        let same =
            |kept: &Plan| (&kept.stages, &kept.output, &kept.constant) == (&plan.stages, &plan.output, &plan.constant);
        Ok(kept.as_ref().is_some_and(same).then_some(row))
    }

    /// Whether a cell has all ranges of seeds. (One that diverges has none; one of a run that had no feature networks has no scores at all.)
    pub fn is_done(&self, row: &Row) -> bool {
        let diverges = row.ranges() == 0 && (self.scorer.is_none() || !row.scores.is_empty());
        diverges || row.ranges() as u64 >= self.seeds.ranges
    }

    /// Scores `denoiser` under `plan`, on those ranges that the cell lacks, and keeps it.
    pub fn measure(
        &self,
        method: &str,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        errors: Errors,
        cost: SearchCost,
    ) -> Result<Row> {
        self.observer.event(Event::Note(&format!("{method}, {} evaluations", plan.nfe())));
        let [file, plan_file] = ["json", "plan.json"].map(|extension| self.file(method, plan.nfe(), extension));
        let begun = self.begun_of(method, plan)?;
        if begun.is_none() {
            remove_if_there(&file)?; // a cell of another plan must not seem to be of this one
            atomic::write_bytes(&plan_file, plan.to_json()?.as_bytes())?;
        }
        let no_scores = || self.scorer.iter().flat_map(ImageScorer::networks).map(Scores::empty).collect();
        let (scores, grid, seconds) = match begun {
            Some(begun) if begun.ranges() > 0 => (begun.scores, begun.grid, begun.seconds_per_image),
            _ => (no_scores(), None, 0.0),
        };
        let image = plan.unrolled().output;
        let mut row = Row {
            model: self.name.to_owned(),
            method: method.to_owned(),
            nfe: plan.nfe(),
            calls: plan.nfe() * denoiser.spec().calls,
            rollout_error: or_infinite(errors.held_out),
            training_error: errors.training.map(or_infinite),
            search_evaluations: cost.evaluations,
            search_seconds: cost.seconds,
            seconds_per_image: seconds,
            sigmas: plan.sigmas(),
            weights: (0..plan.nfe()).map(|k| or_infinite(image.coefficient(Source::Output(k)))).collect(),
            plan: self.inside(&plan_file),
            scores,
            grid,
        };
        match &self.scorer {
            Some(scorer) => self.score_ranges(scorer, denoiser, plan, &mut row)?,
            None => {
                row.seconds_per_image = seconds_per_sample(denoiser, plan, TIMED, self.observer)?;
                atomic::write_json(&file, &row)?;
            }
        }
        Ok(row)
    }

    /// Scores the ranges that `row` lacks, and keeps it after each of them, so that an interrupted cell loses one at most.
    fn score_ranges(
        &self,
        scorer: &ImageScorer,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        row: &mut Row,
    ) -> Result<()> {
        let [file, grid_file] = ["json", "png"].map(|extension| self.file(&row.method, row.nfe, extension));
        for range in row.ranges() as u64..self.seeds.ranges {
            let seeds: Vec<u64> = self.seeds.range(range).collect();
            let Some(score) = scorer.score_if_finite(denoiser, plan, &seeds, self.observer)? else {
                self.observer.event(Event::Note(&format!(
                    "{}, {} evaluations: its samples are not finite, as the model or the plan diverges there, and the cell has no scores",
                    row.method, row.nfe
                )));
                row.scores = scorer.networks().map(Scores::empty).collect();
                row.grid = None;
                row.seconds_per_image = seconds_per_sample(denoiser, plan, TIMED, self.observer)?;
                return Ok(atomic::write_json(&file, row)?);
            };
            if range == 0 {
                atomic::write_bytes(&grid_file, &score.grid)?;
                row.grid = Some(self.inside(&grid_file));
            }
            row.add(score);
            atomic::write_json(&file, row)?; // last: it says what is scored
        }
        Ok(())
    }

    /// A path in the run folder, as cells name it.
    fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root).unwrap_or(path).to_owned()
    }

    /// Cells are compared with images of `plan`, the teacher's, from seeds that no cell has.
    pub fn teach(&mut self, denoiser: &dyn TorchDenoiser, plan: &Plan) -> Result<()> {
        match &mut self.scorer {
            Some(scorer) => scorer.teach(denoiser, plan, self.seeds.others(), &self.folder, self.observer),
            None => Ok(()),
        }
    }

    /// Keeps `row`, of a cell whose plan is `plan`, as it is now known.
    pub fn update(&self, row: &Row, plan: &Plan) -> Result<()> {
        atomic::write_bytes(self.file(&row.method, row.nfe, "plan.json"), plan.to_json()?.as_bytes())?;
        Ok(atomic::write_json(self.file(&row.method, row.nfe, "json"), row)?)
    }

    /// A file of a cell.
    pub fn file(&self, method: &str, nfe: usize, extension: &str) -> PathBuf {
        self.folder.join(format!("{}-{nfe:03}.{extension}", slug(method)))
    }
}

/// Samples that sampling is timed on where none are scored.
pub const TIMED: u64 = 64;

/// Seconds a sample of `plan`, of the first `count` seeds at once.
pub(crate) fn seconds_per_sample(
    denoiser: &dyn TorchDenoiser,
    plan: &Plan,
    count: u64,
    observer: &dyn Observer,
) -> Result<f64> {
    let (seeds, started) = ((0..count).collect::<Vec<_>>(), Instant::now());
    sample(&denoiser, plan, &seeds, seeds.len(), observer, |_, samples| {
        let _ = samples.0.to_device(Device::Cpu); // waits for a GPU, so that its time is counted
        Ok(())
    })?;
    Ok(started.elapsed().as_secs_f64() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds_have_an_end() {
        let check = |images, ranges, first| {
            let seeds = SeedRanges { images, ranges, first };
            let _ = (seeds.others(), seeds.range(u64::MAX)); // no sum of theirs overflows
            seeds.check(["images", "ranges", "first_seed"]).map_err(|error| error.to_string())
        };
        assert_eq!(check(50_000, 3, 0), Ok(()));
        for (images, ranges, first, says) in [
            (1, 1, 0, "images must be at least 2, as a covariance needs two"),
            (1 << 40, 1, 0, "images must be at most 10000000"),
            (2, 0, 0, "ranges must be at least 1"),
            (2, 1 << 63, 0, "ranges must be at most 10000000"),
            (2, 2, u64::MAX - 3, "first_seed must leave room for 4 seeds after it"),
            (2, 2, OTHER_SEEDS - 3, "those of the teacher's images: choose another first_seed"),
            (2, 2, OTHER_SEEDS + 1, "those of the teacher's images: choose another first_seed"),
        ] {
            let error = check(images, ranges, first).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        for first in [u64::MAX - 4, OTHER_SEEDS - 4, OTHER_SEEDS + 2] {
            assert_eq!(check(2, 2, first), Ok(()));
        }
    }
}
