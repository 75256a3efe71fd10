//! What is compared: the task as `run.json` keeps it.

use std::collections::BTreeSet;

use fewstep_eval::features::Convention;
use fewstep_search::{Method, SearchSettings, TEACHER_STEPS, documented};
use serde::{Deserialize, Serialize};

use super::{PlanFile, PlanFileId, Subject, SubjectId, command, refuse_empty, runs_on};
use crate::cells::SeedRanges;
use crate::error::{Result, bail, ensure};
use crate::forecast::{check_count, check_levels};
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
        self.seeds().check(["images", "ranges", "first_seed"])?;
        check_count("held_out", self.held_out as u64, 1)?;
        check_levels("teacher_steps", self.teacher_steps)?;
        check_count("table_images", self.table_images as u64, 1)?;
        Ok(self.search.validate()?)
    }

    /// Seeds that images are scored on.
    pub(super) fn seeds(&self) -> SeedRanges {
        SeedRanges { images: self.images, ranges: self.ranges, first: self.first_seed }
    }
}

/// What is compared. A resumed run adds methods, plans, numbers of evaluations and models to what stands in its folder, and ranges of seeds to
/// the cells that it is asked for. It may change what only the searches of some methods depend on: their plans are then found anew, and
/// cells whose plans have changed are scored anew.
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
    /// As [`check`], and if two rows or models have one name, a method cannot be run on a model, or there is not a single cell
    /// ([`refuse_empty`]).
    pub fn new(
        subjects: &[Subject],
        methods: &[Method],
        plans: &[PlanFile],
        steps: &[usize],
        settings: &CompareSettings,
    ) -> Result<Self> {
        check(methods, steps, settings)?;
        ensure!(!subjects.is_empty(), "there is no model to compare anything on");
        let task = Self {
            models: subjects.iter().map(Subject::id).collect(),
            methods: methods.to_vec(),
            plans: plans.iter().map(PlanFile::id).collect(),
            steps: steps.to_vec(),
            settings: settings.clone(),
        };
        differ(task.row_names())?;
        let mut names = BTreeSet::new();
        for subject in subjects {
            ensure!(names.insert(&subject.model.name), "the model {} is there twice", subject.model.name);
            runs_on(methods, &subject.model, subject.data.is_some())?;
        }
        if plans.is_empty() {
            refuse_empty(methods, steps, &settings.search, subjects.iter().map(|subject| &subject.model))?;
        }
        Ok(task)
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

/// Refuses what cannot be compared on any model, before one is opened.
///
/// # Errors
/// If a setting is outside its domain, two methods make one row, or a method has no plan of any of these numbers of evaluations.
pub fn check(methods: &[Method], steps: &[usize], settings: &CompareSettings) -> Result<()> {
    settings.validate()?;
    ensure!(!steps.is_empty() && !steps.contains(&0), "the steps must be numbers of at least 1");
    differ(methods.iter().map(Method::to_string))?;
    match methods.iter().find(|method| method.possible(steps).is_empty()) {
        Some(method) => Ok(method.check_evaluations(steps)?),
        None => Ok(()),
    }
}

/// Refuses rows whose files would have one name.
fn differ(rows: impl IntoIterator<Item = String>) -> Result<()> {
    let mut files = BTreeSet::from(["teacher".to_owned()]);
    for name in rows {
        ensure!(
            files.insert(slug(&name)),
            "{name} is not the only row of that name: rename or leave out one of the methods and plans (the teacher has its own row)"
        );
    }
    Ok(())
}

/// Refuses settings of searches that were asked for by name and change nothing where these methods are compared. (Methods that join later
/// have the teacher and all that is no search's as they are now.)
///
/// # Errors
/// With the first of `names` that does.
pub fn refuse_idle<'a>(methods: &[Method], names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    for name in names {
        let section = name.strip_prefix("search.").and_then(|rest| rest.split('.').next());
        let idle = |section: &str| section != "teacher" && !methods.iter().any(|method| method.uses(section));
        ensure!(
            !section.is_some_and(idle),
            "the setting {name} is for methods that have such a stage, and none of these has: it changes nothing here"
        );
    }
    Ok(())
}

impl Task for CompareTask {
    const KIND: &'static str = "compare";

    fn continuing(mut self, earlier: Self) -> std::result::Result<Self, ResumeError> {
        // plans found with other settings of the searches are found anew; all have one teacher
        let mut search = self.settings.search.clone();
        search.teacher = earlier.settings.search.teacher.clone();
        let ranges = self.settings.ranges;
        if ranges < earlier.settings.ranges {
            let before = earlier.settings.ranges;
            return Err(ResumeError(format!("it scores {before} ranges of seeds: ranges can be more, not {ranges}")));
        }
        if let Some(what) = what_differs(&CompareSettings { search, ranges, ..earlier.settings }, &self.settings) {
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
        differ(self.row_names()).map_err(|error| ResumeError(error.to_string()))?;
        Ok(self)
    }

    fn command(&self, earlier: &[String], command: &[String]) -> Vec<String> {
        command::of_all(self, earlier, command)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_count_have_two_ends() {
        let error = |change: fn(&mut CompareSettings)| {
            let mut settings = CompareSettings::default();
            change(&mut settings);
            check(&[Method::BEST], &[5], &settings).unwrap_err().to_string()
        };
        check(&[Method::BEST], &[5], &CompareSettings::default()).unwrap();
        assert!(error(|s| s.images = 1 << 60).contains("images must be at most 10000000"));
        assert!(error(|s| s.ranges = 1 << 60).contains("ranges must be at most 10000000"));
        assert!(error(|s| s.first_seed = u64::MAX).contains("first_seed must leave room"));
        assert!(error(|s| s.held_out = 1_000_000_000_000).contains("held_out must be at most 10000000"));
        assert!(error(|s| s.held_out = 0).contains("held_out must be at least 1"));
        assert!(error(|s| s.teacher_steps = usize::MAX).contains("teacher_steps must be at most"));
        assert!(error(|s| s.table_images = usize::MAX).contains("table_images must be at most"));
    }

    #[test]
    fn methods_and_steps_are_checked_without_a_model() {
        let check = |methods: &[Method], steps: &[usize]| {
            check(methods, steps, &CompareSettings::default()).map_err(|error| error.to_string())
        };
        assert!(check(&[Method::BEST, Method::BEST], &[5]).unwrap_err().contains("not the only row"));
        assert!(check(&[Method::BEST], &[0]).unwrap_err().contains("the steps must be numbers of at least 1"));
        assert!(check(&["karras/heun".parse().unwrap()], &[4]).unwrap_err().contains("odd numbers"));
    }
}
