//! What is compared: the task as `run.json` keeps it.

use std::collections::BTreeSet;

use fewstep_eval::features::Convention;
use fewstep_search::{Error as SearchError, Method, SearchSettings, TEACHER_STEPS, documented};
use serde::{Deserialize, Serialize};

use super::{PlanFile, PlanFileId, Subject, SubjectId};
use crate::cells::SeedRanges;
use crate::error::{Result, bail, ensure};
use crate::runs::{ResumeError, Task, slug, what_differs};

documented! {
    /// How plans are searched and scored.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct CompareSettings {
        /// Images a cell and range of seeds.
        pub images: u64,
        /// Ranges of seeds, one after the other: distances are their mean, with a standard deviation.
        pub ranges: u64,
        /// First seed.
        pub first_seed: u64,
        /// How Inception's images are resized: tf1 (EDM, torch-fidelity) or pytorch-fid.
        pub resize: Convention,
        /// Latents held out for the rollout error.
        pub held_out: usize,
        /// Noise levels N of the teacher in the table, which makes 2 N - 1 evaluations: Heun, on flows dpmpp2m.
        pub teacher_steps: usize,
        /// Training images for the table of the method `bound`.
        pub table_images: usize,
        /// How plans are searched.
        pub search: SearchSettings,
    }
}

impl Default for CompareSettings {
    fn default() -> Self {
        Self {
            images: 5000,
            ranges: 1,
            first_seed: 0,
            resize: Convention::default(),
            held_out: 256,
            teacher_steps: TEACHER_STEPS,
            table_images: 256,
            search: SearchSettings::default(),
        }
    }
}

impl CompareSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first one outside its domain.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.images >= 2, "the setting images must be at least 2, as a covariance needs two");
        ensure!(self.ranges >= 1, "the setting ranges must be at least 1");
        ensure!(self.held_out >= 1, "the setting held_out must be at least 1");
        ensure!(self.teacher_steps >= 2, "the setting teacher_steps must be at least 2");
        ensure!(self.table_images >= 1, "the setting table_images must be at least 1");
        Ok(self.search.validate()?)
    }

    /// Seeds that images are scored on.
    pub(super) fn seeds(&self) -> SeedRanges {
        SeedRanges { images: self.images, ranges: self.ranges, first: self.first_seed }
    }
}

/// What is compared. A resumed run adds methods, plans, numbers of evaluations and models to what stands in its folder, and may change what only the searches of some
/// methods depend on: their plans are then found anew, and cells whose plans have changed are scored anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareTask {
    /// The models, and what each is scored by.
    pub models: Vec<SubjectId>,
    /// How plans are found.
    pub methods: Vec<Method>,
    /// Plans from files beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanFileId>,
    /// Network evaluations a sample.
    pub steps: Vec<usize>,
    /// How plans are searched and scored.
    pub settings: CompareSettings,
}

impl CompareTask {
    /// The comparison of `subjects` by these methods and plans.
    ///
    /// # Errors
    /// If a setting is outside its domain, two rows or models have one name, or a method cannot be run on a model.
    pub fn new(
        subjects: &[Subject],
        methods: &[Method],
        plans: &[PlanFile],
        steps: &[usize],
        settings: &CompareSettings,
    ) -> Result<Self> {
        settings.validate()?;
        ensure!(!subjects.is_empty(), "there is no model to compare anything on");
        ensure!(!steps.is_empty() && !steps.contains(&0), "the steps must be numbers of at least 1");
        let task = Self {
            models: subjects.iter().map(Subject::id).collect(),
            methods: methods.to_vec(),
            plans: plans.iter().map(PlanFile::id).collect(),
            steps: steps.to_vec(),
            settings: settings.clone(),
        };
        let mut files = BTreeSet::from(["teacher".to_owned()]);
        for name in task.row_names() {
            ensure!(
                files.insert(slug(&name)),
                "{name} is not the only row of that name: rename or leave out one of the methods and plans (the teacher has its \
                 own row)"
            );
        }
        let mut names = BTreeSet::new();
        for subject in subjects {
            ensure!(names.insert(&subject.model.name), "the model {} is there twice", subject.model.name);
            methods.iter().try_for_each(|method| runs_on(method, subject))?;
        }
        if let Some(method) = methods.iter().find(|method| method.possible(steps).is_empty()) {
            method.check_evaluations(steps)?;
        }
        Ok(task)
    }

    /// Refuses settings of searches that were asked for by name and change nothing here. (Methods that join later have the teacher and
    /// all that is no search's as they are now.)
    ///
    /// # Errors
    /// With the first of `names` that does.
    pub fn refuse_idle<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for name in names {
            let section = name.strip_prefix("search.").and_then(|rest| rest.split('.').next());
            let idle = |section: &str| section != "teacher" && !self.methods.iter().any(|method| method.uses(section));
            ensure!(
                !section.is_some_and(idle),
                "the setting {name} is for methods that have such a stage, and none of these has: it changes nothing here"
            );
        }
        Ok(())
    }

    /// The names of the rows: methods, then plan files.
    pub fn row_names(&self) -> Vec<String> {
        self.methods.iter().map(Method::to_string).chain(self.plans.iter().map(|plans| plans.name.clone())).collect()
    }

    /// Every number of evaluations in it.
    pub fn columns(&self) -> BTreeSet<usize> {
        self.steps.iter().chain(self.plans.iter().flat_map(|plans| &plans.steps)).copied().collect()
    }
}

/// Refuses a method that a model lacks something for, before any work is done.
fn runs_on(method: &Method, subject: &Subject) -> Result<()> {
    let denoiser = subject.model.denoiser();
    if method.needs_data() && subject.data.is_none() {
        return Err(SearchError::NeedsData { method: method.to_string(), hint: "" }.into());
    }
    if method.moments.is_some() && denoiser.appearance().is_none() {
        return Err(SearchError::NoImages.into());
    }
    if method.follows_gradients() && denoiser.differentiable().is_none() {
        return Err(SearchError::NotDifferentiable.into());
    }
    Ok(())
}

impl Task for CompareTask {
    const KIND: &'static str = "compare";

    fn continuing(mut self, earlier: Self) -> std::result::Result<Self, ResumeError> {
        // plans found with other settings of the searches are found anew; all have one teacher
        let mut search = self.settings.search.clone();
        search.teacher = earlier.settings.search.teacher.clone();
        if let Some(what) = what_differs(&CompareSettings { search, ..earlier.settings }, &self.settings) {
            return Err(what);
        }
        if self.models.len() < earlier.models.len() {
            let count = earlier.models.len();
            return Err(ResumeError(format!("it compares {count} models, which must all be named again")));
        }
        for (now, then) in self.models.iter_mut().zip(earlier.models) {
            now.continuing(then)?;
        }
        // what stands in the folder stays in its tables
        let (methods, plans, steps) = (self.methods, self.plans, self.steps);
        self.methods = earlier.methods;
        self.methods.extend(methods.into_iter().filter(|method| !self.methods.contains(method)).collect::<Vec<_>>());
        self.plans = earlier.plans.into_iter().filter(|plan| plans.iter().all(|now| now.name != plan.name)).collect();
        self.plans.extend(plans);
        self.steps = earlier.steps.into_iter().chain(steps).collect::<BTreeSet<_>>().into_iter().collect();
        Ok(self)
    }
}

/// Refuses plans that do not fit a model.
pub(super) fn fits_all<'a>(
    name: &str,
    plan: &fewstep_core::plan::Plan,
    mut subjects: impl Iterator<Item = &'a Subject>,
) -> Result<()> {
    subjects.try_for_each(|subject| match plan.check(subject.model.spec()) {
        Ok(()) => Ok(()),
        Err(error) => bail!("cannot use the plan {name} on {}: {error}", subject.model.name),
    })
}
