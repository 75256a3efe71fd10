//! Levels between those that phase 1 began with and the learned ones.
//!
//! Levels that minimise the paper's objectives go too far, and the first part of their way is the better one.

use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_nn::TorchDenoiser;
use serde::{Deserialize, Serialize};

use super::{InterpolationPoint, seeds};
use crate::cells::diverged;
use crate::error::{Context, Result};
use crate::fitting::Fitter;
use crate::plans::euler;
use crate::scorer::ImageScorer;

/// Values of alpha that levels are tried at, from those that phase 1 began with (0) to the learned ones (1).
const LEVEL_ALPHAS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// Seeds of the images that choose levels.
const LEVEL_SEEDS: u64 = 6 << 40;

/// Schedules that an interpolation of levels evaluates.
pub(in crate::fitting) const SCHEDULES: usize = LEVEL_ALPHAS.len();

/// The levels that were chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChosenLevels {
    /// Euler on them.
    pub plan: Plan,
    /// Their alpha: 0 for those that phase 1 began with, 1 for the learned ones.
    pub alpha: f64,
    /// Held-out rollout error.
    #[serde(deserialize_with = "diverged::error")]
    pub rollout_error: f64,
    /// All points that were evaluated, by rising alpha.
    pub points: Vec<InterpolationPoint>,
}

impl Fitter<'_> {
    /// The levels between `start` and `learned` whose images by `denoiser` are nearest to the scorer's reference, `start` and `learned`
    /// among them: of the settings' number of seeds that nothing else sees. Points at which two levels of the network's become the
    /// same are left out.
    ///
    /// # Errors
    /// If the denoiser fails, or `start` and `learned` differ in length.
    pub fn interpolate_levels(
        &self,
        denoiser: &dyn TorchDenoiser,
        start: &Schedule,
        learned: &Schedule,
        scorer: &ImageScorer,
    ) -> Result<ChosenLevels> {
        let seeds: Vec<u64> = seeds(LEVEL_SEEDS, self.settings.interpolate.images, self.round).collect();
        let (mut points, mut best) = (Vec::new(), None::<(InterpolationPoint, Plan)>);
        for alpha in LEVEL_ALPHAS {
            let levels = start.interpolated(learned, alpha)?;
            let Ok(levels) = levels.round(&denoiser.spec().levels) else { continue };
            let plan = euler(&levels)?;
            let point = self.point(alpha, "levels", denoiser, &plan, (&seeds, scorer))?;
            points.push(point.clone());
            if best.as_ref().is_none_or(|(nearest, _)| point.frechet < nearest.frechet) {
                best = Some((point, plan));
            }
        }
        let (point, plan) = best.context("no two levels of this network are apart enough for such a plan")?;
        Ok(ChosenLevels { plan, alpha: point.alpha, rollout_error: point.rollout_error, points })
    }
}
