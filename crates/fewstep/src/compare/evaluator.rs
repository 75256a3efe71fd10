//! The evaluator of one model: its cells, each scored once and kept in the run folder.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use fewstep_core::denoiser::{Denoiser, Shared};
use fewstep_core::objective::BoundTable;
use fewstep_core::observe::{Event, Observer};
use fewstep_core::plan::Plan;
use fewstep_io::{RunFolder, atomic, hash};
use fewstep_nn::fit::TableConfig;
use fewstep_nn::teachers::spent_on;
use fewstep_nn::tensor::Batch;
use fewstep_search::{
    DataMoments, Error as SearchError, Extras, Found, HELD_OUT_SEEDS, HeldOut, Method, MomentsOf, PlanScorer,
    SEARCH_REVISION, SampleLoss, Search, Source, Stage, check_steps, usual_teacher,
};
use serde::{Deserialize, Serialize};

use super::{CompareTask, Subject};
use crate::bound::{TABLE_GRID, bound_table};
use crate::cells::diverged::or_infinite;
use crate::cells::{Errors, ResultCache, Row, SearchCost};
use crate::data::{DataId, data_moments};
use crate::error::{Context, Result};
use crate::features::FeatureLoss;
use crate::plan_scorer::FrechetPlanScorer;
use crate::runs::{read, slug};
use crate::scorer::ImageScorer;
use crate::teachers::{SpreadDenoiser, TorchSearch, teacher_file, teacher_in};

/// What some searches need beside the denoiser, made when the first of them does.
pub(super) struct Materials<'a> {
    moments: OnceCell<DataMoments>,
    table: OnceCell<BoundTable>,
    /// A loss of features, where samples are images themselves.
    loss: Option<FeatureLoss<'a>>,
    /// What chooses among plans.
    plan_scorer: Option<FrechetPlanScorer<'a>>,
}

impl<'a> Materials<'a> {
    pub(super) fn new(task: &CompareTask, subject: &'a Subject, observer: &'a dyn Observer) -> Result<Self> {
        let direct = subject.model.denoiser().pixel_shape().is_some_and(|shape| *subject.model.spec().shape == shape);
        let features = subject.references.first().filter(|_| direct).map(|reference| &*reference.features);
        let chooses = task.methods.iter().any(|method| method.nearest);
        let references = if chooses { subject.references.as_slice() } else { &[] };
        let plan_scorer = FrechetPlanScorer::new(references, subject.batch, subject.model.denoiser(), observer)?;
        Ok(Self { moments: OnceCell::new(), table: OnceCell::new(), loss: features.map(FeatureLoss::new), plan_scorer })
    }
}

/// The evaluator of one model.
pub(super) struct Evaluator<'a> {
    task: &'a CompareTask,
    subject: &'a Subject,
    denoiser: &'a SpreadDenoiser<'a>,
    materials: &'a Materials<'a>,
    cache: ResultCache<'a>,
    held_out: OnceCell<HeldOut<Shared<Batch>>>,
    search: OnceCell<TorchSearch<'a>>,
    /// What was found, by the method's name.
    found: BTreeMap<String, Found>,
    observer: &'a dyn Observer,
}

impl<'a> Evaluator<'a> {
    /// Everything in a folder of its own, named after what the denoiser is.
    pub(super) fn new(
        task: &'a CompareTask,
        subject: &'a Subject,
        (denoiser, materials): (&'a SpreadDenoiser<'a>, &'a Materials<'a>),
        run: &'a RunFolder,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
        let identity = hash::sha256_bytes(denoiser.spec().identity.as_bytes());
        let scorer = match subject.references.as_slice() {
            [] => None,
            references => Some(ImageScorer::new(references, subject.batch)?),
        };
        let cache = ResultCache {
            name: &subject.model.name,
            root: run.path(),
            folder: run.subfolder(&format!("model-{}", &identity[..12]))?,
            scorer,
            seeds: task.settings.seeds(),
            observer,
        };
        Ok(Self {
            task,
            subject,
            denoiser,
            materials,
            cache,
            held_out: OnceCell::new(),
            search: OnceCell::new(),
            found: BTreeMap::new(),
            observer,
        })
    }

    /// The teacher's row; all cells are compared with its images of other seeds.
    pub(super) fn teacher(&mut self) -> Result<Row> {
        let plan = usual_teacher(&self.denoiser.spec().levels, self.task.settings.teacher_steps)?;
        self.cache.teach(*self.denoiser.inner(), &plan)?;
        self.scored("teacher", &plan, SearchCost::default(), false)
    }

    /// One cell; none where the method has no plan of so many evaluations.
    pub(super) fn cell(&mut self, method: &Method, nfe: usize) -> Result<Option<Row>> {
        let found = self.plans(method)?;
        let cost = SearchCost { evaluations: found.evaluations, seconds: found.seconds };
        match found.plans.get(&nfe).cloned() {
            Some(plan) => Ok(Some(self.scored(&method.to_string(), &plan, cost, method.needs_teacher())?)),
            None => {
                self.observer.event(Event::Note(&self.no_plan(method, nfe)));
                Ok(None)
            }
        }
    }

    /// That a method has no plan of so many evaluations, and why, where that hangs on its levels.
    fn no_plan(&self, method: &Method, nfe: usize) -> String {
        match check_steps(&self.denoiser.spec().levels, method, &[nfe], &self.task.settings.search) {
            // as the settings of a comparison are called
            Err(why @ SearchError::NoPlan { .. }) => why.to_string().replace("the setting ", "the setting search."),
            _ => format!("{method} has no plan of {nfe} evaluations"),
        }
    }

    /// The cell of an earlier run, which was not asked for again; none where it has none, or found its plan by other settings: the
    /// searches of a method may have been run anew for some numbers of evaluations alone.
    pub(super) fn earlier(&self, method: &Method, nfe: usize) -> Result<Option<Row>> {
        let Some(kept) = self.kept(method)? else { return Ok(None) };
        let Some(plan) = kept.found.plans.get(&nfe) else { return Ok(None) };
        self.cache.begun_of(&method.to_string(), plan)
    }

    /// The cell of an earlier run under this name.
    pub(super) fn earlier_of(&self, name: &str, nfe: usize) -> Result<Option<Row>> {
        self.cache.begun(name, nfe)
    }

    /// One cell of a plan from a file.
    pub(super) fn plan(&self, name: &str, plan: &Plan) -> Result<Row> {
        self.scored(name, plan, SearchCost::default(), false)
    }

    /// `searched`: whether the plan comes from a search that compares latents.
    fn scored(&self, method: &str, plan: &Plan, cost: SearchCost, searched: bool) -> Result<Row> {
        let training = |kept: Option<f64>| match kept {
            _ if !searched => Ok(None),
            Some(error) => Ok(Some(error)),
            None => Ok::<_, crate::Error>(Some(or_infinite(self.search()?.training_error(plan)?))),
        };
        if let Some(kept) = self.cache.begun_of(method, plan)?.filter(|row| self.cache.is_done(row)) {
            // the same plan, which may have been found at another cost
            let row = Row {
                search_evaluations: cost.evaluations,
                search_seconds: cost.seconds,
                training_error: training(kept.training_error)?,
                ..kept.clone()
            };
            if row != kept {
                self.cache.update(&row, plan)?;
            }
            return Ok(row);
        }
        let training = training(None)?;
        let held_out = self.held_out()?.rollout_error(self.denoiser, plan, self.observer)?;
        self.cache.measure(method, *self.denoiser.inner(), plan, Errors { held_out, training }, cost)
    }

    /// The plans of a method for all steps, searched once and kept.
    fn plans(&mut self, method: &Method) -> Result<&Found> {
        let name = method.to_string();
        if !self.found.contains_key(&name) {
            let found = self.kept_or_found(method)?;
            self.found.insert(name.clone(), found);
        }
        self.found.get(&name).context("the plans were just found")
    }

    fn kept_or_found(&self, method: &Method) -> Result<Found> {
        let earlier = match self.kept(method)? {
            Some(kept) if kept.serves(&self.task.steps) => return Ok(kept.found),
            earlier => earlier,
        };
        let search = self.search()?;
        let mut found = search.find(method, &search.possible(method, &self.task.steps))?;
        let mut steps = self.task.steps.clone();
        if let Some(earlier) = earlier {
            // what a search finds for few evaluations may depend on how many it goes on to: cells stay as they are
            found.plans.extend(earlier.found.plans);
            found.evaluations += earlier.found.evaluations;
            found.seconds += earlier.found.seconds;
            steps.extend(earlier.steps);
        }
        let kept = CacheEntry {
            steps,
            search: SEARCH_REVISION,
            stages: self.stages(method),
            data: self.data_of(method),
            found,
        };
        atomic::write_json(self.file(method), &kept)?;
        Ok(kept.found)
    }

    /// What an earlier run found for a method with the same settings.
    fn kept(&self, method: &Method) -> Result<Option<CacheEntry>> {
        let kept = read::<CacheEntry>(&self.file(method))?;
        let same = |kept: &CacheEntry| {
            let data = match (&kept.data, self.data_of(method)) {
                (Some(then), Some(now)) => now.is_same(then),
                (then, now) => then.is_none() && now.is_none(),
            };
            kept.search == SEARCH_REVISION && kept.stages == self.stages(method) && data
        };
        Ok(kept.filter(same))
    }

    fn file(&self, method: &Method) -> PathBuf {
        self.cache.folder.join(format!("{}.found.json", slug(&method.to_string())))
    }

    fn stages(&self, method: &Method) -> Vec<Stage> {
        method.stages(&self.task.settings.search)
    }

    fn data_of(&self, method: &Method) -> Option<DataId> {
        if !method.needs_data() {
            return None;
        }
        // a run that is asked for no such method opens no data, and those of an earlier one stand in its task
        let own = self.subject.data.as_ref().map(|(_, id)| id);
        let name = &self.subject.model.name;
        let of_task = || self.task.models.iter().find(|model| model.model.name == *name)?.data.as_ref();
        own.or_else(of_task).cloned()
    }

    fn held_out(&self) -> Result<&HeldOut<Shared<Batch>>> {
        once(&self.held_out, || {
            let count = self.task.settings.held_out as u64;
            let seeds: Vec<u64> = (HELD_OUT_SEEDS..HELD_OUT_SEEDS + count).collect();
            Ok(HeldOut::new(self.denoiser, &self.task.settings.search.teacher, &seeds, self.observer)?)
        })
    }

    /// The search of all methods, with the model's one teacher.
    fn search(&self) -> Result<&TorchSearch<'a>> {
        once(&self.search, || {
            let (settings, started) = (&self.task.settings.search, Instant::now());
            let extras = self.extras()?;
            let (teacher, evaluations) = teacher_in(&self.cache.folder, self.denoiser, settings, self.observer)?;
            let search = Search::with_teacher(self.denoiser, teacher, settings, self.observer)?.with(extras);
            let (place, is_new) = (self.cache.folder.join("teacher.json"), evaluations > 0);
            // an earlier run may have ended between the two files: what it spent is known, and not for how long
            if is_new || !place.exists() {
                let path = teacher_file(&self.cache.folder, *self.denoiser.inner(), settings);
                let spent = spent_on(&path)?.map(|spent| spent + search.teacher_evaluations());
                let seconds = is_new.then(|| started.elapsed().as_secs_f64());
                atomic::write_json(place, &serde_json::json!({ "evaluations": spent, "seconds": seconds }))?;
            }
            Ok(search)
        })
    }

    /// What the methods that are still to be searched need.
    fn extras(&self) -> Result<Extras<'a, Shared<Batch>>> {
        let materials = self.materials;
        let (mut table, mut moments) = (false, false);
        for method in &self.task.methods {
            if !self.kept(method)?.is_some_and(|kept| kept.serves(&self.task.steps)) {
                table |= method.source == Source::Bound;
                moments |= method.moments == Some(MomentsOf::Data);
            }
        }
        Ok(Extras {
            data: if moments { Some(once(&materials.moments, || self.moments())?) } else { None },
            table: if table { Some(once(&materials.table, || self.table())?) } else { None },
            plan_scorer: materials.plan_scorer.as_ref().map(|plan_scorer| plan_scorer as &dyn PlanScorer),
            loss: materials.loss.as_ref().map(|loss| loss as &dyn SampleLoss<Shared<Batch>>),
        })
    }

    fn moments(&self) -> Result<DataMoments> {
        let (images, _) = self.subject.data.as_ref().context("methods with +data-moments need training data")?;
        data_moments(images, *self.denoiser.inner(), self.subject.batch)
    }

    fn table(&self) -> Result<BoundTable> {
        let (images, _) = self.subject.data.as_ref().context("the method bound needs training data")?;
        let count = self.task.settings.table_images.min(images.len());
        let config = TableConfig { images: count, batch: self.subject.batch, seed: 0 };
        bound_table(*self.denoiser.inner(), images, TABLE_GRID, config, self.observer)
    }
}

/// Plans in a file, the numbers of evaluations that were asked for (some may have none), and what they depend on, the search's revision
/// among it.
#[derive(Serialize, Deserialize)]
struct CacheEntry {
    steps: Vec<usize>,
    #[serde(default)]
    search: u32,
    stages: Vec<Stage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<DataId>,
    found: Found,
}

impl CacheEntry {
    fn serves(&self, steps: &[usize]) -> bool {
        steps.iter().all(|step| self.steps.contains(step))
    }
}

/// What is in the cell, made if nothing is.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(known) => Ok(known),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}
