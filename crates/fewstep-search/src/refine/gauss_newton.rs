//! `gauss-newton`: levels and coefficients moved together by the normal equations of the rollout itself.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::RefineError;
use super::coordinates::{Coordinates, Moving};
use crate::match_variance::{gathered, stretch, stretched};
use crate::normal::Normal;
use crate::pseudo_huber_constant;
use crate::teacher::Endpoints;
use fewstep_core::execute::{Run, execute_observed, execute_together};
use fewstep_core::plan::{Plan, Source};
use fewstep_core::schedule::Schedule;
use fewstep_core::space::Samples;

/// Options of [`gauss_newton`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaussNewtonOptions {
    /// Rounds of linearising and solving, at most.
    pub rounds: usize,
    /// What may move.
    pub moving: Moving,
    /// Of the coefficients of outputs, those of so many combinations at the end move, the image's counted; of the others,
    /// those of states and constant images alone. Outputs differ little, so of a step what counts most is its level and how
    /// much noise it keeps; and a coefficient is the dearer to differentiate the earlier it is.
    pub whole: usize,
    /// Noise levels that the network knows; levels stay between them.
    pub sigma_range: (f64, f64),
    /// How far a coordinate is moved to measure what it does: small against 1, and large against the rounding of the network.
    pub difference: f64,
    /// Whether the pseudo-Huber distance is made small in place of the squared error.
    pub robust: bool,
    /// Whether the images of plans that hold a constant image are stretched about it until they vary as the teacher's.
    pub match_variance: bool,
}

impl Default for GaussNewtonOptions {
    fn default() -> Self {
        Self {
            rounds: 3,
            moving: Moving { levels: true, coefficients: true },
            whole: usize::MAX,
            sigma_range: (f64::MIN_POSITIVE, f64::MAX),
            difference: 1e-2,
            robust: false,
            match_variance: false,
        }
    }
}

/// Ridges to choose from for every step, in units of the mean square of the normalised columns: what cross-validation
/// says, or the first with a smaller held-out error of stronger ones and then of weaker ones, in place of Levenberg's one that is raised and lowered.
const RIDGES: [f64; 5] = [1e-5, 1e-3, 1e-2, 1e-1, 1.0];

/// Steps along the derivatives of one round: they change little on the way, and a step without new ones is cheap.
const CHORDS: usize = 3;

/// A step that gains less than this part of the error is the last.
const LEAST_GAIN: f64 = 1e-2;

/// A plan moved by [`gauss_newton`].
#[derive(Clone, Debug, PartialEq)]
pub struct Solved {
    /// The plan after the last step that made the error smaller, its variance matched if asked for.
    pub plan: Plan,
    /// The held-out error before the first step and after each, before the variance is matched.
    pub errors: Vec<f64>,
    /// Evaluations of the denoiser, each of the whole batch, beside those of `held_out`.
    pub evaluations: usize,
}

/// Columns of a Jacobian that are measured at once.
const TOGETHER: usize = 8;

/// Refines a plan by rounds of Gauss and Newton's: the images' derivative along every coordinate is a difference of two
/// runs, of which the second repeats only what the coordinate has a say in; ridge regressions of what is missing on
/// these derivatives give the steps. Cross-validation among the samples says how strong the ridge should be, and `held_out`,
/// such as the rollout error on other latents, whether a step is taken at all: derivatives do not hold for long ones.
///
/// Needs no gradient of the network, and so far fewer evaluations than following one: a round takes at most about
/// `P n / 2 + 4 n` of the whole batch, `P` the coordinates that move (of a fitted plan of `n` evaluations about `6 n`, or
/// `2 n + 10` with [`GaussNewtonOptions::whole`] 2), and 11 held-out errors at most, 3 where every step is taken, beside
/// one before the first round. Memory: `P + 17 n` batches.
///
/// `denoise` evaluates several inputs at once; see [`execute_together`], also for when it panics.
///
/// # Errors
/// If the plan is not valid, and the first error of the denoiser.
pub fn gauss_newton<V: Samples, E: Debug>(
    plan: &Plan,
    batch: &Endpoints<V>,
    held_out: impl FnMut(&Plan) -> Result<f64, E>,
    options: &GaussNewtonOptions,
    denoise: impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E>,
) -> Result<Solved, RefineError<E>> {
    gauss_newton_in(plan, batch, held_out, options, V::clone, denoise)
}

/// [`gauss_newton`] with errors in another space, by a linear map of images; see [`crate::least_squares_in`].
///
/// # Errors
/// As [`gauss_newton`].
pub fn gauss_newton_in<V: Samples, E: Debug>(
    plan: &Plan,
    batch: &Endpoints<V>,
    mut held_out: impl FnMut(&Plan) -> Result<f64, E>,
    options: &GaussNewtonOptions,
    space: impl Fn(&V) -> V,
    mut denoise: impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E>,
) -> Result<Solved, RefineError<E>> {
    plan.validate()?;
    let dimensions = batch.latent.norm_squared() / batch.samples.max(1) as f64;
    let softness = options.robust.then(|| pseudo_huber_constant(dimensions));
    let mut error = held_out(plan).map_err(RefineError::Denoiser)?;
    let mut solved = Solved { plan: plan.clone(), errors: vec![error], evaluations: 0 };
    let mut image: Option<V> = None;
    for _ in 0..options.rounds {
        let now = solved.plan.clone();
        let falling = Schedule::new(now.sigmas()).is_ok();
        let coordinates = Coordinates { plan: &now, moving: options.moving };
        let jacobian = Jacobian::measure(&coordinates, batch, options, &space, &mut denoise)?;
        solved.evaluations += jacobian.evaluations;
        let normal = Normal::new(&jacobian.columns, softness);
        let (mut place, mut missing) = (coordinates.encode(), space(&batch.image.difference(&jacobian.image)));
        let steps_before = solved.errors.len();
        for _ in 0..CHORDS {
            let likeliest = normal.cross_validated(&missing, &RIDGES);
            let mut better = None;
            let (weaker, stronger) = RIDGES.split_at(likeliest);
            let (count, back) = if solved.errors.len() == steps_before {
                (RIDGES.len(), RIDGES.len())
            } else {
                (2, 1) // what is left to gain is not worth more evaluations
            };
            let tries = stronger.iter().take(count).chain(weaker.iter().rev().take(back));
            for ridge in tries {
                let step = normal.fit(&missing, *ridge).solution;
                let mut to = place.clone();
                for (step, (index, unit)) in step.iter().zip(&jacobian.units) {
                    to[*index] += step * unit;
                }
                let plan = coordinates.decode(&to, options.sigma_range);
                // levels that fall must go on falling: exports and tuning need a schedule
                let crossed = falling && Schedule::new(plan.sigmas()).is_err();
                if crossed || plan.validate().is_err() {
                    continue;
                }
                let candidate_error = held_out(&plan).map_err(RefineError::Denoiser)?;
                if candidate_error < (1.0 - LEAST_GAIN) * error {
                    better = Some((candidate_error, to, plan));
                    break;
                }
            }
            let Some((candidate_error, to, candidate)) = better else { break };
            let run = Run { plan: &candidate, start: batch.start(), known: &[] };
            let made = execute_together(&[run], &mut denoise).map_err(RefineError::Denoiser)?.remove(0);
            solved.evaluations += candidate.nfe();
            (error, place, missing) = (candidate_error, to, space(&batch.image.difference(&made)));
            solved.errors.push(error);
            (solved.plan, image) = (candidate, Some(made));
        }
        if solved.errors.len() == steps_before {
            break;
        }
    }
    if let Some(image) = image {
        let plan = &mut solved.plan;
        plan.schedule = Schedule::new(plan.sigmas()).ok();
        if options.match_variance {
            match_variance(plan, batch, &image, space);
        }
        let found_by = serde_json::json!({
            "by": "gauss_newton", "robust": options.robust, "moving": options.moving,
            "whole": options.whole, "match_variance": options.match_variance, "samples": batch.samples, "evaluations": solved.evaluations,
            "held_out_error_before": solved.errors[0], "held_out_error": solved.errors.last(),
        });
        plan.metadata.found_by.insert("refined".into(), found_by);
    }
    Ok(solved)
}

/// A plan with one coordinate moved.
struct Moved {
    coordinate: usize,
    /// How far.
    difference: f64,
    /// The first stage that the coordinate has a say in.
    first: usize,
    plan: Plan,
}

/// The images of a plan and their derivatives.
struct Jacobian<V> {
    image: V,
    /// Along every coordinate that moves, of unit norm.
    columns: Vec<V>,
    /// The coordinate of each column, and how far along it a step of one column goes; 0 where it does nothing.
    units: Vec<(usize, f64)>,
    evaluations: usize,
}

impl<V: Samples> Jacobian<V> {
    fn measure<E>(
        coordinates: &Coordinates,
        batch: &Endpoints<V>,
        options: &GaussNewtonOptions,
        space: &impl Fn(&V) -> V,
        mut denoise: impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E>,
    ) -> Result<Self, RefineError<E>> {
        let plan = coordinates.plan;
        let mut outputs = Vec::with_capacity(plan.nfe());
        let keep = |_: usize, _: &V, d: &V| outputs.push(d.clone());
        let alone = |x: &V, sigma: f64| denoise(&[(x, sigma)]).map(|mut outputs| outputs.remove(0));
        let image = execute_observed(plan, batch.start(), alone, keep).map_err(RefineError::Denoiser)?;
        let (place, mut evaluations) = (coordinates.encode(), plan.nfe());
        let here = coordinates.decode(&place, options.sigma_range);
        let mut moving = Vec::with_capacity(place.len());
        for ((i, first), moves) in coordinates.stages().into_iter().enumerate().zip(coordinates.moves(options.whole)) {
            // the image is linear in its own coefficients: a difference of any length is its derivative, and rounds the less
            let difference = if first == plan.nfe() { 1.0 } else { options.difference };
            let mut moved = place.clone();
            moved[i] += difference;
            let moved = coordinates.decode(&moved, options.sigma_range);
            // a level at the upper end of the range stays there
            if moves && (moved.stages != here.stages || moved.output != here.output) {
                moved.validate()?;
                moving.push(Moved { coordinate: i, difference, first, plan: moved });
            }
        }
        // in order of the stages, so that those measured at once repeat about the same ones
        moving.sort_by_key(|moved| moved.first);
        let (mut columns, mut units) = (Vec::with_capacity(moving.len()), Vec::with_capacity(moving.len()));
        for moving in moving.chunks(TOGETHER) {
            // what comes before a coordinate has a say is as it was
            let runs: Vec<Run<V>> = moving
                .iter()
                .map(|moved| Run { plan: &moved.plan, start: batch.start(), known: &outputs[..moved.first] })
                .collect();
            evaluations += moving.iter().map(|moved| plan.nfe() - moved.first).sum::<usize>();
            let shifted = execute_together(&runs, &mut denoise).map_err(RefineError::Denoiser)?;
            for (moved, shifted) in moving.iter().zip(shifted) {
                let change = space(&shifted.difference(&image));
                let length = change.norm_squared().sqrt();
                let (unit, change) = if length.is_finite() && length > 0.0 {
                    (1.0 / length, change)
                } else {
                    (0.0, space(&batch.image)) // 0 times what is not finite would not be 0
                };
                columns.push(V::combine(&[(unit, &change)]));
                units.push((moved.coordinate, unit * moved.difference));
            }
        }
        Ok(Self { image, columns, units, evaluations })
    }
}

/// Stretches the plan's `image` about the constant image, if it holds one, until it varies as the teacher's.
fn match_variance<V: Samples>(plan: &mut Plan, batch: &Endpoints<V>, image: &V, space: impl Fn(&V) -> V) {
    let Some(mean) = batch.mean.as_ref().filter(|_| plan.uses(Source::Constant)) else { return };
    let about = |image: &V| space(&image.difference(&mean.batch));
    if let Some(k) = stretch(&about(image), &about(&batch.image)) {
        plan.output = gathered(stretched(plan.output.terms().collect(), k));
    }
}
