//! What the demo does.

use fewstep_core::schedule::Scale;
use fewstep_search::settings::{LeastSquaresSettings, TeacherSettings};
use fewstep_search::{Method, SearchSettings, TEACHER_STEPS};
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::fitting::settings::{
    HeldOutSettings, InterpolateSettings, LrSchedule, PaperObjective, PaperOptimiser, PaperSettings, TuneLoss,
    TuneSettings,
};
use crate::fitting::{FitSettings, PlanSource};
use crate::models::{BUILT_IN, ModelId, OpenModel, is_built_in};
use crate::runs::{ResumeError, Task, what_differs};
use crate::scorer::GRID_IMAGES;

/// What a demo does, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoTask {
    /// The model.
    pub model: ModelId,
    /// Numbers of steps.
    pub steps: Vec<usize>,
    /// Images that a row is scored on, of seeds from 0 on.
    pub images: usize,
    /// Settings of both phases and of our search.
    pub settings: FitSettings,
}

impl DemoTask {
    /// The demo on a model for these numbers of steps, with so many images a row and updates of the network.
    pub fn new(model: ModelId, steps: Vec<usize>, images: usize, updates: u64) -> Self {
        Self { model, steps, images, settings: demo_settings(updates) }
    }

    /// Refuses what cannot be done, before any work.
    ///
    /// # Errors
    /// In a sentence.
    pub fn check(&self, model: &OpenModel) -> Result<()> {
        let Self { steps, images, settings, .. } = self;
        ensure!(!steps.is_empty() && steps.iter().all(|&steps| steps >= 2), "the steps must be numbers of at least 2");
        let grid = settings.search.teacher.grid.min(settings.paper.grid);
        ensure!(steps.iter().all(|&steps| steps <= grid), "the demo has plans of up to {grid} steps");
        let most = if is_built_in(&model.name) { usize::MAX } else { GRID_IMAGES };
        ensure!(*images >= 2, "the images must be at least 2, as a covariance needs two");
        ensure!(*images <= most, "images of {} are only shown, at most {most} of them", model.name);
        settings.check_denoiser(&PlanSource::Method(Method::BEST), model.denoiser())?;
        settings.validate()
    }

    /// Images of a row where nobody says otherwise: enough to measure, or as many as are shown.
    pub fn images_of(model: &OpenModel) -> usize {
        if is_built_in(&model.name) { 200 } else { GRID_IMAGES }
    }

    /// Whether the paper's phases are shown: on the network whose training images are at hand, as it is.
    pub fn has_phases(model: &OpenModel) -> bool {
        let is_the_network = model.name == BUILT_IN && is_built_in(BUILT_IN); // no file of that name
        is_the_network && model.spec().guidance.is_none()
    }
}

impl Task for DemoTask {
    const KIND: &'static str = "demo";

    fn continuing(self, earlier: Self) -> std::result::Result<Self, ResumeError> {
        what_differs(&earlier, &self).map_or(Ok(self), Err)
    }
}

/// Settings of the demo: small enough for minutes on two cores. `fewstep fit` has the full scale.
pub fn demo_settings(updates: u64) -> FitSettings {
    let usual = FitSettings::default();
    FitSettings {
        batch: 50,
        paper: PaperSettings {
            objective: PaperObjective::Bound,
            optimiser: PaperOptimiser::Table,
            scale: Scale::Log,
            grid: 49,
            table_images: 64,
            ..usual.paper
        },
        search: SearchSettings {
            teacher: TeacherSettings { samples: 32, ..usual.search.teacher },
            least_squares: LeastSquaresSettings { beam: 1, ..usual.search.least_squares },
            ..usual.search
        },
        tune: TuneSettings {
            loss: TuneLoss::Bound,
            last_weight: 1.0,
            updates,
            batch: 32,
            learning_rate: 1e-4,
            lr_schedule: LrSchedule::Constant,
            ema_images: 500.0,
            check_every: updates.div_ceil(3).max(1),
            patience: 3,
            ..usual.tune
        },
        interpolate: InterpolateSettings { images: 0, ..usual.interpolate },
        held_out: HeldOutSettings { samples: 48, teacher_steps: TEACHER_STEPS },
        ..usual
    }
}
