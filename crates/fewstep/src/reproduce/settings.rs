//! Settings of the paper's experiments, at two scales.

use std::str::FromStr;

use fewstep_core::schedule::Scale;
use fewstep_eval::features::Convention;
use fewstep_search::{Method, MomentsOf, Source, documented};
use serde::{Deserialize, Serialize};

use crate::cells::SeedRanges;
use crate::error::{Error, Result, bail, ensure};
use crate::fitting::FitSettings;
use crate::fitting::settings::{
    CriticReference, InterpolateSettings, LrSchedule, PaperObjective, PaperOptimiser, PaperSettings, TuneLoss,
    TuneSettings,
};

/// How large experiments are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// Hours on two cores.
    #[default]
    Small,
    /// The paper's own: 50,000 updates, 50,000 images a distance.
    Paper,
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "small" => Ok(Self::Small),
            "paper" => Ok(Self::Paper),
            _ => bail!("there is no preset '{text}': small or paper"),
        }
    }
}

documented! {
    /// What every row depends on.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct ReproduceSettings {
        /// Our search: a method of `fewstep compare`.
        pub method: Method,
        /// How Inception's images are resized: tf1 (EDM, torch-fidelity) or pytorch-fid.
        pub resize: Convention,
        /// Images that rows are scored on.
        pub seeds: SeedRanges,
        /// Whether images (`fit.interpolate`) choose the paper's levels and networks among those between the first and the learned ones.
        pub choose_by_images: bool,
        /// The paper's two phases (`paper`, and `tune` by the loss bound), our search, and the held-out error.
        pub fit: FitSettings,
        /// Our tuning, by the loss rollout.
        pub rollout: TuneSettings,
    }
}

impl Default for ReproduceSettings {
    fn default() -> Self {
        Self::of(Preset::Small)
    }
}

impl ReproduceSettings {
    /// Settings of a scale.
    pub fn of(preset: Preset) -> Self {
        let paper = preset == Preset::Paper;
        let usual = FitSettings::default();
        let fit = FitSettings {
            // as in the paper every phase runs to its end, and its outcome stands
            early_stop: false,
            // Eq. 11 and gamma times Eq. 12, by gradient on Eq. 13's parameters
            paper: PaperSettings {
                objective: PaperObjective::Joint,
                optimiser: PaperOptimiser::Adam,
                scale: Scale::Linear,
                ..usual.paper
            },
            tune: TuneSettings {
                loss: TuneLoss::Bound,
                learning_rate: 1e-4,
                lr_schedule: if paper { LrSchedule::Constant } else { LrSchedule::Cosine },
                ..usual.tune.clone()
            },
            interpolate: InterpolateSettings {
                last_weights: if paper { Vec::new() } else { vec![0.0, 1.0] },
                scales: if paper { Vec::new() } else { vec![Scale::Linear, Scale::Log] },
                ..usual.interpolate
            },
            ..usual
        };
        let rollout = TuneSettings {
            critic_of: CriticReference::Data,
            trajectories: if paper { 16_384 } else { usual.tune.trajectories },
            learning_rate: 5e-4,
            lr_schedule: LrSchedule::Cosine,
            ..usual.tune
        };
        let seeds = match preset {
            Preset::Small => SeedRanges { images: 5_000, ranges: 3, first: 0 },
            Preset::Paper => SeedRanges { images: 50_000, ranges: 1, first: 0 },
        };
        let method = Method { moments: Some(MomentsOf::Data), ..Method::LEAST_SQUARES };
        // the paper takes what was learned
        let choose_by_images = !paper;
        let mut settings = Self { method, resize: Convention::default(), seeds, choose_by_images, fit, rollout };
        settings.set_level_updates(if paper { 50_000 } else { 400 });
        settings.set_updates(if paper { 50_000 } else { 1_000 });
        settings.set_batch(if paper { 512 } else { 128 });
        settings
    }

    /// Updates of the levels in phase 1, with the held-out error evaluated after every twentieth part.
    pub fn set_level_updates(&mut self, updates: u64) {
        self.fit.paper.iterations = updates;
        self.fit.paper.check_every = updates.div_ceil(20).max(1);
    }

    /// Updates of the network in every tuning; its evaluations and its average go with them.
    pub fn set_updates(&mut self, updates: u64) {
        for tune in [&mut self.fit.tune, &mut self.rollout] {
            tune.updates = updates;
            go_with_updates(tune);
        }
    }

    /// Images an update of every tuning; its average goes with them.
    pub fn set_batch(&mut self, batch: usize) {
        for tune in [&mut self.fit.tune, &mut self.rollout] {
            tune.batch = batch;
            go_with_updates(tune);
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first one outside its domain, by its name.
    pub fn validate(&self) -> Result<()> {
        let Self { method, seeds, fit, rollout, .. } = self;
        seeds.check(["seeds.images", "seeds.ranges", "seeds.first"])?;
        fit.validate().map_err(|error| renamed(&error, "", "fit."))?;
        let ours = FitSettings { tune: rollout.clone(), ..fit.clone() };
        ours.validate().map_err(|error| renamed(&error, "tune.", "rollout."))?;
        ensure!(!fit.paper.by_table(), "the setting fit.paper.optimiser is adam here: levels are learned by gradient");
        ensure!(
            fit.tune.loss != TuneLoss::Rollout,
            "the setting fit.tune is of the paper's tuning, whose loss is bound; ours is the setting rollout"
        );
        ensure!(
            rollout.loss == TuneLoss::Rollout && !rollout.compares_features(),
            "the setting rollout is of our tuning: its loss is rollout, its distance squared or pseudo_huber"
        );
        for (name, updates) in [
            ("fit.paper.iterations", fit.paper.iterations),
            ("fit.tune.updates", fit.tune.updates),
            ("rollout.updates", rollout.updates),
        ] {
            ensure!(updates >= 1, "the setting {name} must be at least 1");
        }
        ensure!(
            method.source != Source::Bound,
            "the method of our rows is a search over a teacher; the bound is what phase 1 minimises"
        );
        let (least, samples) = (method.least_latents(), fit.search.teacher.samples);
        ensure!(samples >= least, "the setting fit.search.teacher.samples must be at least {least} for {method}");
        Ok(())
    }
}

/// An error that names a setting as it is called here.
fn renamed(error: &Error, from: &str, to: &str) -> Error {
    let setting = "the setting ";
    Error::Input(error.to_string().replacen(&format!("{setting}{from}"), &format!("{setting}{to}"), 1))
}

/// Sets what goes with the number of updates: twenty evaluations of the held-out error, and an average over a twentieth.
fn go_with_updates(tune: &mut TuneSettings) {
    tune.check_every = tune.updates.div_ceil(20).max(1);
    tune.ema_images = tune.updates as f64 * tune.batch as f64 / 20.0; // of any numbers: they are not checked yet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_scales_are_sound_and_the_paper_s_is_its_own() {
        for preset in [Preset::Small, Preset::Paper] {
            ReproduceSettings::of(preset).validate().unwrap();
        }
        let paper = ReproduceSettings::of(Preset::Paper);
        assert_eq!((paper.fit.tune.updates, paper.fit.tune.batch, paper.fit.tune.check_every), (50_000, 512, 2_500));
        assert_eq!(paper.fit.tune.ema_images, 50_000.0 * 512.0 / 20.0);
        assert_eq!((paper.seeds.images, paper.rollout.trajectories), (50_000, 16_384));
    }

    #[test]
    fn settings_that_make_another_experiment_are_refused_by_name() {
        let error = |change: fn(&mut ReproduceSettings)| {
            let mut settings = ReproduceSettings::default();
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert!(error(|s| s.rollout.critic_weight = f64::INFINITY).contains("rollout.critic_weight"));
        assert!(error(|s| s.fit.tune.last_weight = -1.0).contains("fit.tune.last_weight"));
        assert!(error(|s| s.rollout.loss = TuneLoss::Edm).contains("rollout"));
        assert!(error(|s| s.fit.tune.loss = TuneLoss::Rollout).contains("fit.tune"));
        assert!(error(|s| s.fit.paper.optimiser = PaperOptimiser::Table).contains("adam"));
        assert!(error(|s| s.seeds.images = 1).contains("seeds.images"));
        assert!(error(|s| s.seeds.images = 1 << 60).contains("seeds.images must be at most 10000000"));
        assert!(error(|s| s.seeds.first = u64::MAX).contains("seeds.first must leave room"));
        assert!(error(|s| s.set_updates(u64::MAX)).contains("fit.tune.updates must be at most"));
        assert!(error(|s| s.fit.held_out.samples = 1 << 40).contains("fit.held_out.samples must be at most"));
        assert!(error(|s| s.rollout.trajectories = 1 << 40).contains("rollout.trajectories must be at most"));
        assert!(error(|s| s.fit.search.teacher.samples = 1).contains("teacher.samples"));
        assert!(error(|s| s.method = "bound/euler".parse().unwrap()).contains("bound"));
    }
}
