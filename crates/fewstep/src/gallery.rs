//! Cells of tables: a sampler measured once, and kept with its plan and images in the run folder.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fewstep_core::plan::{Plan, Source};
use fewstep_io::{atomic, json};
use fewstep_nn::Model;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::studio::Studio;
use crate::ui;

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model's name.
    pub model: String,
    /// The method's name, or `teacher`.
    pub method: String,
    /// Network evaluations an image.
    pub nfe: usize,
    /// Frechet distance, one for each range of seeds.
    pub frechet: Vec<f64>,
    /// Mean squared difference of a pixel to the fine teacher's images on held-out latents.
    pub rollout_error: f64,
    /// The same on the latents that the method's search looked at, if it looked at any: far below the other, the plan knows
    /// these latents by heart.
    #[serde(default)]
    pub seen_error: Option<f64>,
    /// Evaluations of single images that finding this method's plans, for all numbers of steps, took beyond the teacher's.
    pub search_evaluations: u64,
    /// Seconds that it took beyond the teacher.
    pub search_seconds: f64,
    /// Seconds an image for sampling.
    pub seconds_per_image: f64,
    /// Noise levels of the evaluations.
    pub sigmas: Vec<f64>,
    /// What each evaluation's output weighs in the image (Eq. 8).
    pub weights: Vec<f64>,
    /// The plan's file, in the run folder.
    pub plan: PathBuf,
    /// A PNG of the first images, in the run folder.
    pub grid: PathBuf,
}

impl Row {
    /// Mean over seed ranges.
    pub fn frechet_mean(&self) -> f64 {
        self.frechet.iter().sum::<f64>() / self.frechet.len() as f64
    }

    /// Standard deviation over seed ranges; 0 for one.
    pub fn frechet_deviation(&self) -> f64 {
        let (mean, n) = (self.frechet_mean(), self.frechet.len() as f64);
        let squares: f64 = self.frechet.iter().map(|value| (value - mean).powi(2)).sum();
        if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 }
    }
}

/// Rollout errors: mean squared differences of a pixel to the fine teacher's images.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// On held-out latents.
    pub held_out: f64,
    /// On the latents that the method's search looked at, if any.
    pub seen: Option<f64>,
}

/// What finding a sampler took: evaluations of single images, and seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Evaluations of single images.
    pub evaluations: u64,
    /// Seconds.
    pub seconds: f64,
}

/// Seeds that images are measured on: ranges one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedRanges {
    /// Images a range.
    pub images: u64,
    /// Ranges.
    pub ranges: u64,
    /// The first seed of the first.
    pub first: u64,
}

impl SeedRanges {
    /// The seeds of the range of this number, from 0.
    pub fn range(&self, range: u64) -> Range<u64> {
        let first = self.first + range * self.images;
        first..first + self.images
    }
}

/// Where the cells of one model are measured and kept.
pub struct Gallery<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The run folder.
    pub root: &'a Path,
    /// The cells' folder in it.
    pub folder: PathBuf,
    /// What measures.
    pub studio: Studio<'a>,
    /// What images start from.
    pub seeds: SeedRanges,
}

impl Gallery<'_> {
    /// The cell of `method`, if it was measured before.
    pub fn kept(&self, method: &str, nfe: usize) -> Result<Option<Row>> {
        read(&self.file(method, nfe, "json"))
    }

    /// The cell of `method`, if it was measured with this very plan.
    pub fn kept_of(&self, method: &str, plan: &Plan) -> Result<Option<Row>> {
        let Some(row) = self.kept(method, plan.nfe())? else { return Ok(None) };
        let kept = read::<Plan>(&self.file(method, plan.nfe(), "plan.json"))?;
        let same =
            |kept: &Plan| (&kept.stages, &kept.output, &kept.constant) == (&plan.stages, &plan.output, &plan.constant);
        Ok(kept.as_ref().is_some_and(same).then_some(row))
    }

    /// Measures `model` under `plan` and keeps the cell.
    pub fn measure(&self, method: &str, model: &Model, plan: &Plan, errors: Errors, spent: Spent) -> Result<Row> {
        ui::note(format!("{method}, {} evaluations", plan.nfe()));
        let ranges = self.seeds.ranges;
        let (mut frechet, mut seconds, mut grid) = (Vec::new(), 0.0, None);
        for range in 0..ranges {
            let measured = self.studio.measure(model, plan, &self.seeds.range(range).collect::<Vec<_>>())?;
            frechet.push(measured.frechet);
            seconds += measured.seconds / ranges as f64;
            grid.get_or_insert(measured.grid);
        }
        let [file, plan_file, grid_file] =
            ["json", "plan.json", "png"].map(|extension| self.file(method, plan.nfe(), extension));
        remove(&file)?; // a cell of another plan must not seem to be of this one
        atomic::write_bytes(&plan_file, plan.to_json()?.as_bytes())?;
        atomic::write_bytes(&grid_file, &grid.unwrap_or_default())?;
        let image = plan.unrolled().output;
        let inside = |path: &Path| path.strip_prefix(self.root).unwrap_or(path).to_owned();
        let row = Row {
            model: self.name.to_owned(),
            method: method.to_owned(),
            nfe: plan.nfe(),
            frechet,
            rollout_error: errors.held_out,
            seen_error: errors.seen,
            search_evaluations: spent.evaluations,
            search_seconds: spent.seconds,
            seconds_per_image: seconds,
            sigmas: plan.sigmas(),
            weights: (0..plan.nfe()).map(|k| image.coefficient(Source::Output(k))).collect(),
            plan: inside(&plan_file),
            grid: inside(&grid_file),
        };
        atomic::write_json(&file, &row)?; // last: it says that the cell is measured
        Ok(row)
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

/// JSON of an earlier run, if it is there.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = json::read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = serde_json::from_str(&text);
    Ok(Some(value.with_context(|| format!("{} is damaged; remove it to do that part anew", path.display()))?))
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A name for files.
pub fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}
