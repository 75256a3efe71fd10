//! The experiment runner: every row of the paper's experiments is made once and kept in the run folder.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Instant;

use fewstep_core::observe::{Event, Observer};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::fit::{NoiseSharing, TuneStep};
use fewstep_nn::{Network, TorchDenoiser, Tunable};
use fewstep_search::{DataMoments, Extras, MomentsOf, PlanScorer, Search, baseline, usual_teacher};

use super::figures::{Descent, Interpolation, LEVELS, Learning};
use super::{ReproduceInputs, ReproduceTask, RowKind};
use crate::cells::{Errors, ResultCache, Row, SearchCost};
use crate::data::data_moments;
use crate::error::{Context, Result};
use crate::fitting::settings::{PaperObjective, PaperSettings, TuneSettings};
use crate::fitting::{ChosenLevels, FitSettings, Fitter, FoundPlan, Saved, comes_nearer, plan_for};
use crate::models::load_like;
use crate::plan_scorer::FrechetPlanScorer;
use crate::plans::euler;
use crate::runs::{read, remove_if_there, slug};
use crate::scorer::ImageScorer;
use crate::teachers::{SpreadDenoiser, TorchSearch, teacher_in};

/// Everything that rows need.
pub(super) struct Runner<'a> {
    task: &'a ReproduceTask,
    inputs: &'a ReproduceInputs<'a>,
    fitter: &'a Fitter<'a>,
    /// What it searches on.
    denoiser: &'a SpreadDenoiser<'a>,
    /// Where rows are kept, in the run folder.
    folder: PathBuf,
    /// None where the experiment scores no samplers.
    cache: Option<ResultCache<'a>>,
    /// Our search, once it is needed.
    search: OnceCell<TorchSearch<'a>>,
    /// What it matches moments with.
    moments: &'a OnceCell<DataMoments>,
    /// What chooses among plans.
    plan_scorer: Option<&'a FrechetPlanScorer<'a>>,
    resumed: bool,
    observer: &'a dyn Observer,
}

impl<'a> Runner<'a> {
    /// Rows are kept in a folder of their own.
    pub fn new(
        task: &'a ReproduceTask,
        inputs: &'a ReproduceInputs<'a>,
        (fitter, denoiser): (&'a Fitter<'a>, &'a SpreadDenoiser<'a>),
        (moments, plan_scorer): (&'a OnceCell<DataMoments>, Option<&'a FrechetPlanScorer<'a>>),
        (run, resumed): (&'a RunFolder, bool),
    ) -> Result<Self> {
        let (folder, observer) = (run.subfolder("cells")?, fitter.observer);
        let scorer = match inputs.references {
            [] => None,
            references => Some(ImageScorer::new(references, task.settings.fit.batch)?),
        };
        let cache = task.experiment.scores().then(|| ResultCache {
            name: &inputs.model.name,
            root: run.path(),
            folder: folder.clone(),
            scorer,
            seeds: task.settings.seeds,
            observer,
        });
        let search = OnceCell::new();
        Ok(Self { task, inputs, fitter, denoiser, folder, cache, search, moments, plan_scorer, resumed, observer })
    }

    fn base(&self) -> &'a dyn TorchDenoiser {
        self.fitter.base
    }

    /// The rows of the experiment: the teacher first, then every number of steps. `save` takes those that there are.
    pub fn run(&mut self, save: impl Fn(&[Row]) -> Result<()>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let base = self.base();
        if let Some(cache) = &mut self.cache {
            let plan = usual_teacher(&base.spec().levels, self.task.settings.fit.held_out.teacher_steps)?;
            cache.teach(base, &plan)?;
            rows.push(self.scored("teacher", base, &plan, SearchCost::default())?);
        }
        for &steps in &self.task.steps {
            for kind in self.task.rows() {
                rows.push(self.row(kind, steps)?);
                save(&rows)?;
            }
        }
        Ok(rows)
    }

    /// rho = 7 at so many levels.
    pub fn rho_7(&self, steps: usize) -> Result<Schedule> {
        Ok(baseline(&self.base().spec().levels, steps)?)
    }

    /// The levels that the paper's objective led to, or those of an earlier run.
    pub fn learned_levels(&self, steps: usize) -> Result<Schedule> {
        let learned = self.learned(&format!("levels-{steps:03}"), steps, &self.task.settings.fit.paper)?;
        Ok(Schedule::new(learned.plan.sigmas())?)
    }

    /// Phase 1: the learned levels, or those on the way to them that images choose.
    fn levels(&self, steps: usize) -> Result<Schedule> {
        let Some(scorer) = self.chooser() else { return self.learned_levels(steps) };
        let file = self.folder.join(format!("levels-{steps:03}-interpolation.json"));
        let chosen = match read::<ChosenLevels>(&file)? {
            Some(chosen) => chosen,
            None => {
                let FitSettings { paper, interpolate, .. } = &self.task.settings.fit;
                let mut learned = Vec::new();
                for settings in interpolate.learnings(paper) {
                    let by = settings.learned_by();
                    // those of figures 3 and 4 have a file without such a name
                    let of = if settings == *paper { String::new() } else { format!("-{}", slug(&by.to_string())) };
                    let found = self.learned(&format!("levels-{steps:03}{of}"), steps, &settings)?;
                    learned.push((by, Schedule::new(found.plan.sigmas())?));
                }
                let chosen = self.fitter.interpolate_levels(self.base(), &self.rho_7(steps)?, &learned, scorer)?;
                atomic::write_json(&file, &chosen)?;
                chosen
            }
        };
        Ok(Schedule::new(chosen.plan.sigmas())?)
    }

    /// What chooses the paper's levels and networks, if images do.
    fn chooser(&self) -> Option<&ImageScorer<'a>> {
        let settings = &self.task.settings;
        let chooses = settings.choose_by_images && settings.fit.interpolate.images > 0;
        self.cache.as_ref()?.scorer.as_ref().filter(|_| chooses)
    }

    /// Phase 1 with these settings, from rho = 7 on, or what an earlier run left under this name.
    fn learned(&self, name: &str, steps: usize, paper: &PaperSettings) -> Result<FoundPlan> {
        let [file, state] = ["json", "state.json"].map(|extension| self.learned_file(name, extension));
        if let Some(learned) = read(&file)? {
            remove_if_there(&state)?; // an earlier run may have ended before it did
            return Ok(learned);
        }
        let settings = FitSettings { paper: paper.clone(), ..self.task.settings.fit.clone() };
        let fitter = self.fitter.with_settings(&settings);
        let learned = fitter.optimise_levels(self.base(), &self.rho_7(steps)?, &state, self.chooser().is_some())?;
        atomic::write_json(&file, &learned)?;
        remove_if_there(&state)?;
        Ok(learned)
    }

    /// The file of what phase 1 learned: levels that the held-out error stopped are others than those that images choose on the way to.
    fn learned_file(&self, name: &str, extension: &str) -> PathBuf {
        let to_the_end = self.task.settings.fit.early_stop && self.chooser().is_some();
        self.folder.join(format!("{name}{}.{extension}", if to_the_end { "-to-the-end" } else { "" }))
    }

    /// Phase 1 by each of the paper's objectives: what it minimises, and what becomes of the sampler.
    pub fn objectives(&self, steps: usize) -> Result<Vec<Descent>> {
        let paper = &self.task.settings.fit.paper;
        let variants = [
            ("Eq. 10, independent noise", PaperObjective::Discretization, NoiseSharing::Independent),
            ("Eq. 10, shared noise", PaperObjective::Discretization, NoiseSharing::Shared),
            ("Eq. 12, the bound", PaperObjective::Bound, NoiseSharing::Independent),
            ("both", paper.objective, NoiseSharing::Independent),
        ];
        let descend = |(name, objective, noise): (&str, PaperObjective, NoiseSharing)| {
            self.observer.event(Event::Note(&format!("{name}, {steps} steps")));
            let paper = PaperSettings { objective, noise, ..paper.clone() };
            let learned = self.learned(&format!("{}-{steps:03}", slug(name)), steps, &paper)?;
            Ok(Descent {
                name: name.to_owned(),
                steps,
                loss: learned.steps.iter().map(|step| (step.iteration, step.loss)).collect(),
                rollout_error: learned.evaluations,
                sigmas: learned.plan.sigmas(),
            })
        };
        variants.into_iter().map(descend).collect()
    }

    fn row(&self, kind: RowKind, steps: usize) -> Result<Row> {
        let cache = self.cache()?;
        if let Some(row) = cache.begun(kind.name(), steps)?.filter(|row| cache.is_done(row)) {
            return Ok(row);
        }
        let started = Instant::now();
        let plan = match kind {
            RowKind::Baseline | RowKind::Phase2 | RowKind::Original => euler(&self.rho_7(steps)?)?,
            RowKind::Phase1 | RowKind::Both => euler(&self.levels(steps)?)?,
            RowKind::Ours | RowKind::OursTuned => self.ours(steps)?,
        };
        let tuned = match kind.tuning(&self.task.settings) {
            Some(settings) => Some(self.tuned(kind, &plan, settings)?),
            None => None,
        };
        let cost = SearchCost { evaluations: 0, seconds: started.elapsed().as_secs_f64() };
        match &tuned {
            Some((model, plan)) => self.scored(kind.name(), model, plan, cost),
            None => self.scored(kind.name(), self.base(), &plan, cost),
        }
    }

    fn scored(&self, name: &str, denoiser: &dyn TorchDenoiser, plan: &Plan, cost: SearchCost) -> Result<Row> {
        let cache = self.cache()?;
        // what was found earlier was found at the cost of then
        let cost = match cache.begun(name, plan.nfe())? {
            Some(row) if cache.is_done(&row) => return Ok(row),
            Some(row) => SearchCost { evaluations: row.search_evaluations, seconds: row.search_seconds },
            None => cost,
        };
        let errors = Errors { held_out: self.fitter.rollout_error(denoiser, plan)?, training: None };
        cache.measure(name, denoiser, plan, errors, cost)
    }

    fn cache(&self) -> Result<&ResultCache<'a>> {
        self.cache.as_ref().context("this experiment scores no samplers")
    }

    /// Our plan of so many evaluations, or that of an earlier run: what is found for some may depend on how many others are asked for.
    fn ours(&self, steps: usize) -> Result<Plan> {
        let file = |steps: usize| self.folder.join(format!("ours-{steps:03}.json"));
        if let Some(plan) = read(&file(steps))? {
            return Ok(plan);
        }
        // one search serves all numbers of steps
        let method = &self.task.settings.method;
        let found = self.search()?.find(method, &self.task.steps)?;
        for (steps, plan) in &found.plans {
            if !file(*steps).exists() {
                atomic::write_json(file(*steps), plan)?;
            }
        }
        Ok(found.plan(method, steps)?.clone())
    }

    fn search(&self) -> Result<&TorchSearch<'a>> {
        if self.search.get().is_none() {
            let (settings, observer) = (&self.task.settings, self.observer);
            let (teacher, _) = teacher_in(&self.folder, self.denoiser, &settings.fit.search, observer)?;
            let search = Search::with_teacher(self.denoiser, teacher, &settings.fit.search, observer)?;
            let plan_scorer = self.plan_scorer.map(|plan_scorer| plan_scorer as &dyn PlanScorer);
            let _ = self.search.set(search.with(Extras { data: self.moments()?, plan_scorer, ..Extras::default() }));
        }
        self.search.get().context("the search was just made")
    }

    /// The moments of training images, where our search matches them.
    fn moments(&self) -> Result<Option<&'a DataMoments>> {
        let (Some(MomentsOf::Data), Some(images)) = (self.task.settings.method.moments, self.inputs.images) else {
            return Ok(None);
        };
        if self.moments.get().is_none() {
            let _ = self.moments.set(data_moments(images, self.base(), self.task.settings.fit.batch)?);
        }
        Ok(self.moments.get())
    }

    /// The network tuned for a plan, or that of an earlier run, and the plan for it.
    fn tuned(&self, kind: RowKind, plan: &Plan, tune: TuneSettings) -> Result<(Network, Plan)> {
        let (cache, untuned) = (self.cache()?, self.inputs.model.tunable()?);
        let settings = FitSettings { tune, ..self.task.settings.fit.clone() };
        let fitter = self.fitter.with_settings(&settings);
        let ours = kind == RowKind::OursTuned;
        let moments = match self.task.settings.method.moments.filter(|_| ours) {
            Some(of) => Some((self.search()?, of)),
            None => None,
        };
        let file = |extension: &str| cache.file(kind.name(), plan.nfe(), extension);
        let path = file("safetensors");
        let (state, trajectories) = (file("state.safetensors"), file("trajectories.safetensors"));
        let saved = Saved { state: &state, trajectories: &trajectories, resume: self.resumed };
        if path.exists() {
            saved.remove(&settings)?; // an earlier run may have ended before it did
            let model = load_like(&path, untuned)?;
            let plan = plan_for(untuned, &model, plan, moments)?;
            return Ok((model, plan));
        }
        self.observer.event(Event::Note(&format!("{}, {} steps: tuning", kind.name(), plan.nfe())));
        let scorer = match ours {
            true => cache.scorer.as_ref().filter(|_| settings.interpolate.images > 0),
            false => self.chooser(),
        };
        let tuned = fitter.tune(untuned, plan, Some(saved), scorer.is_some())?;
        atomic::write_json(file("evaluations.json"), &tuned.evaluations)?;
        let chosen = fitter.interpolate(untuned, tuned, plan, moments, scorer)?;
        atomic::write_json(file("interpolation.json"), &chosen.points)?;
        // our row shows what tuning does, be it good or not; the paper's shows its best
        let (model, plan, alpha) = match comes_nearer(&chosen.points) {
            Some(false) if !ours => (untuned.duplicate()?, plan.clone(), 0.0),
            _ => (chosen.model, chosen.plan, chosen.alpha),
        };
        let mut notes = self.inputs.model.notes.clone();
        let (steps, hash) = (plan.nfe(), self.inputs.model.origin());
        let by = format!(
            "by fewstep reproduce for {steps} steps, {}, alpha {alpha}, from the network with SHA-256 {hash}",
            kind.name()
        );
        notes.insert("tuned".to_owned(), by);
        checkpoint::save(&path, model.model(), Storage::F32, &notes)?;
        saved.remove(&settings)?;
        Ok((load_like(&path, untuned)?, plan))
    }

    /// The held-out error while each row's levels or network were learned. That of both phases is their second's.
    pub fn learning(&self, steps: usize) -> Result<Vec<Learning>> {
        let Some(cache) = &self.cache else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for kind in self.task.rows() {
            let evaluations = if kind == RowKind::Phase1 {
                let learned: Option<FoundPlan> = read(&self.learned_file(&format!("levels-{steps:03}"), "json"))?;
                learned.map(|learned| learned.evaluations)
            } else {
                let tuning: Option<Vec<TuneStep>> = read(&cache.file(kind.name(), steps, "evaluations.json"))?;
                tuning.map(|tuning| tuning.iter().map(|step| (step.iteration, step.rollout_error)).collect())
            };
            let method = kind.name().to_owned();
            all.extend(evaluations.map(|evaluations| Learning { steps, method, evaluations }));
        }
        Ok(all)
    }

    /// What images chose among for each row: levels, then networks.
    pub fn interpolations(&self, steps: usize) -> Result<Vec<Interpolation>> {
        let Some(cache) = &self.cache else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        let levels = read::<ChosenLevels>(&self.folder.join(format!("levels-{steps:03}-interpolation.json")))?;
        all.extend(levels.map(|chosen| Interpolation { steps, method: LEVELS.to_owned(), points: chosen.points }));
        for kind in self.task.rows() {
            let points: Option<Vec<_>> = read(&cache.file(kind.name(), steps, "interpolation.json"))?;
            all.extend(points.map(|points| Interpolation { steps, method: kind.name().to_owned(), points }));
        }
        Ok(all)
    }
}
