//! Interpolation between what a phase began with and what it learned, chosen by images: between the untuned and the tuned network, and
//! between rho = 7 and the paper's learned levels.
//!
//! Tuning leaves out what it cannot predict: the error falls, and images become smooth. Weights between both have some of what
//! tuning gains and less of what it costs (Wortsman et al. 2022), and to choose alpha takes no gradient. Levels that minimise the paper's
//! objectives go too far, and the first part of their way is the better one.

use std::ops::Range;

use fewstep_core::observe::Event;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_nn::fit::KeptAverages;
use fewstep_nn::{Network, TorchDenoiser, Tunable, spread};
use fewstep_report::{Cell, Column, Format, Table};
use fewstep_search::MomentsOf;
use serde::{Deserialize, Serialize};

use super::settings::{InterpolateSettings, TuneSettings};
use super::{Fitter, Tuned, TunedAverage};
use crate::error::{Context, Error, Result};
use crate::plans::euler;
use crate::scorer::{FeatureScore, ImageScorer};
use crate::teachers::TorchSearch;

/// Values of alpha that are tried beside 0, the untuned network, and 1, the tuned one.
const ALPHAS: [f64; 3] = [0.25, 0.5, 0.75];

/// The images that decide have seeds from here on: apart from those that anyone samples with, and from all others of a fit.
const INTERPOLATION_SEEDS: u64 = 5 << 40;

/// Values of alpha that levels are tried at, from those that phase 1 began with (0) to the learned ones (1).
const LEVEL_ALPHAS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// Seeds of the images that choose levels.
const LEVEL_SEEDS: u64 = 6 << 40;

/// Seeds of the teacher's images that those are compared with.
pub(super) fn teacher_seeds(settings: &InterpolateSettings) -> Range<u64> {
    let first = INTERPOLATION_SEEDS + settings.images as u64;
    first..first + settings.images as u64
}

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

/// The levels that were chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChosenLevels {
    /// Euler on them.
    pub plan: Plan,
    /// Their alpha: 0 for those that phase 1 began with, 1 for the learned ones.
    pub alpha: f64,
    /// Held-out rollout error.
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
        let seeds: Vec<u64> = (LEVEL_SEEDS..LEVEL_SEEDS + self.settings.interpolate.images as u64).collect();
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
        let seeds: Vec<u64> = (INTERPOLATION_SEEDS..INTERPOLATION_SEEDS + images as u64).collect();
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

/// Schedules that an interpolation of levels evaluates.
pub(super) const SCHEDULES: usize = LEVEL_ALPHAS.len();

/// Networks that an interpolation evaluates beside the untuned one, after such a tuning.
pub(crate) fn networks(settings: &InterpolateSettings, tune: &TuneSettings) -> u64 {
    let KeptAverages { halflives_images, after } = settings.averages(tune.updates, 1.0);
    let averages = settings.last_weights(tune).len() * halflives_images.len() * after.len();
    (ALPHAS.len() + averages) as u64
}

/// Whether images of an interpolated network are at least as near as those of the untuned one; none where none were scored.
pub fn comes_nearer(points: &[InterpolationPoint]) -> Option<bool> {
    let (untuned, rest) = points.split_first()?;
    Some(rest.iter().any(|point| point.frechet <= untuned.frechet))
}

/// The interpolation points by steps and round; none where there are none.
pub fn interpolation_table<'a>(
    all: impl IntoIterator<Item = (usize, usize, &'a [InterpolationPoint])>,
) -> Option<Table> {
    let all: Vec<_> = all.into_iter().filter(|(.., points)| !points.is_empty()).collect();
    let scores = all.first().map_or(&[][..], |(.., points)| &points[0].scores);
    let of = |score: &FeatureScore| if scores.len() > 1 { format!(", {}", score.features) } else { String::new() };
    let distance = |name: String| Column::number(name, Format::Significant(4)).lowest();
    let mut columns = vec![
        Column::number("steps", Format::Integer),
        Column::number("round", Format::Integer),
        Column::number("alpha", Format::Significant(2)),
    ];
    let averaged = all.iter().flat_map(|(.., points)| *points).any(|point| point.average.is_some());
    if averaged {
        columns.push(Column::number("updates", Format::Integer));
        columns.push(Column::number("half-life, images", Format::Significant(3)));
    }
    let weighted = all.iter().flat_map(|(.., points)| *points).any(|point| last_weight(point).is_some());
    if weighted {
        columns.push(Column::number("last level's weight", Format::Significant(2)));
    }
    columns.extend(scores.iter().map(|score| distance(format!("Frechet distance{}", of(score)))));
    columns.extend(scores.iter().map(|score| distance(format!("KID to the teacher{}", of(score)))));
    columns.push(distance("rollout error".to_owned()));
    let mut table = Table::new(columns);
    for (steps, round, points) in &all {
        table.start_group();
        for point in *points {
            let InterpolationPoint { alpha, scores, rollout_error, average, .. } = point;
            let write = |value: Option<f64>| value.map_or(Cell::Missing, Cell::Number);
            let mut row: Vec<Cell> = [*steps as f64, *round as f64, *alpha].map(Cell::from).into();
            if averaged {
                row.push(write(average.map(|average| average.updates as f64)));
                row.push(write(average.map(|average| average.halflife_images)));
            }
            if weighted {
                row.push(write(last_weight(point)));
            }
            row.extend(scores.iter().map(|score| write(score.data.map(|distances| distances.frechet))));
            row.extend(scores.iter().map(|score| write(score.teacher.and_then(|distances| distances.kid))));
            row.push(Cell::from(*rollout_error));
            table.push(row);
        }
    }
    (!all.is_empty()).then_some(table)
}

fn last_weight(point: &InterpolationPoint) -> Option<f64> {
    point.average.and_then(|average| average.last_weight)
}

/// What reports say of a table of levels.
pub const LEVELS_TEXT: &str = "Levels between those that phase 1 began with (alpha 0) and the learned ones (alpha 1), interpolated in log \
    sigma. Those are taken whose images have the least Frechet distance, on seeds that nothing else sees.";

/// What reports say of a table of networks.
pub const INTERPOLATION_TEXT: &str = "Tuning lowers the error and makes images smoother. Of the averages of the tuned weights (alpha 1), and \
    of the networks w + alpha (w' - w) between the untuned one (alpha 0) and the best of them, the one is taken whose images have the \
    least Frechet distance, on seeds that nothing else sees, each with its moments matched anew where the method's name ends so.";

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
