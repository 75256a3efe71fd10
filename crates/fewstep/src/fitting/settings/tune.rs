//! Settings of phase 2.

use std::str::FromStr;

use fewstep_nn::critic;
use fewstep_nn::fit::{TuneConfig, TuneWeights};
use fewstep_nn::train::{CriticOf, GradientFlow, RolloutLoss, StepWeights};
use fewstep_search::documented;
use fewstep_search::settings::Distance;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, bail, ensure};
use crate::forecast::product;
use crate::models::OpenModel;

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
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "rollout" => Ok(Self::Rollout),
            "bound" => Ok(Self::Bound),
            "edm" => Ok(Self::Edm),
            _ => bail!("there is no loss '{text}': rollout, bound (the paper's) or edm"),
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
    /// Cosine; constant for the losses bound and edm where the held-out error decides when to stop.
    #[default]
    Auto,
    /// It stays.
    Constant,
    /// It falls to 0 over all updates.
    Cosine,
}

documented! {
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
            TuneWeights::Rollout(loss) => loss.needs_images(),
            TuneWeights::Bound { .. } | TuneWeights::Original => true,
        }
    }

    /// Whether it teaches to denoise data, which is what a network does alone.
    pub fn denoises_data(&self) -> bool {
        self.loss != TuneLoss::Rollout || self.data_weight > 0.0
    }

    /// Refuses a model that is not to be tuned, or not so.
    ///
    /// # Errors
    /// If its weights cannot be had, or it is guided and would be taught to denoise data, as if it were not.
    pub fn check_model(&self, opened: &OpenModel) -> Result<()> {
        opened.tunable()?;
        ensure!(
            opened.spec().guidance.is_none() || !self.denoises_data(),
            "the losses bound and edm, and tune.data_weight, teach a network to denoise data, and what a guided one answers is no \
             mean of data: tune it by the loss rollout, or leave guidance out"
        );
        Ok(())
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

    /// Whether the rate falls along a cosine; `stops_early`: whether the held-out error may end it before all updates are made.
    pub fn decays(&self, stops_early: bool) -> bool {
        match self.lr_schedule {
            LrSchedule::Auto => !stops_early || self.loss == TuneLoss::Rollout,
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

    pub(super) fn check(&self, images: Option<usize>, steps: &[usize]) -> Result<()> {
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
        product([self.updates, self.update_size(each).batch as u64, each as u64])
    }

    /// Evaluations without a gradient beside those with one: a gradient through all steps repeats all evaluations but the last.
    pub fn repeated_evaluations(&self, nfe: usize) -> u64 {
        let repeats = self.loss == TuneLoss::Rollout && self.gradient.is_through(nfe);
        let each = product([self.update_size(nfe).batch as u64, nfe.saturating_sub(1) as u64]);
        if repeats { product([self.updates, each]) } else { 0 }
    }

    /// Images that a critic sees for a plan of so many evaluations: the student's, and as many that they should look like. It sees
    /// them with a part of the network.
    pub fn criticised_images(&self, nfe: usize) -> u64 {
        let criticises = self.loss == TuneLoss::Rollout && self.critic_weight > 0.0;
        let shown = critic::shown_images(self.update_size(nfe).batch) as u64;
        if criticises { product([2, self.updates, shown]) } else { 0 }
    }
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
    fn a_rate_falls_unless_the_paper_s_losses_may_stop_before() {
        let falls = |loss, lr_schedule| {
            let settings = TuneSettings { loss, lr_schedule, ..TuneSettings::default() };
            [true, false].map(|stops_early| settings.decays(stops_early))
        };
        for loss in [TuneLoss::Bound, TuneLoss::Edm] {
            assert_eq!(falls(loss, LrSchedule::Auto), [false, true]);
        }
        assert_eq!(falls(TuneLoss::Rollout, LrSchedule::Auto), [true; 2]);
        assert_eq!(falls(TuneLoss::Rollout, LrSchedule::Constant), [false; 2]);
        assert_eq!(falls(TuneLoss::Bound, LrSchedule::Cosine), [true; 2]);
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
}
