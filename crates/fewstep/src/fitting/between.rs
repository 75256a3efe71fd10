//! Between the network as it came and the tuned one.
//!
//! Tuning leaves out what it cannot predict: the error falls, and images become smooth. Weights on the way there have some of
//! what tuning gains and less of what it costs (Wortsman et al. 2022), and to know how much takes no gradient.

use anyhow::Result;
use fewstep_core::plan::Plan;
use fewstep_nn::Model;
use serde::{Deserialize, Serialize};

use super::Fitter;
use crate::searching::{MomentsOf, Searcher};
use crate::studio::Studio;
use crate::ui;

/// Shares of the way that are looked at beside 0, the network as it came, and 1, the tuned one.
const SHARES: [f64; 3] = [0.25, 0.5, 0.75];

/// Networks that a plan is matched with on the way: all but the one as it came.
pub const SETTLING_NETWORKS: u64 = SHARES.len() as u64 + 1;

/// The images that decide have seeds from here on: apart from those that anyone samples with, and from all others of a fit.
const SETTLING_SEEDS: u64 = 5 << 40;

/// A network between the one as it came and the tuned one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Between {
    /// How much of the way.
    pub share: f64,
    /// Frechet distance of its images.
    pub frechet: f64,
    /// Held-out rollout error.
    pub rollout_error: f64,
}

/// The network that was settled on.
#[derive(Debug)]
pub struct Settled {
    /// The network.
    pub model: Model,
    /// The plan, with the moments of this network's images matched anew.
    pub plan: Plan,
    /// Held-out rollout error of both.
    pub rollout_error: f64,
    /// What was looked at: the network as it came first; nothing where no images are judged.
    pub looks: Vec<Between>,
}

impl Settled {
    /// Whether images of what was settled on are nearer than those of the network as it came; none where none were judged.
    pub fn is_nearer(looks: &[Between]) -> Option<bool> {
        let (start, rest) = looks.split_first()?;
        Some(rest.iter().any(|look| look.frechet <= start.frechet))
    }
}

impl Fitter<'_> {
    /// The network on the way from `start` to `tuned`, which was tuned for `plan`, whose images are nearest to the studio's
    /// reference: of `images` seeds that nothing else looks at. Without a studio the tuned one.
    pub fn settle(
        &self,
        start: &Model,
        tuned: Model,
        plan: &Plan,
        moments: Option<(&Searcher, MomentsOf)>,
        studio: Option<&Studio>,
    ) -> Result<Settled> {
        let images = self.settings.settling_images;
        let Some(studio) = studio.filter(|_| images > 0) else {
            let plan = plan_for(&tuned, plan, moments)?;
            let rollout_error = self.judge.rollout_error(&tuned, &plan)?;
            return Ok(Settled { model: tuned, plan, rollout_error, looks: Vec::new() });
        };
        let seeds: Vec<u64> = (SETTLING_SEEDS..SETTLING_SEEDS + images as u64).collect();
        let look = |share: f64, model: &Model, plan: &Plan| {
            ui::note(format!("{} evaluations, {} of the way to the tuned network", plan.nfe(), percent(share)));
            let frechet = studio.measure(model, plan, &seeds)?.frechet;
            Ok::<_, anyhow::Error>(Between { share, frechet, rollout_error: self.judge.rollout_error(model, plan)? })
        };
        let matched = |share: f64, model: Model| {
            let plan = plan_for(&model, plan, moments)?;
            Ok::<_, anyhow::Error>((look(share, &model, &plan)?, model, plan))
        };
        let mut looks = vec![look(0.0, start, plan)?];
        let end = tuned.duplicate()?;
        let mut best = matched(1.0, tuned)?;
        looks.push(best.0);
        for share in SHARES {
            let found = matched(share, start.between(&end, share)?)?;
            looks.push(found.0);
            if found.0.frechet < best.0.frechet {
                best = found;
            }
        }
        looks.sort_by(|a, b| a.share.total_cmp(&b.share));
        let (Between { rollout_error, .. }, model, plan) = best;
        Ok(Settled { model, plan, rollout_error, looks })
    }
}

/// `plan` for a network that was tuned for it: the same, or with the moments of its images matched anew from a search's latents,
/// as a tuned network's images are smooth in a way of their own.
pub fn plan_for(tuned: &Model, plan: &Plan, moments: Option<(&Searcher, MomentsOf)>) -> Result<Plan> {
    match moments {
        Some((searcher, of)) => searcher.for_network(tuned)?.matched(of, plan),
        None => Ok(plan.clone()),
    }
}

/// A share in words.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}
