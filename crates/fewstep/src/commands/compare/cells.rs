//! The cells of a comparison: each measured once and kept in the run folder.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fewstep_core::objective::BoundTable;
use fewstep_core::plan::{Plan, Source};
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::data::Images;
use fewstep_nn::fit::{HeldOut, TableConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::arguments::Subject;
use super::{Args, Settings};
use crate::fitting;
use crate::inputs::open_data;
use crate::searching::{Cache, Found, Method, Search, Searcher, held_out_teacher};
use crate::studio::Studio;
use crate::ui;

/// One cell of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// Everything that the cells of one model need, made when first needed.
pub struct Bench<'a> {
    args: &'a Args,
    settings: &'a Settings,
    subject: &'a Subject,
    root: PathBuf,
    folder: PathBuf,
    studio: Studio<'a>,
    judge: OnceCell<HeldOut>,
    searcher: OnceCell<Searcher<'a>>,
    table: OnceCell<BoundTable>,
    found: BTreeMap<String, Found>,
}

impl<'a> Bench<'a> {
    /// Everything in a folder of its own, named after the model's hash.
    pub fn new(args: &'a Args, settings: &'a Settings, subject: &'a Subject, run: &RunFolder) -> Result<Self> {
        let short: String = subject.opened.hash.chars().take(12).collect();
        let folder = run.subfolder(&format!("model-{short}"))?;
        Ok(Self {
            args,
            settings,
            subject,
            root: run.path().to_owned(),
            folder,
            studio: Studio::new(&*subject.features, &subject.reference, settings.search.batch)?,
            judge: OnceCell::new(),
            searcher: OnceCell::new(),
            table: OnceCell::new(),
            found: BTreeMap::new(),
        })
    }

    /// The Heun teacher's row.
    pub fn teacher(&mut self) -> Result<Row> {
        let plan = fitting::teacher(&self.subject.opened.model, self.settings.teacher_steps)?;
        self.measured("teacher", &plan, (0, 0.0))
    }

    /// One cell; none where the method has no plan of so many evaluations.
    pub fn cell(&mut self, method: &Method, steps: &[usize], nfe: usize) -> Result<Option<Row>> {
        let found = self.plans(method, steps)?;
        let cost = (found.evaluations, found.seconds);
        match found.plans.get(&nfe).cloned() {
            Some(plan) => Ok(Some(self.measured(&method.to_string(), &plan, cost)?)),
            None => {
                ui::note(format!("{method} has no plan of {nfe} evaluations"));
                Ok(None)
            }
        }
    }

    fn measured(&self, method: &str, plan: &Plan, search: (u64, f64)) -> Result<Row> {
        let slug = format!("{}-{:03}", slug(method), plan.nfe());
        let file = self.folder.join(format!("{slug}.json"));
        if let Some(row) = read::<Row>(&file)? {
            return Ok(row);
        }
        let model = &self.subject.opened.model;
        ui::note(format!("{method}, {} evaluations", plan.nfe()));
        let rollout_error = self.judge()?.rollout_error(model, plan)?;
        let (mut frechet, mut seconds, mut grid) = (Vec::new(), 0.0, None);
        for range in 0..self.settings.seed_ranges {
            let first = self.settings.first_seed + range * self.settings.images;
            let seeds: Vec<u64> = (first..first + self.settings.images).collect();
            let measured = self.studio.measure(model, plan, &seeds)?;
            frechet.push(measured.frechet);
            seconds += measured.seconds / self.settings.seed_ranges as f64;
            grid.get_or_insert(measured.grid);
        }
        let (plan_file, grid_file) =
            (self.folder.join(format!("{slug}.plan.json")), self.folder.join(format!("{slug}.png")));
        let mut scored = plan.clone();
        scored.metadata.model = Some(self.subject.opened.hash.clone());
        scored.metadata.scores.insert("rollout_error".to_owned(), rollout_error);
        atomic::write_bytes(&plan_file, scored.to_json()?.as_bytes())?;
        atomic::write_bytes(&grid_file, &grid.unwrap_or_default())?;
        let image = plan.unrolled().output;
        let inside = |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        let row = Row {
            model: self.subject.opened.name.clone(),
            method: method.to_owned(),
            nfe: plan.nfe(),
            frechet,
            rollout_error,
            search_evaluations: search.0,
            search_seconds: search.1,
            seconds_per_image: seconds,
            sigmas: plan.sigmas(),
            weights: (0..plan.nfe()).map(|k| image.coefficient(Source::Output(k))).collect(),
            plan: inside(&plan_file),
            grid: inside(&grid_file),
        };
        atomic::write_json(&file, &row)?; // last: it says that the cell is measured
        Ok(row)
    }

    /// The plans of a method for all steps, searched once and kept.
    fn plans(&mut self, method: &Method, steps: &[usize]) -> Result<&Found> {
        let name = method.to_string();
        if !self.found.contains_key(&name) {
            let file = self.folder.join(format!("{}.found.json", slug(&name)));
            let kept = read::<Kept>(&file)?.filter(|kept| steps.iter().all(|step| kept.asked.contains(step)));
            let found = match kept {
                Some(kept) => kept.found,
                None => {
                    let table = if method.search == Search::Bound { Some(self.table()?) } else { None };
                    let found = self.searcher()?.find(method, steps, table)?;
                    atomic::write_json(&file, &Kept { asked: steps.to_vec(), found: found.clone() })?;
                    found
                }
            };
            self.found.insert(name.clone(), found);
        }
        self.found.get(&name).context("the plans were just found")
    }

    fn judge(&self) -> Result<&HeldOut> {
        if self.judge.get().is_none() {
            let model = &self.subject.opened.model;
            let first = fitting::HELD_OUT_SEEDS;
            let seeds: Vec<u64> = (first..first + self.settings.held_out as u64).collect();
            ui::note(format!("teacher on {} held-out latents", seeds.len()));
            let plan = held_out_teacher(model, &self.settings.search.teacher)?;
            let _ = self.judge.set(HeldOut::new(model, &plan, &seeds, self.settings.search.batch)?);
        }
        self.judge.get().context("the judge was just made")
    }

    fn searcher(&self) -> Result<&Searcher<'a>> {
        if self.searcher.get().is_none() {
            let path = self.folder.join("teacher.safetensors");
            let cache = Cache { path: &path, model_sha256: &self.subject.opened.hash };
            let searcher = Searcher::new(&self.subject.opened.model, &self.settings.search, Some(cache))?;
            let (evaluations, seconds) = searcher.teacher_cost;
            if evaluations > 0 {
                atomic::write_json(
                    self.folder.join("teacher.json"),
                    &serde_json::json!({ "evaluations": evaluations, "seconds": seconds }),
                )?;
            }
            let _ = self.searcher.set(searcher);
        }
        self.searcher.get().context("the teacher was just made")
    }

    fn table(&self) -> Result<&BoundTable> {
        if self.table.get().is_none() {
            let path =
                self.args.data.as_ref().context("the method 'bound' needs training images: name them with --data")?;
            let model = &self.subject.opened.model;
            let images = Images::for_model(open_data(path, self.args.pad_to, None)?.load_all()?, model)?;
            let config = TableConfig {
                images: self.settings.table_images.min(images.len()),
                batch: self.settings.search.batch,
                seed: 0,
            };
            let _ = self.table.set(fitting::bound_table(model, &images, fitting::TABLE_GRID, config)?);
        }
        self.table.get().context("the table was just made")
    }
}

/// Plans in a file, and the numbers of steps that were asked for: some may have none.
#[derive(Serialize, Deserialize)]
struct Kept {
    asked: Vec<usize>,
    found: Found,
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = serde_json::from_str(&text);
    Ok(Some(value.with_context(|| format!("{} is damaged; remove it to measure that cell anew", path.display()))?))
}

/// A name for files.
fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}
