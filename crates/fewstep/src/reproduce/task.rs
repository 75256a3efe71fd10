//! What is reproduced: the task as `run.json` keeps it.

use fewstep_core::observe::{Event, Observer};
use fewstep_search::Error as SearchError;
use serde::{Deserialize, Serialize};

use super::{Experiment, ReproduceSettings, RowKind};
use crate::data::DataId;
use crate::error::{Error, Result, ensure};
use crate::fitting::{FitSettings, PlanSource};
use crate::models::{ModelId, OpenModel};
use crate::reference::ReferenceId;
use crate::runs::{ResumeError, Task, what_differs};

/// What is reproduced. A resumed run may ask for other numbers of steps, rows and experiments, and nothing else; rows that it does
/// not ask for stay in the folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReproduceTask {
    /// Which result of the paper.
    pub experiment: Experiment,
    /// Numbers of steps.
    pub steps: Vec<usize>,
    /// Whether our rows stand beside the paper's.
    #[serde(default)]
    pub ours: bool,
    /// The rows that were asked for, if not all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<RowKind>,
    /// The model.
    pub model: ModelId,
    /// Training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataId>,
    /// What scores images; none where no experiment has scored any yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceId>,
    /// What every row depends on.
    pub settings: ReproduceSettings,
}

impl ReproduceTask {
    /// The rows of its table, in order: those that were asked for, or all that the experiment has.
    pub fn rows(&self) -> Vec<RowKind> {
        let asked = |row: &RowKind| match self.only.as_slice() {
            [] => self.experiment.rows().contains(row) || self.ours && row.searches(),
            only => only.contains(row),
        };
        RowKind::ALL.into_iter().filter(|row| self.experiment.scores() && asked(row)).collect()
    }

    /// The task as far as a model allows it: rows that tune it are left out where that cannot be had, unless they were asked for by
    /// name, and our search, unless it is another than the default one, matches no moments where samples are no images. The observer is
    /// told so.
    pub fn for_model(mut self, opened: &OpenModel, observer: &dyn Observer) -> Self {
        let rows = self.rows();
        let method = &mut self.settings.method;
        let searches = rows.iter().any(|row| row.searches()) && *method == ReproduceSettings::default().method;
        if searches && method.moments.is_some() && opened.denoiser().appearance().is_none() {
            method.moments = None;
            let name = &opened.name;
            observer.event(Event::Note(&format!(
                "our plans without matched moments, which are of images: the samples of {name} are none"
            )));
        }
        let able = |row: &RowKind| row.tuning(&self.settings).map_or(Ok(()), |tune| tune.check_model(opened));
        match rows.iter().find_map(|row| able(row).err()) {
            Some(why) if self.only.is_empty() => {
                observer.event(Event::Note(&format!("without the rows that tune the network: {why}")));
                let only = rows.into_iter().filter(|row| able(row).is_ok()).collect();
                Self { only, ..self }
            }
            _ => self,
        }
    }

    /// Whether levels are learned by the paper's objectives.
    pub fn learns_levels(&self) -> bool {
        !self.experiment.scores() || self.rows().into_iter().any(RowKind::learns_levels)
    }

    /// Whether training images are.
    pub fn needs_images(&self) -> bool {
        let of_row = |row: RowKind| {
            row.searches() && self.settings.method.needs_data()
                || row.tuning(&self.settings).is_some_and(|tune| tune.needs_images())
        };
        self.learns_levels() || self.rows().into_iter().any(of_row)
    }

    /// Refuses what cannot be done, before any work; `images` is the number of training images.
    ///
    /// # Errors
    /// In a sentence.
    pub fn check(&self, opened: &OpenModel, images: Option<usize>) -> Result<()> {
        let (settings, steps) = (&self.settings, &self.steps);
        settings.validate()?;
        if let Some(images) = images {
            settings.fit.data.check(images)?;
        }
        ensure!(!steps.is_empty() && steps.iter().all(|&steps| steps >= 2), "the steps must be numbers of at least 2");
        ensure!(
            self.experiment.scores() || !self.ours && self.only.is_empty(),
            "rows are chosen for fig2 and table1, which have a table; {} has none",
            self.experiment
        );
        for tune in self.rows().into_iter().filter_map(|row| row.tuning(settings)) {
            tune.check_model(opened)?;
        }
        ensure!(
            images.is_some() || !self.needs_images(),
            "this needs training images: name them with --data (the paper's phases do, our tuning as it is set, and methods with \
             +data-moments)"
        );
        // which setting is to be another, by its name here
        let named = |error: Error, from: &str, to: &str| Error::Input(error.to_string().replace(from, to));
        if self.learns_levels() {
            settings.fit.check_denoiser(&PlanSource::Paper, opened.denoiser())?;
            let checked = settings.fit.check_data(Some(&PlanSource::Paper), false, images, steps);
            checked.map_err(|error| named(error, "paper.", "fit.paper."))?;
        }
        for row in self.rows() {
            if row.searches() {
                self.check_search(opened)?;
            }
            if let Some(tune) = row.tuning(settings) {
                let checked = FitSettings { tune, ..settings.fit.clone() }.check_data(None, true, images, steps);
                let place = if row.searches() { "rollout." } else { "fit.tune." };
                checked.map_err(|error| named(error, "tune.", place))?;
            }
        }
        Ok(())
    }

    fn check_search(&self, opened: &OpenModel) -> Result<()> {
        let ReproduceSettings { method, fit, .. } = &self.settings;
        method.check_evaluations(&self.steps)?;
        if let Some((name, grid)) = fit.search.grid_of(method) {
            ensure!(
                self.steps.iter().all(|&steps| steps <= grid),
                "the setting fit.search.{name} is {grid}: it must have at least as many levels as the longest plan"
            );
        }
        if method.moments.is_some() && opened.denoiser().appearance().is_none() {
            return Err(SearchError::NoImages.into());
        }
        Ok(())
    }
}

impl Task for ReproduceTask {
    const KIND: &'static str = "reproduce";

    fn continuing(mut self, mut earlier: Self) -> std::result::Result<Self, ResumeError> {
        // files may have moved: what they hold counts
        if self.model.same(&earlier.model) {
            self.model.clone_from(&earlier.model);
        }
        match (&mut self.data, &earlier.data) {
            (Some(now), Some(before)) if now.sha256 == before.sha256 => now.name.clone_from(&before.name),
            (now @ None, before) => now.clone_from(before), // rows that were made with it are still there
            _ => {}
        }
        // rows that were scored by them are still there
        if self.references.is_empty() || ReferenceId::all_same(&self.references, &earlier.references) {
            self.references.clone_from(&earlier.references);
        }
        // what an earlier run did not use may be any
        earlier.data = earlier.data.or_else(|| self.data.clone());
        if earlier.references.is_empty() {
            earlier.references.clone_from(&self.references);
        }
        let chosen = Self {
            experiment: self.experiment,
            steps: self.steps.clone(),
            ours: self.ours,
            only: self.only.clone(),
            ..earlier
        };
        what_differs(&chosen, &self).map_or(Ok(self), Err)
    }
}
