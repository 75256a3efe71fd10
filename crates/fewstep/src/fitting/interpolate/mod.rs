//! Interpolation between what a phase began with and what it learned, chosen by images: between the untuned and the tuned network, and
//! between rho = 7 and the paper's learned levels.

mod levels;
mod networks;
mod table;

use std::fmt;
use std::ops::Range;

use fewstep_core::observe::Event;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Scale;
use fewstep_nn::TorchDenoiser;
use serde::{Deserialize, Serialize};

pub use self::levels::ChosenLevels;
pub(super) use self::levels::schedules;
pub(crate) use self::networks::networks;
pub(super) use self::networks::teacher_seeds;
pub use self::networks::{Interpolated, plan_for};
pub use self::table::{INTERPOLATION_TEXT, LEVELS_TEXT, interpolation_table};
use super::Fitter;
use super::settings::PaperObjective;
use crate::cells::diverged;
use crate::error::Result;
use crate::forecast::product;
use crate::scorer::{FeatureScore, ImageScorer, Score};

/// Seeds of the images that choose in the fitter's round, from `first` on. In every round but the first `2 * images` are passed over: the
/// seeds before it, and as many, of which the teacher's images have the first.
fn seeds(first: u64, images: usize, round: u64) -> Range<u64> {
    let images = images as u64;
    let first = first.saturating_add(product([round, 2, images]));
    first..first.saturating_add(images)
}

/// A network between the untuned and the tuned one: `w + alpha (w' - w)` of every weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterpolationPoint {
    /// Weight of the tuned network.
    pub alpha: f64,
    /// Frechet distance of its images by the first feature network, which chooses; infinite (in JSON null) where they are not finite.
    #[serde(deserialize_with = "diverged::error")]
    pub frechet: f64,
    /// What every feature network says of its images; nothing where they are not finite.
    #[serde(default)]
    pub scores: Vec<FeatureScore>,
    /// Held-out rollout error.
    #[serde(deserialize_with = "diverged::error")]
    pub rollout_error: f64,
    /// The average of the tuned network's weights, where there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<ChosenAverage>,
    /// What levels were learned by, where that was chosen, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_by: Option<LearnedBy>,
}

/// How phase 1 learned levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedBy {
    /// What it minimised.
    pub objective: PaperObjective,
    /// In which scale.
    pub scale: Scale,
}

impl fmt::Display for LearnedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = match self.scale {
            Scale::Linear => "linear",
            Scale::Log => "log",
        };
        write!(f, "{}, {scale}", self.objective.name())
    }
}

/// An average of the weights that a tuning went through.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenAverage {
    /// Updates made.
    pub updates: u64,
    /// Its half-life in images, or in trajectories of the loss rollout.
    pub halflife_images: f64,
    /// The weight of the last level in the loss bound, where several were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_weight: Option<f64>,
}

impl Fitter<'_> {
    /// An interpolation point scored.
    fn point(
        &self,
        alpha: f64,
        what: &str,
        denoiser: &dyn TorchDenoiser,
        plan: &Plan,
        (seeds, scorer): (&[u64], &ImageScorer),
    ) -> Result<InterpolationPoint> {
        self.observer.event(Event::Note(&format!("{} evaluations, {what} at alpha {alpha}", plan.nfe())));
        let score = scorer.score_if_finite(denoiser, plan, seeds, self.observer)?;
        let frechet = score.as_ref().map_or(f64::INFINITY, Score::frechet);
        let scores = score.map_or_else(Vec::new, |score| score.scores);
        let rollout_error = self.rollout_error(denoiser, plan)?;
        Ok(InterpolationPoint { alpha, frechet, scores, rollout_error, average: None, learned_by: None })
    }
}

/// Whether images of an interpolated network are at least as near as those of the untuned one; none where none were scored.
pub fn comes_nearer(points: &[InterpolationPoint]) -> Option<bool> {
    let (untuned, rest) = points.split_first()?;
    Some(rest.iter().any(|point| point.frechet.is_finite() && point.frechet <= untuned.frechet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fitting::settings::InterpolateSettings;

    /// What a round chose by some images is compared anew on others, and on none of the teacher's.
    #[test]
    fn no_two_rounds_choose_by_the_same_images() {
        let settings = InterpolateSettings { images: 100, ..InterpolateSettings::default() };
        let mut all = vec![teacher_seeds(&settings)];
        all.extend((0..4).map(|round| networks::chosen_by(&settings, round)));
        all.sort_by_key(|seeds| seeds.start);
        assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start), "{all:?}");
        assert!(all.iter().all(|seeds| seeds.clone().count() == 100), "{all:?}");
        assert_eq!(seeds(7, 3, 0), 7..10);
    }
}
