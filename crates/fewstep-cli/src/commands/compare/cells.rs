//! The cells of a comparison: each measured once and kept in the run folder.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use fewstep_core::objective::BoundTable;
use fewstep_core::plan::Plan;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::fit::{HeldOut, TableConfig};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::arguments::Subject;
use crate::fitting;
use crate::gallery::{Errors, Gallery, Row, SeedRanges, Spent, read, slug};
use crate::searching::{Cache, Found, Method, Search, Searcher, held_out_teacher};
use crate::studio::Studio;
use crate::ui;

/// Everything that the cells of one model need, made when first needed.
pub struct Bench<'a> {
    settings: &'a Settings,
    subject: &'a Subject,
    gallery: Gallery<'a>,
    judge: OnceCell<HeldOut>,
    searcher: OnceCell<Searcher<'a>>,
    table: OnceCell<BoundTable>,
    found: BTreeMap<String, Found>,
}

impl<'a> Bench<'a> {
    /// Everything in a folder of its own, named after the model's hash.
    pub fn new(settings: &'a Settings, subject: &'a Subject, run: &'a RunFolder) -> Result<Self> {
        let short: String = subject.opened.hash.chars().take(12).collect();
        Ok(Self {
            settings,
            subject,
            gallery: Gallery {
                name: &subject.opened.name,
                root: run.path(),
                folder: run.subfolder(&format!("model-{short}"))?,
                studio: Studio::new(&*subject.judge.features, &subject.judge.reference, settings.search.batch)?,
                seeds: SeedRanges { images: settings.images, ranges: settings.seed_ranges, first: settings.first_seed },
            },
            judge: OnceCell::new(),
            searcher: OnceCell::new(),
            table: OnceCell::new(),
            found: BTreeMap::new(),
        })
    }

    /// The Heun teacher's row.
    pub fn teacher(&mut self) -> Result<Row> {
        let plan = fitting::teacher(&self.subject.opened.model, self.settings.teacher_steps)?;
        self.measured("teacher", &plan, Spent::default(), false)
    }

    /// One cell; none where the method has no plan of so many evaluations.
    pub fn cell(&mut self, method: &Method, steps: &[usize], nfe: usize) -> Result<Option<Row>> {
        let found = self.plans(method, steps)?;
        let cost = Spent { evaluations: found.evaluations, seconds: found.seconds };
        match found.plans.get(&nfe).cloned() {
            Some(plan) => Ok(Some(self.measured(&method.to_string(), &plan, cost, method.needs_teacher())?)),
            None => {
                ui::note(format!("{method} has no plan of {nfe} evaluations"));
                Ok(None)
            }
        }
    }

    /// One cell of a plan from a file.
    pub fn given(&self, name: &str, plan: &Plan) -> Result<Row> {
        self.measured(name, plan, Spent::default(), false)
    }

    /// `searched`: whether the plan comes from a search that looked at latents.
    fn measured(&self, method: &str, plan: &Plan, spent: Spent, searched: bool) -> Result<Row> {
        let model = &self.subject.opened.model;
        let seen =
            || if searched { Ok(Some(self.searcher()?.training_error(plan)?)) } else { Ok::<_, anyhow::Error>(None) };
        if let Some(kept) = self.gallery.kept_of(method, plan)? {
            // the same plan, which may have been found at another cost
            let row = Row {
                search_evaluations: spent.evaluations,
                search_seconds: spent.seconds,
                seen_error: kept.seen_error.map_or_else(seen, |seen| Ok(Some(seen)))?,
                ..kept.clone()
            };
            if row != kept {
                self.gallery.update(&row, plan)?;
            }
            return Ok(row);
        }
        let seen = seen()?;
        let errors = Errors { held_out: self.judge()?.rollout_error(model, plan)?, seen };
        self.gallery.measure(method, model, plan, errors, spent)
    }

    /// The plans of a method for all steps, searched once and kept.
    fn plans(&mut self, method: &Method, steps: &[usize]) -> Result<&Found> {
        let name = method.to_string();
        if !self.found.contains_key(&name) {
            let file = self.gallery.folder.join(format!("{}.found.json", slug(&name)));
            let mut settings = self.settings.search.looked_at_by(method)?;
            if method.needs_images() {
                settings["data"] = serde_json::to_value(self.subject.data.as_ref().map(|(_, id)| id))?;
            }
            let kept = read::<Kept>(&file)?.filter(|kept| kept.settings == settings);
            let serves = |kept: &Kept| steps.iter().all(|step| kept.asked.contains(step));
            let found = match kept {
                Some(kept) if serves(&kept) => kept.found,
                kept => {
                    let table = if method.search == Search::Bound { Some(self.table()?) } else { None };
                    let mut found = self.searcher()?.find(method, steps, table)?;
                    let mut asked = steps.to_vec();
                    if let Some(kept) = kept {
                        // what a search finds for few evaluations may depend on how many it goes on to: cells stay as they are
                        found.plans.extend(kept.found.plans);
                        found.evaluations += kept.found.evaluations;
                        found.seconds += kept.found.seconds;
                        asked.extend(kept.asked);
                    }
                    atomic::write_json(&file, &Kept { asked, settings, found: found.clone() })?;
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
            let path = self.gallery.folder.join("teacher.safetensors");
            let cache = Cache { path: &path, model_sha256: &self.subject.opened.hash };
            let searcher = Searcher::new(&self.subject.opened.model, &self.settings.search, Some(cache))?
                .seen_by(Some(&*self.subject.judge.features))
                .looking_at(self.subject.data.as_ref().map(|(images, _)| images));
            let (evaluations, seconds) = searcher.teacher_cost;
            if evaluations > 0 {
                atomic::write_json(
                    self.gallery.folder.join("teacher.json"),
                    &serde_json::json!({ "evaluations": evaluations, "seconds": seconds }),
                )?;
            }
            let _ = self.searcher.set(searcher);
        }
        self.searcher.get().context("the teacher was just made")
    }

    fn table(&self) -> Result<&BoundTable> {
        if self.table.get().is_none() {
            let model = &self.subject.opened.model;
            let (images, _) = self.subject.data.as_ref().context("the method 'bound' needs training images")?;
            let config = TableConfig {
                images: self.settings.table_images.min(images.len()),
                batch: self.settings.search.batch,
                seed: 0,
            };
            let _ = self.table.set(fitting::bound_table(model, images, fitting::TABLE_GRID, config)?);
        }
        self.table.get().context("the table was just made")
    }
}

/// Plans in a file, the numbers of steps that were asked for (some may have none), and the settings that they depend on.
#[derive(Serialize, Deserialize)]
struct Kept {
    asked: Vec<usize>,
    #[serde(default)]
    settings: serde_json::Value,
    found: Found,
}
