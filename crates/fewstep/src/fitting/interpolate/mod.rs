//! Interpolation between what a phase began with and what it learned, chosen by images: between the untuned and the tuned network, and
//! between rho = 7 and the paper's learned levels.

mod levels;
mod networks;
mod table;

use fewstep_core::observe::Event;
use fewstep_core::plan::Plan;
use fewstep_nn::TorchDenoiser;
use serde::{Deserialize, Serialize};

pub use self::levels::ChosenLevels;
pub(super) use self::levels::SCHEDULES;
pub(crate) use self::networks::networks;
pub(super) use self::networks::teacher_seeds;
pub use self::networks::{Interpolated, plan_for};
pub use self::table::{INTERPOLATION_TEXT, LEVELS_TEXT, interpolation_table};
use super::Fitter;
use crate::error::Result;
use crate::scorer::{FeatureScore, ImageScorer};

/// A network between the untuned and the tuned one: `w + alpha (w' - w)` of every weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterpolationPoint {
    /// Weight of the tuned network.
    pub alpha: f64,
    /// Frechet distance of its images by the first feature network, which chooses.
    pub frechet: f64,
    /// What every feature network says of its images.
    #[serde(default)]
    pub scores: Vec<FeatureScore>,
    /// Held-out rollout error.
    pub rollout_error: f64,
    /// The average of the tuned network's weights, where there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<ChosenAverage>,
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
        let score = scorer.score(denoiser, plan, seeds, self.observer)?;
        let rollout_error = self.rollout_error(denoiser, plan)?;
        Ok(InterpolationPoint { alpha, frechet: score.frechet(), scores: score.scores, rollout_error, average: None })
    }
}

/// Whether images of an interpolated network are at least as near as those of the untuned one; none where none were scored.
pub fn comes_nearer(points: &[InterpolationPoint]) -> Option<bool> {
    let (untuned, rest) = points.split_first()?;
    Some(rest.iter().any(|point| point.frechet <= untuned.frechet))
}
