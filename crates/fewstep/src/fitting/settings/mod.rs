//! Settings of both phases, as settings files and `run.json` keep them.

mod source;
mod tune;

use fewstep_core::objective::Objective;
use fewstep_core::schedule::Scale;
use fewstep_nn::TorchDenoiser;
use fewstep_nn::fit::KeptAverages;
use fewstep_nn::fit::{NoiseSharing, check_images_are_samples};
use fewstep_search::{SearchSettings, Source, TEACHER_STEPS, documented};
use serde::{Deserialize, Serialize};

pub use self::source::PlanSource;
pub(in crate::fitting) use self::source::check_tunable;
pub use self::tune::{CriticReference, LrSchedule, TuneLoss, TuneSettings, UpdateSize};
use super::interpolate::LearnedBy;
use crate::data::DataSettings;
use crate::error::{Result, ensure};
use crate::forecast::{check_count, check_levels};

documented! {
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
        /// Training images.
        pub data: DataSettings,
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
        /// Latents that nothing is fitted to; what is kept is chosen by their error.
        pub samples: usize,
        /// Noise levels N of their teacher, which makes 2 N - 1 evaluations: Heun, on flows dpmpp2m.
        pub teacher_steps: usize,
    }

    /// Interpolation between the untuned and the tuned network, and between rho = 7 and the paper's levels, by the Frechet distance of images.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct InterpolateSettings {
        /// Images of each interpolation point, of seeds of their own; 0 takes what was learned.
        pub images: usize,
        /// Half-lives of the averages of the weights that images choose among first, in units of tune.ema_images.
        pub halflives: Vec<f64>,
        /// Parts of the updates after which those averages are kept.
        pub parts: Vec<f64>,
        /// Weights of the last level in the loss bound, a tuning each, that images choose among, too; empty for tune.last_weight alone.
        pub last_weights: Vec<f64>,
        /// Objectives beside paper.objective, levels learned by each, that images choose among, too.
        pub objectives: Vec<PaperObjective>,
        /// Scales beside paper.scale, levels learned in each, that images choose among, too.
        pub scales: Vec<Scale>,
    }
}

/// How the paper's objectives are minimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaperOptimiser {
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

documented! {
    /// Phase 1 by the paper's objectives.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct PaperSettings {
        /// What is minimised: discretization (Eq. 11), bound (Eq. 12), or joint.
        pub objective: PaperObjective,
        /// Weight of the bound in the joint objective.
        pub gamma: f64,
        /// auto, adam, or table (bound only).
        #[serde(alias = "optimizer")]
        pub optimiser: PaperOptimiser,
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
}

impl PaperObjective {
    /// As it is written in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discretization => "discretization",
            Self::Bound => "bound",
            Self::Joint => "joint",
        }
    }
}

impl Default for FitSettings {
    fn default() -> Self {
        Self {
            batch: 64,
            early_stop: true,
            seed: 0,
            data: DataSettings::default(),
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
        Self { samples: 128, teacher_steps: TEACHER_STEPS }
    }
}

impl Default for InterpolateSettings {
    fn default() -> Self {
        Self {
            images: 2_000,
            halflives: vec![1.0, 5.0, 25.0],
            parts: vec![0.5, 1.0],
            last_weights: Vec::new(),
            objectives: Vec::new(),
            scales: Vec::new(),
        }
    }
}

impl InterpolateSettings {
    /// Weights of the last level that a tuning each is made with; one where this loss knows none, or they are not to be chosen.
    pub fn last_weights(&self, tune: &TuneSettings) -> Vec<f64> {
        match (&tune.loss, &self.last_weights[..]) {
            (TuneLoss::Bound, [_, ..]) => self.last_weights.clone(),
            _ => vec![tune.last_weight],
        }
    }

    /// What levels are learned by, a learning by Adam each: `paper`, and with each of the objectives in each of the scales.
    pub fn learnings(&self, paper: &PaperSettings) -> Vec<PaperSettings> {
        let objectives = if self.objectives.is_empty() { &[paper.objective][..] } else { &self.objectives };
        let scales = if self.scales.is_empty() { &[paper.scale][..] } else { &self.scales };
        let each = |&objective| scales.iter().map(move |&scale| PaperSettings { objective, scale, ..paper.clone() });
        let mut all: Vec<PaperSettings> = objectives.iter().flat_map(each).collect();
        if !all.contains(paper) {
            all.insert(0, paper.clone());
        }
        all
    }

    /// The averages to keep in so many updates, where that of `tune.ema_images` has a half-life of `halflife_images`.
    pub fn averages(&self, updates: u64, halflife_images: f64) -> KeptAverages {
        let mut after: Vec<u64> = self.parts.iter().map(|part| (part * updates as f64).ceil() as u64).collect();
        after.sort_unstable();
        after.dedup();
        KeptAverages { halflives_images: self.halflives.iter().map(|factor| factor * halflife_images).collect(), after }
    }
}

impl Default for PaperSettings {
    fn default() -> Self {
        Self {
            objective: PaperObjective::Bound,
            gamma: 1.0,
            optimiser: PaperOptimiser::Auto,
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

impl PaperSettings {
    /// The objective with its weight.
    pub fn objective(&self) -> Objective {
        match self.objective {
            PaperObjective::Discretization => Objective::Discretization,
            PaperObjective::Bound => Objective::Bound,
            PaperObjective::Joint => Objective::Joint { gamma: self.gamma },
        }
    }

    /// What levels are learned by.
    pub fn learned_by(&self) -> LearnedBy {
        LearnedBy { objective: self.objective, scale: self.scale }
    }

    /// Whether the bound is minimised over a table of e(sigma).
    pub fn by_table(&self) -> bool {
        match self.optimiser {
            PaperOptimiser::Auto => self.objective == PaperObjective::Bound,
            PaperOptimiser::Adam => false,
            PaperOptimiser::Table => true,
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
            "{source} follows gradients, and this model answers without any: take a method without +rollout or +levels, or for paper the \
             setting paper.optimiser = table"
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
            ("paper.batch", paper.batch, 1),
            ("paper.table_images", paper.table_images, 1),
            ("tune.batch", tune.batch, 1),
            ("tune.microbatch", tune.microbatch, 0),
            ("tune.trajectories", tune.trajectories, 1),
            ("interpolate.images", interpolate.images, 0),
        ] {
            check_count(name, value as u64, least)?;
        }
        check_count("paper.iterations", paper.iterations, 0)?;
        check_count("tune.updates", tune.updates, 0)?;
        check_levels("held_out.teacher_steps", held_out.teacher_steps)?;
        check_levels("paper.grid", paper.grid)?;
        ensure!(
            interpolate.images != 1,
            "the setting interpolate.images must be at least 2, as a covariance needs two, or 0"
        );
        ensure!(
            interpolate.last_weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite()),
            "the setting interpolate.last_weights must be finite numbers of at least 0, not {:?}",
            interpolate.last_weights
        );
        for (name, values, most) in
            [("halflives", &interpolate.halflives, f64::MAX), ("parts", &interpolate.parts, 1.0)]
        {
            ensure!(
                !values.is_empty() && values.iter().all(|&value| value > 0.0 && value <= most),
                "the setting interpolate.{name} must be numbers above 0{}, one at least, not {values:?}",
                if most == 1.0 { " and of at most 1" } else { "" }
            );
        }
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
            "the setting paper.optimiser = table minimises the bound; the other objectives need adam"
        );
        ensure!(
            tune.critic_weight > 0.0 || tune.critic_of == CriticReference::Auto,
            "the setting tune.critic_of is for a critic, and tune.critic_weight is 0: it changes nothing"
        );
        let images = tune.loss != TuneLoss::Rollout
            || tune.data_weight > 0.0
            || tune.critic_weight > 0.0 && tune.critic_of != CriticReference::Teacher;
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(error(|s| s.interpolate.halflives = vec![0.0]).contains("interpolate.halflives"));
        assert!(error(|s| s.interpolate.parts = vec![0.5, 1.5]).contains("at most 1, one at least, not [0.5, 1.5]"));
        assert!(error(|s| s.search.teacher.grid = 1).contains("teacher.grid"));
        assert!(error(|s| s.held_out.samples = 0).contains("held_out.samples"));
        assert!(error(|s| s.held_out.samples = 1 << 40).contains("held_out.samples must be at most 10000000, not"));
        assert!(
            error(|s| s.held_out.teacher_steps = usize::MAX).contains("held_out.teacher_steps must be at most 10000")
        );
        assert!(error(|s| s.interpolate.images = 1 << 40).contains("interpolate.images must be at most"));
        assert!(error(|s| s.tune.trajectories = 1 << 40).contains("tune.trajectories must be at most"));
        assert!(error(|s| s.tune.microbatch = 1 << 40).contains("tune.microbatch must be at most"));
        assert!(error(|s| s.tune.updates = u64::MAX).contains("tune.updates must be at most"));
        assert!(error(|s| s.paper.iterations = u64::MAX).contains("paper.iterations must be at most"));
        assert!(error(|s| s.paper.table_images = 1 << 40).contains("paper.table_images must be at most"));
    }
}
