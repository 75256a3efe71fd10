//! Settings of both phases, as settings files and `run.json` keep them.

use std::fmt;
use std::str::FromStr;

use fewstep_core::objective::Objective;
use fewstep_core::schedule::Scale;
use fewstep_core::solver::Solver;
use fewstep_nn::fit::{NoiseSharing, TuneConfig, TuneWeights, check_images_are_samples};
use fewstep_nn::train::{CriticOf, GradientFlow, RolloutLoss, StepWeights};
use fewstep_nn::{TorchDenoiser, critic};
use fewstep_search::settings::Distance;
use fewstep_search::{Method, MethodError, MomentsOf, Refinement, SearchSettings, Source};
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// Where plans come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PlanSource {
    /// The paper's objectives on forward-noised data, for Euler's solver.
    Paper,
    /// A search.
    Method(Method),
}

impl Default for PlanSource {
    fn default() -> Self {
        Self::Method(Method::BEST)
    }
}

impl fmt::Display for PlanSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paper => f.write_str("paper"),
            Self::Method(method) => method.fmt(f),
        }
    }
}

impl FromStr for PlanSource {
    type Err = MethodError;

    fn from_str(text: &str) -> std::result::Result<Self, MethodError> {
        if text == "paper" { Ok(Self::Paper) } else { Ok(Self::Method(text.parse()?)) }
    }
}

impl TryFrom<String> for PlanSource {
    type Error = MethodError;

    fn try_from(text: String) -> std::result::Result<Self, MethodError> {
        text.parse()
    }
}

impl From<PlanSource> for String {
    fn from(source: PlanSource) -> Self {
        source.to_string()
    }
}

impl PlanSource {
    /// What its plans' samples have their moments matched with, if anything.
    pub fn moments(&self) -> Option<MomentsOf> {
        match self {
            Self::Method(method) => method.moments,
            Self::Paper => None,
        }
    }

    /// Whether it needs training images.
    pub fn needs_images(&self) -> bool {
        match self {
            Self::Paper => true,
            Self::Method(method) => method.needs_data(),
        }
    }

    /// Whether it refines plans down the gradient of the rollout error.
    pub fn follows_gradients(&self) -> bool {
        matches!(self, Self::Method(method) if method.refinement == Some(Refinement::Rollout))
    }
}

/// Settings of both phases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitSettings {
    /// Samples evaluated at once without a graph.
    pub batch: usize,
    /// Whether the held-out rollout error decides when a phase stops and which outcome is kept.
    pub early_stop: bool,
    /// Seed of the order of data and of noise.
    pub seed: u64,
    /// Searches over a teacher.
    pub search: SearchSettings,
    /// The paper's objectives, for the method `paper`; the table is that of the method `bound`, too.
    pub paper: PaperSettings,
    /// Phase 2.
    pub tune: TuneSettings,
    /// Interpolation between the untuned and the tuned network.
    pub interpolate: InterpolateSettings,
    /// The held-out rollout error.
    pub held_out: HeldOutSettings,
}

/// The held-out rollout error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeldOutSettings {
    /// Latents that no search sees.
    pub samples: usize,
    /// Noise levels of their teacher, Heun on rho = 7.
    pub teacher_steps: usize,
}

/// Interpolation between the untuned and the tuned network, by the Frechet distance of their images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InterpolateSettings {
    /// Images of each network, of seeds of their own; 0 takes the tuned one.
    pub images: usize,
}

/// How the paper's objectives are minimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaperOptimizer {
    /// Dynamic programming for the bound, Adam for the other objectives.
    #[default]
    Auto,
    /// Adam on theta with the gradient of Eq. 14.
    Adam,
    /// Exact dynamic programming over a table of e(sigma), every number of steps at once (bound only).
    Table,
}

/// The paper's objectives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaperObjective {
    /// Eq. 11.
    Discretization,
    /// Eq. 12.
    Bound,
    /// Eq. 11 plus gamma times Eq. 12: the paper's.
    Joint,
}

/// Phase 1 by the paper's objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaperSettings {
    /// What is minimised: discretization (Eq. 11), bound (Eq. 12), or joint.
    pub objective: PaperObjective,
    /// Weight of the bound in the joint objective.
    pub gamma: f64,
    /// auto, adam, or table (bound only).
    pub optimizer: PaperOptimizer,
    /// Noise along the levels: independent or shared.
    pub noise: NoiseSharing,
    /// Scale in which Adam parameterises the levels: linear (the paper's) or log.
    pub scale: Scale,
    /// Updates of Adam.
    pub iterations: u64,
    /// Images an update.
    pub batch: usize,
    /// Learning rate of Adam.
    pub learning_rate: f64,
    /// Updates between two evaluations of the held-out error.
    pub check_every: u64,
    /// Evaluations without a new best after which Adam stops.
    pub patience: u64,
    /// Levels of the table's grid.
    pub grid: usize,
    /// Images of the table, each evaluated at every level.
    pub table_images: usize,
}

/// What phase 2 minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneLoss {
    /// The sampler's own states against a teacher's trajectories; needs no data.
    #[default]
    Rollout,
    /// Denoising with the weights of Eq. 12: the paper's.
    Bound,
    /// Denoising as EDM was trained.
    Edm,
}

impl FromStr for TuneLoss {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "rollout" => Ok(Self::Rollout),
            "bound" => Ok(Self::Bound),
            "edm" => Ok(Self::Edm),
            _ => Err(format!("there is no loss '{text}': rollout, bound (the paper's) or edm")),
        }
    }
}

/// What a critic tells images from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticReference {
    /// Training images where there are some, else the teacher's.
    #[default]
    Auto,
    /// The teacher's images from the same latents.
    Teacher,
    /// Training images.
    Data,
}

/// The learning rate of phase 2 over its updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// Cosine for the loss rollout, constant for the others.
    #[default]
    Auto,
    /// It stays.
    Constant,
    /// It falls to 0 over all updates.
    Cosine,
}

/// Phase 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuneSettings {
    /// What is minimised: rollout, bound (the paper's), or edm.
    pub loss: TuneLoss,
    /// Weight of the last level in the loss bound, which Eq. 12 leaves out (0: the paper's, 1: its coefficient in the image).
    pub last_weight: f64,
    /// Distance from the teacher: squared, pseudo_huber, or features.
    pub distance: Distance,
    /// What each step's distance counts: signal (as much as data stand out of the noise after it), equal, or image.
    pub step_weights: StepWeights,
    /// Which evaluations learn from a state's distance: step (the newest), through (all), or by_budget (through up to 4 evaluations).
    pub gradient: GradientFlow,
    /// Weight of denoising training images at the last level, beside 1 for the image's distance.
    pub data_weight: f64,
    /// Weight of a critic of the images, beside 1 for the image's distance; 0 for none.
    pub critic_weight: f64,
    /// What the critic tells images from: auto, teacher or data.
    pub critic_of: CriticReference,
    /// Trajectories of the teacher.
    pub trajectories: usize,
    /// Updates at most.
    pub updates: u64,
    /// Images an update; for the loss rollout evaluations: a trajectory is as many as the plan has.
    pub batch: usize,
    /// Images held by the graph at once; 0: the batch.
    pub microbatch: usize,
    /// Learning rate; 0: 5e-4 for the loss rollout, 1e-4 for the others.
    pub learning_rate: f64,
    /// How it changes: auto, constant or cosine.
    pub lr_schedule: LrSchedule,
    /// Half-life of the weights' moving average, in images.
    pub ema_images: f64,
    /// Mirror training images at random.
    pub xflip: bool,
    /// Updates between two evaluations of the held-out error.
    pub check_every: u64,
    /// Evaluations without a new best after which tuning stops.
    pub patience: u64,
}

impl Default for FitSettings {
    fn default() -> Self {
        Self {
            batch: 64,
            early_stop: true,
            seed: 0,
            search: SearchSettings::default(),
            paper: PaperSettings::default(),
            tune: TuneSettings::default(),
            interpolate: InterpolateSettings::default(),
            held_out: HeldOutSettings::default(),
        }
    }
}

impl Default for HeldOutSettings {
    fn default() -> Self {
        Self { samples: 128, teacher_steps: 18 }
    }
}

impl Default for InterpolateSettings {
    fn default() -> Self {
        Self { images: 2_000 }
    }
}

impl Default for PaperSettings {
    fn default() -> Self {
        Self {
            objective: PaperObjective::Bound,
            gamma: 1.0,
            optimizer: PaperOptimizer::Auto,
            noise: NoiseSharing::Independent,
            scale: Scale::Log,
            iterations: 400,
            batch: 64,
            learning_rate: 0.02,
            check_every: 50,
            patience: 5,
            grid: 65,
            table_images: 256,
        }
    }
}

impl Default for TuneSettings {
    fn default() -> Self {
        Self {
            loss: TuneLoss::Rollout,
            last_weight: 1.0,
            distance: Distance::PseudoHuber,
            step_weights: StepWeights::default(),
            gradient: GradientFlow::default(),
            data_weight: 0.0,
            critic_weight: 0.3, // 1 is no better and costs more of the error (docs/tuning.md)
            critic_of: CriticReference::Auto,
            trajectories: 4_096, // a thousand were learned by heart
            updates: 1_000,
            batch: 128,
            microbatch: 0,
            learning_rate: 0.0,
            lr_schedule: LrSchedule::Auto,
            ema_images: 2_000.0,
            xflip: false,
            check_every: 50,
            patience: 5,
        }
    }
}

impl PaperSettings {
    /// The objective with its weight.
    pub fn objective(&self) -> Objective {
        match self.objective {
            PaperObjective::Discretization => Objective::Discretization,
            PaperObjective::Bound => Objective::Bound,
            PaperObjective::Joint => Objective::Joint { gamma: self.gamma },
        }
    }

    /// Whether the bound is minimised over a table of e(sigma).
    pub fn by_table(&self) -> bool {
        match self.optimizer {
            PaperOptimizer::Auto => self.objective == PaperObjective::Bound,
            PaperOptimizer::Adam => false,
            PaperOptimizer::Table => true,
        }
    }
}

impl FitSettings {
    /// Whether phase 1 tabulates e(sigma) for plans of this source.
    pub fn needs_table(&self, source: &PlanSource) -> bool {
        match source {
            PlanSource::Paper => self.paper.by_table(),
            PlanSource::Method(method) => method.source == Source::Bound,
        }
    }

    /// Refuses a denoiser on which phase 1 cannot find plans of this source.
    ///
    /// # Errors
    /// If training images are to be noised and are not its samples, or gradients are followed and it has none.
    pub fn check_denoiser(&self, source: &PlanSource, denoiser: &dyn TorchDenoiser) -> Result<()> {
        let table = self.needs_table(source);
        let gradients = source.follows_gradients() || *source == PlanSource::Paper && !table;
        if table || *source == PlanSource::Paper {
            check_images_are_samples(denoiser.pixel_shape(), denoiser.spec())?;
        }
        ensure!(
            !gradients || denoiser.differentiable().is_some(),
            "{source} follows gradients, and this model answers without any: take a method without +rollout, or for paper the \
             setting paper.optimizer = table"
        );
        Ok(())
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first one outside its domain, by its name.
    pub fn validate(&self) -> Result<()> {
        self.search.validate()?;
        let Self { batch, paper, tune, interpolate, held_out, .. } = self;
        for (name, value, least) in [
            ("batch", *batch, 1),
            ("held_out.samples", held_out.samples, 1),
            ("held_out.teacher_steps", held_out.teacher_steps, 2),
            ("paper.batch", paper.batch, 1),
            ("paper.grid", paper.grid, 2),
            ("paper.table_images", paper.table_images, 1),
            ("tune.batch", tune.batch, 1),
            ("tune.trajectories", tune.trajectories, 1),
        ] {
            ensure!(value >= least, "the setting {name} must be at least {least}, not {value}");
        }
        ensure!(
            interpolate.images != 1,
            "the setting interpolate.images must be at least 2, as a covariance needs two, or 0"
        );
        for (name, value) in [
            ("paper.gamma", paper.gamma),
            ("tune.last_weight", tune.last_weight),
            ("tune.data_weight", tune.data_weight),
            ("tune.critic_weight", tune.critic_weight),
            ("tune.learning_rate", tune.learning_rate),
            ("tune.ema_images", tune.ema_images),
        ] {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "the setting {name} must be a finite number of at least 0, not {value}"
            );
        }
        let rate = paper.learning_rate;
        ensure!(
            rate > 0.0 && rate.is_finite(),
            "the setting paper.learning_rate must be a finite number above 0, not {rate}"
        );
        ensure!(
            !paper.by_table() || paper.objective == PaperObjective::Bound,
            "the setting paper.optimizer = table minimises the bound; the other objectives need adam"
        );
        ensure!(
            tune.critic_weight > 0.0 || tune.critic_of == CriticReference::Auto,
            "the setting tune.critic_of is for a critic, and tune.critic_weight is 0: it changes nothing"
        );
        let images =
            tune.loss != TuneLoss::Rollout || tune.data_weight > 0.0 || tune.critic_of != CriticReference::Teacher;
        ensure!(!tune.xflip || images, "the setting tune.xflip mirrors training images, and this tuning sees none");
        Ok(())
    }

    /// Refuses data sets too small for an update of either phase.
    ///
    /// # Errors
    /// If this one is.
    pub fn check_data(
        &self,
        source: Option<&PlanSource>,
        tunes: bool,
        images: Option<usize>,
        steps: &[usize],
    ) -> Result<()> {
        let paper = source == Some(&PlanSource::Paper) && !self.paper.by_table();
        if let Some(images) = images.filter(|_| paper) {
            ensure!(
                self.paper.batch <= images,
                "the data set has {images} images, fewer than the {} of one update: set paper.batch to {images} or less",
                self.paper.batch
            );
        }
        if tunes { self.tune.check(images, steps) } else { Ok(()) }
    }
}

/// How an update of phase 2 is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateSize {
    /// Images an update, or trajectories.
    pub batch: usize,
    /// So many at once: divides the batch.
    pub microbatch: usize,
}

impl TuneSettings {
    /// The loss, where training images are at hand or not.
    pub fn weights(&self, images: bool) -> TuneWeights {
        match self.loss {
            TuneLoss::Bound => TuneWeights::Bound { last: self.last_weight },
            TuneLoss::Edm => TuneWeights::Original,
            TuneLoss::Rollout => TuneWeights::Rollout(RolloutLoss {
                distance: self.distance,
                weights: self.step_weights,
                flow: self.gradient,
                data: self.data_weight,
                critic: self.critic_weight,
                critic_of: match self.critic_of {
                    CriticReference::Data => CriticOf::Data,
                    CriticReference::Auto if images && self.critic_weight > 0.0 => CriticOf::Data,
                    CriticReference::Auto | CriticReference::Teacher => CriticOf::Teacher,
                },
            }),
        }
    }

    /// Whether it needs training images.
    pub fn needs_images(&self) -> bool {
        match self.weights(false) {
            TuneWeights::Rollout(loss) => loss.looks_at_data(),
            TuneWeights::Bound { .. } | TuneWeights::Original => true,
        }
    }

    /// Whether features of images are compared.
    pub fn compares_features(&self) -> bool {
        self.loss == TuneLoss::Rollout && self.distance == Distance::Features
    }

    /// The learning rate at the start.
    pub fn rate(&self) -> f64 {
        match self.loss {
            _ if self.learning_rate > 0.0 => self.learning_rate,
            TuneLoss::Rollout => 5e-4,
            TuneLoss::Bound | TuneLoss::Edm => 1e-4,
        }
    }

    /// Whether the rate falls along a cosine.
    pub fn decays(&self) -> bool {
        match self.lr_schedule {
            LrSchedule::Auto => self.loss == TuneLoss::Rollout,
            LrSchedule::Constant => false,
            LrSchedule::Cosine => true,
        }
    }

    /// Updates, evaluations between them and patience, which counts where the held-out error decides.
    pub fn config(&self, early_stop: bool) -> TuneConfig {
        let patience = if early_stop { self.patience } else { u64::MAX };
        TuneConfig { iterations: self.updates, check_every: self.check_every, patience }
    }

    /// An update's size where one sample takes `each` evaluations with a gradient: those of a trajectory are as many as its plan
    /// has, so that equal batches cost the same. Parts are of equal size, never more than the microbatch unless one sample is, and
    /// come to what the batch has room for, or the next number that they divide.
    pub fn update_size(&self, each: usize) -> UpdateSize {
        let microbatch = if self.microbatch == 0 { self.batch } else { self.microbatch };
        let samples = |evaluations: usize| (evaluations / each.max(1)).max(1);
        let (batch, most) = (samples(self.batch), samples(microbatch));
        let parts = batch.div_ceil(most);
        let microbatch = batch.div_ceil(parts);
        UpdateSize { batch: microbatch * parts, microbatch }
    }

    fn check(&self, images: Option<usize>, steps: &[usize]) -> Result<()> {
        if self.loss != TuneLoss::Rollout {
            let (all, Some(images)) = (self.update_size(1).batch, images) else { return Ok(()) };
            ensure!(
                all <= images,
                "the data set has {images} images, fewer than one batch of {all}: set tune.batch to {images} or less"
            );
            return Ok(());
        }
        let most = steps.iter().map(|&steps| self.update_size(steps).batch).max().unwrap_or(0);
        ensure!(
            most <= self.trajectories,
            "an update learns from {most} trajectories, more than there are ({}): raise tune.trajectories or lower tune.batch",
            self.trajectories
        );
        Ok(())
    }

    /// Evaluations with a gradient of all updates for a plan of so many evaluations.
    pub fn evaluations_with_gradient(&self, nfe: usize) -> u64 {
        let each = if self.loss == TuneLoss::Rollout { nfe.max(1) } else { 1 };
        self.updates * (self.update_size(each).batch * each) as u64
    }

    /// Evaluations without a gradient beside those with one: a gradient through all steps repeats all evaluations but the last.
    pub fn repeated_evaluations(&self, nfe: usize) -> u64 {
        let repeats = self.loss == TuneLoss::Rollout && self.gradient.is_through(nfe);
        if repeats { self.updates * (self.update_size(nfe).batch * nfe.saturating_sub(1)) as u64 } else { 0 }
    }

    /// Images that a critic sees for a plan of so many evaluations: the student's, and as many that they should look like. It sees
    /// them with a part of the network.
    pub fn criticised_images(&self, nfe: usize) -> u64 {
        let criticises = self.loss == TuneLoss::Rollout && self.critic_weight > 0.0;
        if criticises { 2 * self.updates * critic::looked_at(self.update_size(nfe).batch) as u64 } else { 0 }
    }
}

/// Refuses plans that phase 2 cannot tune for.
pub(super) fn check_tunable(source: &PlanSource) -> Result<()> {
    let heun = matches!(source, PlanSource::Method(method) if method.solver == Some(Solver::Heun));
    ensure!(
        !heun,
        "{source}: heun evaluates twice at every level, and phase 2 tunes for plans whose levels fall; choose another solver"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_s_parts_are_equal_and_fit_where_one_sample_does() {
        let size = |batch: usize, microbatch: usize, each: usize| {
            let UpdateSize { batch, microbatch } =
                TuneSettings { batch, microbatch, ..TuneSettings::default() }.update_size(each);
            (batch, microbatch)
        };
        assert_eq!(size(128, 128, 1), (128, 128));
        assert_eq!(size(128, 0, 1), (128, 128));
        assert_eq!(size(128, 8, 20), (6, 1)); // 120 evaluations, a trajectory of 20 at once
        assert_eq!(size(128, 1, 3), (42, 1));
        assert_eq!(size(512, 64, 3), (171, 19));
        assert_eq!(size(2, 2, 8), (1, 1));
        assert_eq!(size(101, 30, 1), (104, 26));
    }

    #[test]
    fn a_critic_sees_what_there_is_unless_it_is_told() {
        let of = |settings: &TuneSettings, images: bool| match settings.weights(images) {
            TuneWeights::Rollout(loss) => (loss.critic, loss.critic_of),
            _ => unreachable!("the loss is rollout"),
        };
        let defaults = TuneSettings::default();
        assert_eq!(of(&defaults, true), (0.3, CriticOf::Data));
        assert_eq!(of(&defaults, false), (0.3, CriticOf::Teacher));
        let teacher = TuneSettings { critic_of: CriticReference::Teacher, ..defaults };
        assert_eq!(of(&teacher, true), (0.3, CriticOf::Teacher));
    }

    #[test]
    fn settings_outside_their_domain_are_named() {
        let error = |change: fn(&mut FitSettings)| {
            let mut settings = FitSettings::default();
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert!(FitSettings::default().validate().is_ok());
        assert!(error(|s| s.tune.critic_weight = f64::NAN).contains("tune.critic_weight"));
        assert!(error(|s| s.tune.data_weight = -1.0).contains("tune.data_weight"));
        assert!(error(|s| s.paper.learning_rate = 0.0).contains("paper.learning_rate"));
        assert!(error(|s| s.interpolate.images = 1).contains("interpolate.images"));
        assert!(error(|s| s.search.teacher.grid = 1).contains("teacher.grid"));
        assert!(error(|s| s.held_out.samples = 0).contains("held_out.samples"));
    }
}
