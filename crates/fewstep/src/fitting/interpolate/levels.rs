//! Levels between those that phase 1 began with and the learned ones.
//!
//! Levels that minimise the paper's objectives go too far, and the first part of their way is the better one.

use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_nn::TorchDenoiser;
use serde::{Deserialize, Serialize};

use super::{InterpolationPoint, LearnedBy, seeds};
use crate::cells::diverged;
use crate::error::{Context, Result};
use crate::fitting::Fitter;
use crate::plans::euler;
use crate::scorer::ImageScorer;

/// Values of alpha that levels are tried at beside those that phase 1 began with (0), to the learned ones (1).
const LEVEL_ALPHAS: [f64; 5] = [0.2, 0.4, 0.6, 0.8, 1.0];

/// Seeds of the images that choose levels.
const LEVEL_SEEDS: u64 = 6 << 40;

/// Schedules that an interpolation evaluates of levels that were learned in so many ways.
pub(in crate::fitting) fn schedules(learnings: usize) -> u64 {
    1 + (LEVEL_ALPHAS.len() * learnings) as u64
}

/// The levels that were chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChosenLevels {
    /// Euler on them.
    pub plan: Plan,
    /// Their alpha: 0 for those that phase 1 began with, 1 for the learned ones.
    pub alpha: f64,
    /// Which of the learned levels they are on the way to; the first where alpha is 0.
    #[serde(default)]
    pub learning: usize,
    /// Held-out rollout error.
    #[serde(deserialize_with = "diverged::error")]
    pub rollout_error: f64,
    /// All points that were evaluated: by learning, then by rising alpha.
    pub points: Vec<InterpolationPoint>,
}

impl Fitter<'_> {
    /// The levels between `start` and any of `learned` whose images by `denoiser` are nearest to the scorer's reference, `start` and
    /// `learned` among them: of the settings' number of seeds that nothing else sees. Points at which two levels of the network's become
    /// the same are left out. Where levels were learned in several ways, points say by what.
    ///
    /// # Errors
    /// If the denoiser fails, or `start` and `learned` differ in length.
    pub fn interpolate_levels(
        &self,
        denoiser: &dyn TorchDenoiser,
        start: &Schedule,
        learned: &[(LearnedBy, Schedule)],
        scorer: &ImageScorer,
    ) -> Result<ChosenLevels> {
        let seeds: Vec<u64> = seeds(LEVEL_SEEDS, self.settings.interpolate.images, self.round).collect();
        let mut tried = vec![(0, None, 0.0, start.clone())];
        for (learning, (by, levels)) in learned.iter().enumerate() {
            let by = (learned.len() > 1).then_some(*by);
            for alpha in LEVEL_ALPHAS {
                tried.push((learning, by, alpha, start.interpolated(levels, alpha)?));
            }
        }
        let (mut points, mut best) = (Vec::new(), None::<(InterpolationPoint, Plan, usize)>);
        for (learning, learned_by, alpha, levels) in tried {
            let Ok(levels) = levels.round(&denoiser.spec().levels) else { continue };
            let plan = euler(&levels)?;
            let point = self.point(alpha, "levels", denoiser, &plan, (&seeds, scorer))?;
            let point = InterpolationPoint { learned_by, ..point };
            points.push(point.clone());
            if best.as_ref().is_none_or(|(nearest, ..)| point.frechet < nearest.frechet) {
                best = Some((point, plan, learning));
            }
        }
        let (point, plan, learning) = best.context("no two levels of this network are apart enough for such a plan")?;
        Ok(ChosenLevels { plan, alpha: point.alpha, learning, rollout_error: point.rollout_error, points })
    }
}
