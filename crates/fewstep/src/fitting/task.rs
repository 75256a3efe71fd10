//! A whole run: `plan`, `tune` or `fit`.

use std::path::PathBuf;

use fewstep_core::observe::{Event, Observer};
use fewstep_core::plan::Plan;
use fewstep_eval::features::{FeatureId, FeatureNetwork};
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::data::Images;
use fewstep_nn::fit::TuneWeights;
use fewstep_nn::spread;
use fewstep_search::settings::Distance;
use fewstep_search::{Extras, MomentsOf, PlanScorer, Search, usual_teacher};
use serde::{Deserialize, Serialize};

use super::budget::{self, Shared};
use super::interpolate::teacher_seeds;
use super::settings::{FitSettings, PlanSource, check_tunable};
use super::{FeatureLoss, Fitter, Outcome};
use crate::data::{DataId, data_moments};
use crate::error::{Result, ensure};
use crate::forecast::MOST_COUNTED;
use crate::models::{ModelId, OpenModel};
use crate::plan_scorer::FrechetPlanScorer;
use crate::reference::{ImageReference, ReferenceId};
use crate::runs::{REPORT, ResumeError, Run, RunOptions, Task, what_differs};
use crate::scorer::ImageScorer;
use crate::teachers::{SpreadDenoiser, TorchSearch, teacher_in};

/// Where the outcomes stand, in the run folder.
pub const OUTCOMES: &str = "fit.json";

/// Which of the commands that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phases {
    /// Phase 1: plans are found.
    Plan,
    /// Phase 2: the network is tuned, for plans that are given or found first.
    Tune,
    /// Both phases in turn, for a number of rounds.
    Fit,
}

/// What is fitted, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitTask {
    /// Which phases.
    pub phases: Phases,
    /// The model.
    pub model: ModelId,
    /// Training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataId>,
    /// The feature network of distances of features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureId>,
    /// What scores the images of interpolated levels and networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceId>,
    /// Where plans come from.
    pub method: PlanSource,
    /// Plans that are tuned for, in place of finding some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanFile>,
    /// Numbers of evaluations.
    pub steps: Vec<usize>,
    /// How often both phases take turns.
    pub rounds: usize,
    /// Settings.
    pub settings: FitSettings,
}

/// A plan's file as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Its path.
    pub name: PathBuf,
    /// SHA-256 of it.
    pub sha256: String,
}

impl FitTask {
    /// Whether plans are found.
    pub fn finds(&self) -> bool {
        self.plans.is_empty()
    }

    /// Whether the network is tuned.
    pub fn tunes(&self) -> bool {
        self.phases != Phases::Plan
    }

    /// What plans' samples have their moments matched with, if anything.
    pub fn moments(&self) -> Option<MomentsOf> {
        if self.finds() { self.method.moments() } else { None }
    }

    /// Name of the command.
    pub fn command(&self) -> &'static str {
        match self.phases {
            Phases::Plan => "plan",
            Phases::Tune => "tune",
            Phases::Fit => "fit",
        }
    }

    /// Whether training images are needed.
    pub fn needs_images(&self) -> bool {
        self.finds() && self.method.needs_images() || self.tunes() && self.settings.tune.needs_images()
    }

    /// Whether training images are used where there are some: those that are needed, and what a critic tells a student's images from.
    pub fn uses_images(&self) -> bool {
        let tuned = || matches!(self.settings.tune.weights(true), TuneWeights::Rollout(loss) if loss.needs_images());
        self.needs_images() || self.tunes() && tuned()
    }

    /// Whether distances of features are.
    pub fn compares_features(&self) -> bool {
        let refined = self.finds() && self.method.follows_gradients();
        refined && self.settings.search.rollout.loss == Distance::Features
            || self.tunes() && self.settings.tune.compares_features()
    }

    /// Whether images choose among networks between the untuned and the tuned one, where there is a reference.
    pub fn interpolates_networks(&self) -> bool {
        self.tunes() && self.chooses_by_images()
    }

    /// Whether images choose among levels between rho = 7 and those that the paper's objectives led to, where there is a reference.
    pub fn interpolates_levels(&self) -> bool {
        self.finds() && self.method == PlanSource::Paper && self.chooses_by_images()
    }

    /// Whether images choose among plans, where there is a reference.
    pub fn chooses_plans(&self) -> bool {
        self.finds() && matches!(&self.method, PlanSource::Method(method) if method.nearest)
    }

    /// Not by what tuning made small.
    fn chooses_by_images(&self) -> bool {
        self.settings.interpolate.images > 0 && self.settings.early_stop && !self.compares_features()
    }

    /// The task as far as a model allows it: where weights cannot be had, both phases are phase 1 alone, and the observer is told so.
    pub fn for_model(self, opened: &OpenModel, observer: &dyn Observer) -> Self {
        match opened.tunable() {
            Err(why) if self.phases == Phases::Fit => {
                observer.event(Event::Note(&format!("phase 1 alone: {why}")));
                Self { phases: Phases::Plan, ..self }
            }
            _ => self,
        }
    }

    /// Refuses what cannot be done, before any work.
    ///
    /// # Errors
    /// In a sentence.
    pub fn check(&self, opened: &OpenModel, images: Option<usize>) -> Result<()> {
        let (settings, least) = (&self.settings, if self.tunes() { 2 } else { 1 });
        settings.validate()?;
        if let Some(images) = images {
            settings.data.check(images)?;
        }
        ensure!(!self.steps.is_empty(), "there must be at least one number of steps");
        ensure!(self.rounds >= 1, "there must be at least 1 round");
        ensure!(self.rounds as u64 <= MOST_COUNTED, "there must be at most {MOST_COUNTED} rounds, not {}", self.rounds);
        ensure!(
            self.rounds == 1 || self.phases == Phases::Fit,
            "rounds are of both phases in turn, and there is only one here"
        );
        ensure!(
            self.steps.iter().all(|&steps| steps >= least),
            "{} needs numbers of steps of at least {least}",
            self.command()
        );
        ensure!(
            images.is_some() || !self.needs_images(),
            "this needs training images: name them with --data (the methods paper, bound and those with +data-moments \
             take them, and so do the losses bound and edm, and tune.data_weight)"
        );
        if self.finds() {
            if let PlanSource::Method(method) = &self.method {
                method.check_evaluations(&self.steps)?;
            }
            let longest = self.steps.iter().copied().max().unwrap_or_default();
            let (name, grid) = match &self.method {
                _ if settings.needs_table(&self.method) => ("paper.grid".to_owned(), settings.paper.grid),
                PlanSource::Method(method) => match settings.search.grid_of(method) {
                    Some((name, grid)) => (format!("search.{name}"), grid),
                    None => (String::new(), usize::MAX),
                },
                _ => (String::new(), usize::MAX),
            };
            ensure!(
                grid >= longest,
                "the setting {name} is {grid}: it must have at least as many levels as the longest plan, {longest}"
            );
            if self.tunes() {
                check_tunable(&self.method)?;
            }
        }
        if self.tunes() {
            settings.tune.check_model(opened)?;
        }
        if self.finds() {
            settings.check_denoiser(&self.method, opened.denoiser())?;
        }
        settings.check_data(self.finds().then_some(&self.method), self.tunes(), images, &self.steps)
    }
}

impl Task for FitTask {
    const KIND: &'static str = "fit";

    fn kind(&self) -> &'static str {
        self.command()
    }

    fn is_kind(kind: &str) -> bool {
        ["plan", "tune", "fit"].contains(&kind)
    }

    fn continuing(mut self, earlier: Self) -> std::result::Result<Self, ResumeError> {
        // files may have moved: what they hold counts
        if self.model.same(&earlier.model) {
            self.model = earlier.model.clone();
        }
        if let (Some(now), Some(before)) = (&mut self.data, &earlier.data)
            && now.sha256 == before.sha256
        {
            now.name.clone_from(&before.name);
        }
        if ReferenceId::all_same(&self.references, &earlier.references) {
            self.references.clone_from(&earlier.references);
        }
        for (now, before) in self.plans.iter_mut().zip(&earlier.plans) {
            if now.sha256 == before.sha256 {
                now.name.clone_from(&before.name);
            }
        }
        what_differs(&earlier, &self).map_or(Ok(self), Err)
    }
}

/// What a fit works with, beside its task.
pub struct FitInputs<'a> {
    /// The model.
    pub model: &'a OpenModel,
    /// Training images.
    pub images: Option<&'a Images>,
    /// The feature network of distances of features.
    pub features: Option<&'a dyn FeatureNetwork>,
    /// What scores the images of interpolated levels and networks; without any the held-out error chooses.
    pub references: &'a [ImageReference],
    /// The plans of the task's files, in order.
    pub plans: &'a [Plan],
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct FitRun {
    /// Its folder.
    pub folder: PathBuf,
    /// What it left, by number of steps.
    pub outcomes: Vec<Outcome>,
}

/// Fits, or goes on with what an earlier run left undone.
///
/// # Errors
/// If the task cannot be done, the denoiser fails, or the observer asks for the end ([`crate::Error::Stopped`]).
pub fn fit(task: FitTask, inputs: &FitInputs, options: &RunOptions, observer: &dyn Observer) -> Result<FitRun> {
    let opened = inputs.model;
    task.check(opened, inputs.images.map(Images::len))?;
    let run = Run::start(task, options)?;
    let (task, folder) = (&run.file.task, &run.folder);
    let settings = &task.settings;
    observer.event(Event::Note(&format!(
        "teacher: {} evaluations on {} held-out latents",
        2 * settings.held_out.teacher_steps - 1,
        settings.held_out.samples
    )));
    let (base, network) = (opened.denoiser(), opened.network());
    let spread = spread(base);
    let fitter = Fitter::new(base, network, inputs.images, settings, observer)?.with_features(inputs.features);
    let scorer = match inputs.references {
        references if !references.is_empty() && (task.interpolates_networks() || task.interpolates_levels()) => {
            let mut scorer = ImageScorer::new(references, settings.batch)?;
            let teacher = usual_teacher(&base.spec().levels, settings.held_out.teacher_steps)?;
            scorer.teach(base, &teacher, teacher_seeds(&settings.interpolate), folder.path(), observer)?;
            Some(scorer)
        }
        _ => None,
    };
    let moments = match (task.moments(), inputs.images) {
        (Some(MomentsOf::Data), Some(images)) => Some(data_moments(images, base, settings.batch)?),
        _ => None,
    };
    let loss = inputs.features.map(FeatureLoss::new);
    let references = if task.chooses_plans() { inputs.references } else { &[] };
    let plan_scorer = FrechetPlanScorer::new(references, settings.batch, base, observer)?;
    let (plan_scorer, resumed) = (plan_scorer.as_ref(), run.resumed);
    let mut shared =
        Shared { task, opened, folder, resumed, table: None, search: None, found: None, scorer, plan_scorer };
    if task.finds() && settings.needs_table(&task.method) {
        shared.table = Some(fitter.table(base)?);
    }
    let table = shared.table.clone();
    if let Some((search, taught)) = open_search(task, &spread, folder, observer)? {
        let search = search.with(Extras {
            data: moments.as_ref(),
            table: table.as_ref(),
            plan_scorer: plan_scorer.map(|plan_scorer| plan_scorer as &dyn PlanScorer),
            loss: loss.as_ref().map(|loss| loss as &dyn fewstep_search::SampleLoss<_>),
        });
        shared.found = find(task, (&search, taught), folder, run.resumed, observer)?;
        shared.search = Some(search);
    }
    let mut outcomes = Vec::new();
    for (index, &steps) in task.steps.iter().enumerate() {
        outcomes.push(shared.fit(&fitter, inputs.plans.get(index), steps)?);
        folder.write_json(OUTCOMES, &outcomes)?;
    }
    for index in 0..outcomes.len() {
        outcomes[index].cross_plan = shared.cross_plans(&fitter, &outcomes, index)?;
    }
    folder.write_json(OUTCOMES, &outcomes)?;
    atomic::write_bytes(folder.file(REPORT), super::report(folder)?.to_html().as_bytes())?;
    Ok(FitRun { folder: folder.path().to_owned(), outcomes })
}

/// The search on the untuned denoiser, its teacher from the run folder. Second, the evaluations of single samples that the teacher took
/// now.
fn open_search<'a>(
    task: &'a FitTask,
    base: &'a SpreadDenoiser<'a>,
    folder: &RunFolder,
    observer: &'a dyn Observer,
) -> Result<Option<(TorchSearch<'a>, u64)>> {
    if !task.finds() || task.method == PlanSource::Paper {
        return Ok(None);
    }
    let settings = &task.settings.search;
    let (teacher, taught) = teacher_in(folder.path(), base, settings, observer)?;
    let search = Search::with_teacher(base, teacher, settings, observer)?;
    let taught = taught + search.teacher_evaluations();
    Ok(Some((search, taught)))
}

/// Plans of the first round for all numbers of steps at once, unless an earlier run has left them all.
fn find(
    task: &FitTask,
    (search, taught): (&TorchSearch, u64),
    folder: &RunFolder,
    resumed: bool,
    observer: &dyn Observer,
) -> Result<Option<fewstep_search::Found>> {
    let PlanSource::Method(method) = &task.method else { return Ok(None) };
    let done = |&steps: &usize| resumed && folder.file(&budget::first_file(steps)).exists();
    if task.steps.iter().all(done) {
        return Ok(None);
    }
    let found = search.find(method, &task.steps)?;
    observer.event(Event::Note(&format!(
        "{method}: {} evaluations in {:.1} s for all numbers of steps, after the teacher's {taught}",
        found.evaluations, found.seconds
    )));
    for &steps in &task.steps {
        found.plan(method, steps)?;
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::super::idle::tests::task;
    use super::*;

    #[test]
    fn a_run_goes_on_with_its_own_task_wherever_its_files_are() {
        let earlier = task(Phases::Fit, "least-squares");
        let mut moved = earlier.clone();
        moved.model.name = "moved/m".to_owned();
        assert_eq!(moved.continuing(earlier.clone()).unwrap(), earlier);
        let mut other = earlier.clone();
        other.settings.tune.updates = 9;
        let error = other.continuing(earlier.clone()).unwrap_err().to_string();
        assert!(error.contains("settings.tune.updates 9 (was 1000)"), "{error}");
        let mut other = earlier.clone();
        other.model.precision = "bf16".to_owned();
        assert!(other.continuing(earlier).unwrap_err().to_string().contains("precision"));
    }
}
