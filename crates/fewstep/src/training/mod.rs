//! Training a denoiser from scratch (the EDM recipe), in a run folder that goes on exactly where it was stopped.

mod curve;
mod report;
mod settings;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use fewstep_core::denoiser::Levels;
use fewstep_core::observe::{Event, Observer, Progress, Saving, Silent};
use fewstep_core::plan::Plan;
use fewstep_io::dataset::Dataset;
use fewstep_io::{RunFolder, atomic, safetensors};
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::tch::Device;
use fewstep_nn::train::Trainer;
use fewstep_nn::{Model, data, device};
use fewstep_search::{TEACHER_STEPS, usual_teacher};
use serde::{Deserialize, Serialize};

pub use self::report::report;
pub use self::settings::{
    Architecture, NetworkSettings, OutputSettings, ParameterisationName, RecipeSettings, TrainSettings,
};
use crate::data::{DataId, few};
use crate::error::{Error, Result, ensure};
use crate::forecast::{Forecast, product};
use crate::runs::{REPORT, ResumeError, Run, RunOptions, Task, failed, what_differs};
use crate::scorer;

/// Everything that the next update depends on, in the run folder.
const STATE: &str = "state.safetensors";
/// The averaged weights, in the run folder.
const MODEL: &str = "model.safetensors";
/// A line for every update, in the run folder.
pub(crate) const STATS: &str = "stats.jsonl";
/// Folder of the sample grids, in the run folder.
const GRIDS: &str = "samples";
/// Updates that a loss is the mean of: single ones are noisy.
const LOSSES: usize = 20;
/// Seeds of the sample grids: the same images again and again, so that progress shows.
const GRID_SEEDS: std::ops::Range<u64> = 0..64;
/// Samples of a grid at once.
const GRID_BATCH: usize = 32;

/// What is trained on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainTask {
    /// The data set.
    pub data: DataId,
    /// What the network computes in.
    pub precision: String,
    /// How it is trained.
    pub settings: TrainSettings,
}

impl TrainTask {
    /// Of a data set, with these settings, in this precision.
    ///
    /// # Errors
    /// If the data set cannot be read, or settings and data do not fit each other.
    pub fn new(dataset: &Dataset, settings: TrainSettings, precision: &str) -> Result<Self> {
        device::parse_kind(precision)?;
        settings.model_config(dataset)?;
        settings.data.check(dataset.len())?;
        Ok(Self { data: DataId::of(dataset)?, precision: precision.to_owned(), settings })
    }

    /// What it would do, and its cost.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn forecast(&self) -> Result<Forecast> {
        let RecipeSettings { images, batch, .. } = self.settings.training;
        let batch = batch.max(1) as u64;
        let sampled = product([self.grids(), GRID_SEEDS.count() as u64, self.grid_plan()?.nfe() as u64]);
        let seen = product([images.div_ceil(batch), batch]);
        Ok(Forecast::new(self, 1)?.training("training images", seen).part("sample grids", sampled))
    }

    /// After how many updates a grid is due, as [`TrainTask::is_grid_due`] says of each: after the last, and after those before it
    /// that reach another multiple. An update reaches one at most, or, where it is larger than what lies between two, one at least.
    fn grids(&self) -> u64 {
        let RecipeSettings { images, batch, .. } = self.settings.training;
        let (batch, every) = (batch.max(1) as u64, self.settings.grid_every());
        let Some(before_last) = images.div_ceil(batch).checked_sub(1) else { return 0 };
        (before_last * batch).checked_div(every).map_or(0, |multiples| multiples.min(before_last) + 1)
    }

    /// What makes the sample grids.
    fn grid_plan(&self) -> Result<Plan> {
        Ok(usual_teacher(&Levels::from(&self.settings.parameterisation()), TEACHER_STEPS)?)
    }

    /// Whether the update that ended at so many images reached the next multiple of what lies between two grids, or the end.
    fn is_grid_due(&self, seen: u64) -> bool {
        let RecipeSettings { images, batch, .. } = self.settings.training;
        let every = self.settings.grid_every();
        let reached = |seen: u64| seen.checked_div(every).unwrap_or_default();
        let before = seen.saturating_sub(batch as u64);
        every > 0 && seen > 0 && (seen >= images || reached(seen) > reached(before))
    }
}

/// A training goes on with the same images, precision and settings. What may change: what the data set is called, how many images
/// are seen in all, and how often the state is saved and samples are shown.
impl Task for TrainTask {
    const KIND: &'static str = "train";

    fn continuing(self, earlier: Self) -> std::result::Result<Self, ResumeError> {
        let mut expected = earlier;
        expected.data.name.clone_from(&self.data.name);
        expected.settings.training.images = self.settings.training.images;
        expected.settings.output.save_every = self.settings.output.save_every;
        expected.settings.output.grid_every = self.settings.output.grid_every;
        match what_differs(&expected, &self) {
            Some(what) => Err(what),
            None => Ok(self),
        }
    }
}

/// What a training came to.
#[derive(Clone, Debug, Serialize)]
pub struct TrainOutcome {
    /// File of the model.
    pub model: String,
    /// Images seen, those of earlier runs included.
    pub images_seen: u64,
    /// Updates made in all; 0 where nothing was left to do.
    pub iterations: u64,
    /// Mean of the last updates; none if there was nothing left to do.
    pub loss: Option<f64>,
    /// Speed of this run.
    pub images_per_second: f64,
}

/// Trains until the network has seen as many images as the task says, and leaves model, state, log, sample grids and report.
///
/// # Errors
/// If the folder cannot be used, the run that is there cannot go on with this task, or the training diverges. Where the observer
/// asks for the end: [`Error::Stopped`], after everything is saved.
pub fn train(
    task: TrainTask,
    dataset: &Dataset,
    device: Device,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<TrainOutcome> {
    let (config, recipe) = (task.settings.model_config(dataset)?, task.settings.train_config());
    let mut model = Model::fresh(config, recipe.seed, device)?.with_kind(device::parse_kind(&task.precision)?);
    model = model.with_ranks(options.ranks.clone());
    let empty = if task.settings.network.conditional { dataset.empty_classes() } else { Vec::new() };
    if !empty.is_empty() {
        observer.event(Event::Note(&format!(
            "warning: {} of the {} classes have no images ({}): the network learns nothing of them, and `sample` does not draw \
             them; classes are counted from 0",
            empty.len(),
            dataset.num_classes(),
            few(&empty)
        )));
        let taught = (0..dataset.num_classes()).filter(|class| !empty.contains(class));
        model = model.with_trained_classes(taught.map(|class| class as i64).collect())?;
    }
    let parameters = model.params().trainable_count();
    let images = data::Images::for_model(dataset.load_all()?, &model)?;
    let mut trainer = Trainer::new(model, &images, recipe)?;
    if options.resume && options.ranks.is_first() {
        check_seen(&options.out.join(STATE), task.settings.training.images, task.settings.training.batch)?;
    }
    let run = Run::start(task, options)?;
    let what = format!("{} images of {}, {parameters} parameters", images.len(), dataset.name());
    observer.event(Event::Note(&what));
    if run.resumed {
        if run.folder.has(STATE) {
            trainer.load_state(&run.folder.file(STATE))?;
        }
        run.folder.truncate_lines(STATS, "images", trainer.images_seen())?;
        observer.event(Event::Note(&format!("resuming at {} images", trainer.images_seen())));
    }
    let outcome = Training { task: &run.file.task, folder: &run.folder, observer }.run(&mut trainer)?;
    atomic::write_bytes(run.folder.file(REPORT), report(&run.folder)?.to_html().as_bytes())?;
    Ok(outcome)
}

/// Refuses to go on with a training that has seen more images than it is to see: what it is to do would be false.
fn check_seen(state: &Path, images: u64, batch: usize) -> Result<()> {
    if !state.exists() {
        return Ok(());
    }
    let header = safetensors::read_header(state)?;
    let seen = header.metadata.get("images").and_then(|seen| seen.parse::<u64>().ok()).unwrap_or_default();
    ensure!(
        seen <= images.next_multiple_of(batch as u64),
        "the training in {} has seen {seen} images already, more than {images}: it goes on to as many or more",
        state.parent().unwrap_or(state).display()
    );
    Ok(())
}

/// A training in its folder.
struct Training<'a> {
    task: &'a TrainTask,
    folder: &'a RunFolder,
    observer: &'a dyn Observer,
}

impl Training<'_> {
    fn run(&self, trainer: &mut Trainer<'_>) -> Result<TrainOutcome> {
        let TrainSettings { training, output, .. } = &self.task.settings;
        let (total, first, started) = (training.images, trainer.images_seen(), Instant::now());
        let mut progress = Progress::new(self.observer, "train", "img", total, first);
        // at multiples of these, wherever a run was stopped and resumed
        let next = |every: u64, seen: u64| seen.checked_div(every).map_or(u64::MAX, |count| (count + 1) * every);
        let mut next_snapshot = next(output.save_every, first);
        let (mut losses, mut iterations) = (VecDeque::with_capacity(LOSSES), 0);
        let _saving = Saving::new(self.observer);
        // an earlier run may have ended between its state and its grid
        if self.task.is_grid_due(first) && !self.folder.has(&grid_name(first)) {
            self.write_grid(&trainer.averaged()?, first)?;
        }
        let ranks = trainer.ranks();
        while trainer.images_seen() < total {
            let stats = trainer.step().map_err(|error| failed(error, &self.folder.file(STATE), &ranks))?;
            self.folder.append_line(STATS, &stats)?;
            if losses.len() == LOSSES {
                losses.pop_front();
            }
            losses.push_back(stats.loss);
            iterations = stats.iteration;
            progress.set(stats.images, mean(&losses).map_or_else(String::new, |loss| format!("loss {loss:.4}")));
            let cancelled = ranks.any(self.observer.cancelled())?; // all of them, after the same update
            if stats.images >= next_snapshot || stats.images >= total || cancelled {
                self.save(trainer)?;
                next_snapshot = next(output.save_every, stats.images);
            }
            if cancelled && stats.images < total {
                ranks.wait()?; // until the first has saved
                return Err(Error::Stopped { place: format!("after {} images", stats.images) });
            }
            if self.task.is_grid_due(stats.images) {
                self.write_grid(&trainer.averaged()?, stats.images)?;
            }
        }
        let images_per_second = (trainer.images_seen() - first) as f64 / started.elapsed().as_secs_f64();
        let model = self.folder.file(MODEL).display().to_string();
        Ok(TrainOutcome {
            model,
            images_seen: trainer.images_seen(),
            iterations,
            loss: mean(&losses),
            images_per_second,
        })
    }

    /// The log first, and the state last: what it says was done is not done again, so that a run that ends before it goes on from the one before.
    fn save(&self, trainer: &mut Trainer<'_>) -> Result<()> {
        let TrainSettings { training, output, .. } = &self.task.settings;
        self.folder.sync_lines(STATS)?;
        let notes = [
            ("data".to_owned(), self.task.data.name.clone()),
            ("training".to_owned(), format!("{} images, batch {}, EMA weights", trainer.images_seen(), training.batch)),
        ];
        let storage = if output.half { Storage::F16 } else { Storage::F32 };
        checkpoint::save(self.folder.file(MODEL), &trainer.averaged()?, storage, &notes.into())?;
        Ok(trainer.save_state(&self.folder.file(STATE))?)
    }

    /// 64 images of the EDM sampler. A network that makes none yet is no reason to stop its training, and neither is a request to end
    /// before the next update.
    fn write_grid(&self, model: &Model, seen: u64) -> Result<()> {
        self.folder.subfolder(GRIDS)?;
        let plan = self.task.grid_plan()?;
        let images = scorer::images(model, &plan, &GRID_SEEDS.collect::<Vec<_>>(), GRID_BATCH, &Silent)?;
        let Some(images) = images else {
            let what = format!("no sample grid after {seen} images: it would hold values that are not finite");
            self.observer.event(Event::Note(&what));
            return Ok(());
        };
        Ok(atomic::write_bytes(self.folder.file(&grid_name(seen)), &scorer::grid(&[images])?)?)
    }
}

/// A grid's file, in the run folder.
fn grid_name(seen: u64) -> String {
    format!("{GRIDS}/{seen:09}.png")
}

/// The mean of some losses.
fn mean(losses: &VecDeque<f64>) -> Option<f64> {
    (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(images: u64, batch: usize, grid_every: Option<u64>) -> TrainTask {
        let mut settings = TrainSettings::default();
        (settings.training.images, settings.training.batch) = (images, batch);
        settings.output.grid_every = grid_every;
        let data = DataId { name: "x".to_owned(), sha256: "0".to_owned(), images: 1 };
        TrainTask { data, precision: "f32".to_owned(), settings }
    }

    #[test]
    fn grids_are_counted_as_if_update_by_update() {
        let every = [None, Some(0), Some(1), Some(3), Some(4), Some(5), Some(7), Some(8), Some(9), Some(16), Some(100)];
        for images in 0..60 {
            for (batch, every) in (1..12).flat_map(|batch| every.map(|every| (batch, every))) {
                let task = task(images, batch, every);
                let updates = images.div_ceil(batch as u64);
                let due = (1..=updates).filter(|update| task.is_grid_due(update * batch as u64)).count() as u64;
                assert_eq!(task.grids(), due, "{images} images, batch {batch}, every {every:?}");
            }
        }
    }

    /// Update by update it would take years.
    #[test]
    fn the_longest_training_is_forecast_at_once() {
        let most = settings::MOST_IMAGES;
        assert_eq!(task(most, 1, Some(1)).grids(), most);
        assert!(task(most, 1, Some(1)).forecast().unwrap().work() > 64 * most);
        assert_eq!(task(most, 1, None).grids(), 10);
    }
}
