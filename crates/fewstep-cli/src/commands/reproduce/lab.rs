//! The cells of the paper's experiments, each made once and kept.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use fewstep_core::objective::Objective;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::checkpoint::Storage;
use fewstep_nn::fit::{NoiseSharing, TuneStep};
use fewstep_nn::{Model, checkpoint};

use super::Task;
use super::plots::{Descent, Learning};
use super::rows::Cell;
use crate::fitting::{
    Between, Fitter, Learned, Phase1Settings, Phase2Settings, Saved, euler, percent, plan_for, teacher,
};
use crate::gallery::{Errors, Gallery, Row, Spent, read, slug};
use crate::inputs::{Judge, OpenModel};
use crate::searching::{Cache, Searcher};
use crate::studio::Studio;
use crate::ui;

/// The model and its judge.
pub struct Subject<'a> {
    /// The network.
    pub opened: &'a OpenModel,
    /// Features and reference; none where no images are measured.
    pub judge: Option<&'a Judge>,
}

/// Everything that cells need.
pub struct Lab<'a> {
    subject: &'a Subject<'a>,
    fitter: &'a Fitter<'a>,
    task: &'a Task,
    folder: PathBuf,
    gallery: Option<Gallery<'a>>,
    /// Our search.
    searcher: OnceCell<Searcher<'a>>,
    resume: bool,
}

impl<'a> Lab<'a> {
    /// Cells are kept in a folder of their own.
    pub fn new(
        subject: &'a Subject<'a>,
        fitter: &'a Fitter<'a>,
        task: &'a Task,
        run: &'a RunFolder,
        resume: bool,
    ) -> Result<Self> {
        let folder = run.subfolder("cells")?;
        let gallery = subject.judge.map(|judge| {
            Ok::<_, anyhow::Error>(Gallery {
                name: &subject.opened.name,
                root: run.path(),
                folder: folder.clone(),
                studio: Studio::new(&*judge.features, &judge.reference, fitter.settings.batch)?,
                seeds: task.settings.seeds,
            })
        });
        Ok(Self { subject, fitter, task, folder, gallery: gallery.transpose()?, searcher: OnceCell::new(), resume })
    }

    /// The network as it came.
    pub fn base(&self) -> &'a Model {
        self.fitter.base
    }

    /// The cells of the experiment: the teacher first, then every number of steps.
    pub fn run(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        if self.gallery.is_some() {
            let plan = teacher(self.fitter.base, self.fitter.settings.teacher_steps)?;
            rows.push(self.measured("teacher", self.fitter.base, &plan, Spent::default())?);
        }
        for &steps in &self.task.steps {
            for cell in self.task.cells() {
                rows.push(self.cell(cell, steps)?);
            }
        }
        Ok(rows)
    }

    /// Stage 1: the learned levels, or those of an earlier run.
    pub fn levels(&self, steps: usize) -> Result<Schedule> {
        let learned = self.learned(&format!("levels-{steps:03}"), steps, &self.fitter.settings.phase1)?;
        Ok(Schedule::new(learned.plan.sigmas())?)
    }

    /// Stage 1 with other settings, from rho = 7 on, or what an earlier run left under this name.
    fn learned(&self, name: &str, steps: usize, settings: &Phase1Settings) -> Result<Learned> {
        let [file, state] = ["json", "state.json"].map(|extension| self.folder.join(format!("{name}.{extension}")));
        if let Some(learned) = read(&file)? {
            return Ok(learned);
        }
        let learned = self.fitter.phase1_by_adam(self.fitter.base, &self.fitter.baseline(steps)?, settings, &state)?;
        atomic::write_json(&file, &learned)?;
        let _ = std::fs::remove_file(&state);
        Ok(learned)
    }

    /// Stage 1 by each of the paper's objectives: what it minimises, and what becomes of the sampler.
    pub fn objectives(&self, steps: usize) -> Result<Vec<Descent>> {
        let variants = [
            ("Eq. 10, independent noise", Objective::Discretization, NoiseSharing::Independent),
            ("Eq. 10, shared noise", Objective::Discretization, NoiseSharing::Shared),
            ("Eq. 12, the bound", Objective::Bound, NoiseSharing::Independent),
            ("both", self.fitter.settings.phase1.objective, NoiseSharing::Independent),
        ];
        let descend = |(name, objective, noise): (&str, Objective, NoiseSharing)| {
            ui::note(format!("{name}, {steps} steps"));
            let settings = Phase1Settings { objective, noise, ..self.fitter.settings.phase1.clone() };
            let learned = self.learned(&format!("{}-{steps:03}", slug(name)), steps, &settings)?;
            Ok(Descent {
                name: name.to_owned(),
                steps,
                loss: learned.steps.iter().map(|step| (step.iteration, step.loss)).collect(),
                rollout_error: learned.looks,
                sigmas: learned.plan.sigmas(),
            })
        };
        variants.into_iter().map(descend).collect()
    }

    fn cell(&self, cell: Cell, steps: usize) -> Result<Row> {
        if let Some(row) = self.gallery()?.kept(cell.name(), steps)? {
            return Ok(row);
        }
        let started = Instant::now();
        let plan = match cell {
            Cell::Baseline | Cell::Stage2 | Cell::Original => euler(&self.fitter.baseline(steps)?)?,
            Cell::Stage1 | Cell::Both => euler(&self.levels(steps)?)?,
            Cell::Ours | Cell::OursTuned => self.ours(steps)?,
        };
        let tuned = cell.tuning(&self.task.settings);
        let tuned = tuned.map(|settings| self.tuned(cell, &plan, &settings)).transpose()?;
        let spent = Spent { evaluations: 0, seconds: started.elapsed().as_secs_f64() };
        let (model, plan) = tuned.as_ref().map_or((self.fitter.base, &plan), |(model, plan)| (model, plan));
        self.measured(cell.name(), model, plan, spent)
    }

    fn measured(&self, name: &str, model: &Model, plan: &Plan, spent: Spent) -> Result<Row> {
        let gallery = self.gallery()?;
        if let Some(row) = gallery.kept(name, plan.nfe())? {
            return Ok(row);
        }
        let errors = Errors { held_out: self.fitter.judge.rollout_error(model, plan)?, seen: None };
        gallery.measure(name, model, plan, errors, spent)
    }

    fn gallery(&self) -> Result<&Gallery<'a>> {
        self.gallery.as_ref().context("this experiment measures no images")
    }

    /// Our plan of so many evaluations, or that of an earlier run: what is found for some may depend on how many others are asked for.
    fn ours(&self, steps: usize) -> Result<Plan> {
        let file = |steps: usize| self.folder.join(format!("ours-{steps:03}.json"));
        if let Some(plan) = read(&file(steps))? {
            return Ok(plan);
        }
        // one search serves all numbers of steps
        let method = &self.task.settings.search;
        let found = self.searcher()?.find(method, &self.task.steps, None)?;
        for (steps, plan) in &found.plans {
            if !file(*steps).exists() {
                atomic::write_json(file(*steps), plan)?;
            }
        }
        Ok(found.plan(method, steps)?.clone())
    }

    fn searcher(&self) -> Result<&Searcher<'a>> {
        if self.searcher.get().is_none() {
            let path = self.folder.join("teacher.safetensors");
            let cache = Cache { path: &path, model_sha256: &self.subject.opened.hash };
            let searcher = Searcher::new(self.fitter.base, &self.fitter.settings.search, Some(cache))?;
            let _ = self.searcher.set(searcher.looking_at(self.fitter.images));
        }
        self.searcher.get().context("the searcher was just made")
    }

    /// The network tuned for a plan, or that of an earlier run, and the plan for it.
    fn tuned(&self, cell: Cell, plan: &Plan, settings: &Phase2Settings) -> Result<(Model, Plan)> {
        let gallery = self.gallery()?;
        let ours = cell == Cell::OursTuned;
        let moments = match self.task.settings.search.moments.filter(|_| ours) {
            Some(of) => Some((self.searcher()?, of)),
            None => None,
        };
        let file = |extension: &str| gallery.file(cell.name(), plan.nfe(), extension);
        let path = file("safetensors");
        if path.exists() {
            let model = checkpoint::load(&path, self.fitter.base.device())?.model.with_kind(self.fitter.base.kind());
            let plan = plan_for(self.fitter.base, &model, plan, moments)?;
            return Ok((model, plan));
        }
        ui::note(format!("{}, {} steps: tuning", cell.name(), plan.nfe()));
        let (state, trajectories) = (file("state.safetensors"), file("trajectories.safetensors"));
        let cache = Cache { path: &trajectories, model_sha256: &self.subject.opened.hash };
        let saved = Saved { path: &state, trajectories: cache, resume: self.resume };
        let tuned = self.fitter.phase2(
            self.fitter.base,
            plan,
            settings,
            Some(saved),
            ours && self.fitter.settings.settling_images > 0,
        )?;
        atomic::write_json(file("looks.json"), &tuned.looks)?;
        // the paper's rows are its own: all of the way
        let (model, plan, share) = if ours {
            let settled = self.fitter.settle(self.fitter.base, tuned.model, plan, moments, Some(&gallery.studio))?;
            atomic::write_json(file("between.json"), &settled.looks)?;
            (settled.model, settled.plan, settled.share)
        } else {
            (tuned.model, plan.clone(), 1.0)
        };
        let mut notes = self.subject.opened.notes.clone();
        let by =
            format!("{} at {} steps, {} of the way, by fewstep reproduce", cell.name(), plan.nfe(), percent(share));
        notes.insert("tuned".to_owned(), by);
        checkpoint::save(&path, &model, Storage::F32, &notes)?;
        let _ = std::fs::remove_file(&state);
        let _ = std::fs::remove_file(&trajectories);
        Ok((model, plan))
    }

    /// The held-out error while each method's levels or network learned. Both stages' is their second's.
    pub fn learning(&self, steps: usize) -> Result<Vec<Learning>> {
        let Some(gallery) = &self.gallery else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for cell in self.task.cells() {
            let looks = if cell == Cell::Stage1 {
                let learned: Option<Learned> = read(&self.folder.join(format!("levels-{steps:03}.json")))?;
                learned.map(|learned| learned.looks)
            } else {
                let looks: Option<Vec<TuneStep>> = read(&gallery.file(cell.name(), steps, "looks.json"))?;
                looks.map(|looks| looks.iter().map(|look| (look.iteration, look.rollout_error)).collect())
            };
            all.extend(looks.map(|looks| Learning { steps, method: cell.name().to_owned(), looks }));
        }
        Ok(all)
    }

    /// Networks on the way to the one tuned for our plan; none where none were looked at.
    pub fn between(&self, steps: usize) -> Result<Vec<Between>> {
        let Some(gallery) = &self.gallery else { return Ok(Vec::new()) };
        Ok(read(&gallery.file(Cell::OursTuned.name(), steps, "between.json"))?.unwrap_or_default())
    }
}
