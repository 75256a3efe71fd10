//! Networks between the untuned and the tuned one.
//!
//! Tuning leaves out what it cannot predict: the error falls, and images become smooth. Weights between both have some of what
//! tuning gains and less of what it costs (Wortsman et al. 2022), and to choose alpha takes no gradient.

use std::ops::Range;

use fewstep_core::plan::Plan;
use fewstep_nn::fit::KeptAverages;
use fewstep_nn::{Network, TorchDenoiser, Tunable, spread};
use fewstep_search::MomentsOf;

use super::{ChosenAverage, InterpolationPoint, seeds};
use crate::error::{Context, Error, Result};
use crate::fitting::settings::{InterpolateSettings, TuneSettings};
use crate::fitting::{Fitter, Tuned, TunedAverage};
use crate::scorer::ImageScorer;
use crate::teachers::TorchSearch;

/// Values of alpha that are tried beside 0, the untuned network, and 1, the tuned one.
const ALPHAS: [f64; 3] = [0.25, 0.5, 0.75];

/// The images that decide have seeds from here on: apart from those that anyone samples with, and from all others of a fit.
const INTERPOLATION_SEEDS: u64 = 5 << 40;

/// Seeds of the images that decide in a round, from 0.
pub(super) fn chosen_by(settings: &InterpolateSettings, round: u64) -> Range<u64> {
    seeds(INTERPOLATION_SEEDS, settings.images, round)
}

/// Seeds of the teacher's images that those are compared with, in every round.
pub(in crate::fitting) fn teacher_seeds(settings: &InterpolateSettings) -> Range<u64> {
    let first = INTERPOLATION_SEEDS + settings.images as u64;
    first..first + settings.images as u64
}

/// The network that was chosen.
#[derive(Debug)]
pub struct Interpolated<M = Network> {
    /// The network.
    pub model: M,
    /// The plan, with the moments of this network's images matched anew.
    pub plan: Plan,
    /// Its alpha.
    pub alpha: f64,
    /// Held-out rollout error of both.
    pub rollout_error: f64,
    /// All points that were evaluated, by rising alpha; none where no images are scored.
    pub points: Vec<InterpolationPoint>,
}

impl Fitter<'_> {
    /// The network between `untuned` and `tuned`, which was tuned for `plan`, whose images are nearest to the scorer's reference:
    /// of the settings' number of seeds that nothing else sees. First the averages of the tuned weights are compared, then the points
    /// between the untuned network and the best of them. Without a scorer, or where tuning changed nothing, the tuned one. The untuned
    /// network is evaluated, and never chosen.
    ///
    /// # Errors
    /// If a network fails.
    pub fn interpolate<M: Tunable>(
        &self,
        untuned: &M,
        tuned: Tuned<M>,
        plan: &Plan,
        moments: Option<(&TorchSearch, MomentsOf)>,
        scorer: Option<&ImageScorer>,
    ) -> Result<Interpolated<M>> {
        let images = self.settings.interpolate.images;
        let Tuned { model: tuned, averages, .. } = tuned;
        let Some(scorer) = scorer.filter(|_| images > 0 && !same_weights(untuned, &tuned)) else {
            let plan = plan_for(untuned, &tuned, plan, moments)?;
            let rollout_error = self.rollout_error(&tuned, &plan)?;
            return Ok(Interpolated { model: tuned, plan, alpha: 1.0, rollout_error, points: Vec::new() });
        };
        let seeds: Vec<u64> = chosen_by(&self.settings.interpolate, self.round).collect();
        let evaluate = |alpha: f64, model: &M, plan: &Plan| self.point(alpha, "network", model, plan, (&seeds, scorer));
        let mut points = vec![evaluate(0.0, untuned, plan)?];
        let mut best = None::<Candidate<M>>;
        let mut try_out = |alpha: f64, model: M, average: Option<ChosenAverage>, best: &mut Option<Candidate<M>>| {
            let matched = plan_for(untuned, &model, plan, moments)?;
            let point = InterpolationPoint { average, ..evaluate(alpha, &model, &matched)? };
            points.push(point.clone());
            if best.as_ref().is_none_or(|best| point.frechet < best.point.frechet) {
                *best = Some(Candidate { point, model, plan: matched });
            }
            Ok::<_, Error>(())
        };
        for TunedAverage { average, last_weight } in &averages {
            let of = ChosenAverage {
                updates: average.updates,
                halflife_images: average.halflife_images,
                last_weight: *last_weight,
            };
            try_out(1.0, average.network(&tuned)?, Some(of), &mut best)?;
        }
        if best.is_none() {
            try_out(1.0, tuned.duplicate()?, None, &mut best)?;
        }
        let end = best.as_ref().context("a tuned network was evaluated")?;
        let (tuned, average) = (end.model.duplicate()?, end.point.average);
        for alpha in ALPHAS {
            try_out(alpha, untuned.interpolated(&tuned, alpha)?, average, &mut best)?;
        }
        let Candidate { point, model, plan } = best.context("a tuned network was evaluated")?;
        points.sort_by(|a, b| a.alpha.total_cmp(&b.alpha));
        Ok(Interpolated { model, plan, alpha: point.alpha, rollout_error: point.rollout_error, points })
    }
}

/// A network that images may choose.
struct Candidate<M> {
    point: InterpolationPoint,
    model: M,
    /// With the moments of its images.
    plan: Plan,
}

/// Networks that an interpolation evaluates beside the untuned one, after such a tuning.
pub(crate) fn networks(settings: &InterpolateSettings, tune: &TuneSettings) -> u64 {
    let KeptAverages { halflives_images, after } = settings.averages(tune.updates, 1.0);
    let averages = settings.last_weights(tune).len() * halflives_images.len() * after.len();
    (ALPHAS.len() + averages) as u64
}

/// `plan` for a network that was tuned for it: the same, or with the moments of its images matched anew from a search's latents,
/// as a tuned network's images are smooth in a way of their own. Where tuning left the weights as they were, nothing is to be matched.
///
/// # Errors
/// If the network fails.
pub fn plan_for<M: Tunable>(
    untuned: &M,
    tuned: &M,
    plan: &Plan,
    moments: Option<(&TorchSearch, MomentsOf)>,
) -> Result<Plan> {
    match moments {
        Some((search, of)) if !same_weights(untuned, tuned) => {
            let tuned: &dyn TorchDenoiser = tuned;
            Ok(search.for_tuned(&spread(tuned))?.matched(of, plan)?)
        }
        _ => Ok(plan.clone()),
    }
}

fn same_weights<M: Tunable>(a: &M, b: &M) -> bool {
    a.params().trainable().all(|(name, weight)| b.params().get(name).is_some_and(|other| other == weight))
}
