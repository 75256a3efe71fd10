//! `gauss-newton`: levels and coefficients moved together by the normal equations of the rollout itself.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::RefineError;
use super::coordinates::{Coordinates, Moving};
use crate::execute::{execute, execute_observed};
use crate::plan::{Plan, Source};
use crate::schedule::Schedule;
use crate::search::calibration::{gathered, stretch, stretched};
use crate::search::normal::Normal;
use crate::search::pseudo_huber_constant;
use crate::search::teacher::Endpoints;
use crate::space::Samples;

/// Options of [`gauss_newton`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaussNewtonOptions {
    /// Rounds of linearising and solving, at most.
    pub rounds: usize,
    /// What may move.
    pub moving: Moving,
    /// Noise levels that the network knows; levels stay between them.
    pub sigma_range: (f64, f64),
    /// How far a coordinate is moved to see what it does: small against 1, and large against the rounding of the network.
    pub difference: f64,
    /// Whether the pseudo-Huber distance is made small in place of the squared error.
    pub robust: bool,
    /// Whether the images of plans that hold a constant image are stretched about it until they vary as the teacher's.
    pub calibrated: bool,
}

impl Default for GaussNewtonOptions {
    fn default() -> Self {
        Self {
            rounds: 3,
            moving: Moving { levels: true, coefficients: true },
            sigma_range: (f64::MIN_POSITIVE, f64::MAX),
            difference: 1e-3,
            robust: false,
            calibrated: false,
        }
    }
}

/// Ridges to choose from for every step, in units of the mean square of the normalised columns: from the last step's
/// choice on downhill, in place of Levenberg's one that is raised and lowered.
const RIDGES: [f64; 5] = [1e-5, 1e-3, 1e-2, 1e-1, 1.0];

/// Steps along the derivatives of one round: they change little on the way, and a step without new ones is cheap.
const CHORDS: usize = 3;

/// A step that gains less than this part of the error is the last.
const LEAST_GAIN: f64 = 1e-2;

/// A plan moved by [`gauss_newton`].
#[derive(Clone, Debug, PartialEq)]
pub struct Solved {
    /// The plan after the last step that made the error smaller, calibrated if asked for.
    pub plan: Plan,
    /// The judge's error before the first step and after each, before the calibration.
    pub errors: Vec<f64>,
    /// Evaluations of the denoiser, each of the whole batch, beside the judge's.
    pub evaluations: usize,
}

/// Refines a plan by rounds of Gauss and Newton's: the images' derivative along every coordinate is a difference of two
/// runs, of which the second repeats only what the coordinate has a say in; ridge regressions of what is missing on
/// these derivatives give the steps, and `judge`, such as the rollout error on other latents, says how strong the ridge
/// should be and whether a step is taken at all.
///
/// Needs no gradient of the network, and so far fewer evaluations than following one: a round takes at most about
/// `P n / 2 + 4 n` of the whole batch, `P` the coordinates of a plan of `n` evaluations (about `6 n` with fitted
/// coefficients), and 17 looks of the judge at most. Memory: `P + n` batches.
///
/// # Errors
/// If the plan is not valid, and the first error of the denoiser.
pub fn gauss_newton<V: Samples, E: Debug>(
    plan: &Plan,
    batch: &Endpoints<V>,
    judge: impl FnMut(&Plan) -> Result<f64, E>,
    options: &GaussNewtonOptions,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Solved, RefineError<E>> {
    gauss_newton_seen(plan, batch, judge, options, V::clone, denoise)
}

/// [`gauss_newton`] with errors as `view` shows them, a linear map of images; see [`crate::search::least_squares_seen`].
///
/// # Errors
/// As [`gauss_newton`].
pub fn gauss_newton_seen<V: Samples, E: Debug>(
    plan: &Plan,
    batch: &Endpoints<V>,
    mut judge: impl FnMut(&Plan) -> Result<f64, E>,
    options: &GaussNewtonOptions,
    view: impl Fn(&V) -> V,
    mut denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Solved, RefineError<E>> {
    plan.validate()?;
    let dimensions = batch.latent.norm_squared() / batch.samples.max(1) as f64;
    let softness = options.robust.then(|| pseudo_huber_constant(dimensions));
    let mut error = judge(plan).map_err(RefineError::Denoiser)?;
    let mut solved = Solved { plan: plan.clone(), errors: vec![error], evaluations: 0 };
    let mut image: Option<V> = None;
    let mut ridge = RIDGES.len() / 2;
    for _ in 0..options.rounds {
        let now = solved.plan.clone();
        let falling = Schedule::new(now.sigmas()).is_ok();
        let coordinates = Coordinates { plan: &now, moving: options.moving };
        let jacobian = Jacobian::measure(&coordinates, batch, options, &view, &mut denoise)?;
        solved.evaluations += jacobian.evaluations;
        let normal = Normal::new(&jacobian.columns, softness);
        let (mut place, mut missing) = (coordinates.encode(), view(&batch.image.difference(&jacobian.image)));
        let steps_before = solved.errors.len();
        for _ in 0..CHORDS {
            let step = |ridge: usize| {
                let step = normal.fit(&missing, RIDGES[ridge]).solution;
                let to = place.iter().zip(step).zip(&jacobian.units).map(|((from, step), unit)| from + step * unit);
                let to: Vec<f64> = to.collect();
                let plan = coordinates.decode(&to, options.sigma_range);
                // levels that fall must go on falling: exports and tuning need a schedule
                let crossed = falling && Schedule::new(plan.sigmas()).is_err();
                let sane = !crossed && plan.validate().is_ok();
                let judged = if sane { judge(&plan)? } else { f64::INFINITY };
                Ok((if judged.is_nan() { f64::INFINITY } else { judged }, to, plan))
            };
            let (best, (least, to, candidate)) = downhill(ridge, RIDGES.len(), step).map_err(RefineError::Denoiser)?;
            ridge = best;
            if least >= (1.0 - LEAST_GAIN) * error {
                break;
            }
            let made = execute(&candidate, batch.start(), &mut denoise).map_err(RefineError::Denoiser)?;
            solved.evaluations += candidate.nfe();
            (error, place, missing) = (least, to, view(&batch.image.difference(&made)));
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
        if options.calibrated {
            calibrate(plan, batch, &image, view);
        }
        let calibrated_error = judge(plan).map_err(RefineError::Denoiser)?;
        let found_by = serde_json::json!({
            "by": "gauss_newton", "robust": options.robust, "moving": options.moving,
            "calibrated": options.calibrated, "samples": batch.samples, "evaluations": solved.evaluations,
            "judged_before": solved.errors[0], "judged": solved.errors.last(),
            "judged_calibrated": calibrated_error,
        });
        plan.metadata.found_by.insert("refined".into(), found_by);
    }
    Ok(solved)
}

/// A minimum among `count` candidates in a row, which are made as needed: from `start` on towards its better neighbour; the
/// later ones first, and past those whose error is infinite. Returns its index and what was made.
fn downhill<T, U, E>(
    start: usize,
    count: usize,
    mut make: impl FnMut(usize) -> Result<(f64, T, U), E>,
) -> Result<(usize, (f64, T, U)), E> {
    let (mut at, mut best) = (start, make(start)?);
    let (mut least_tried, mut most_tried) = (start, start);
    loop {
        let next = if at == most_tried && most_tried + 1 < count {
            most_tried + 1
        } else if at == least_tried && least_tried > 0 {
            least_tried - 1
        } else {
            return Ok((at, best));
        };
        (least_tried, most_tried) = (least_tried.min(next), most_tried.max(next));
        let made = make(next)?;
        if made.0 < best.0 || (best.0.is_infinite() && next > at) {
            (at, best) = (next, made);
        }
    }
}

/// The images of a plan and their derivatives.
struct Jacobian<V> {
    image: V,
    /// Along every coordinate, of unit norm.
    columns: Vec<V>,
    /// How far along the coordinate a step of one column goes; 0 for a coordinate that does nothing.
    units: Vec<f64>,
    evaluations: usize,
}

impl<V: Samples> Jacobian<V> {
    fn measure<E>(
        coordinates: &Coordinates,
        batch: &Endpoints<V>,
        options: &GaussNewtonOptions,
        view: &impl Fn(&V) -> V,
        mut denoise: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<Self, RefineError<E>> {
        let plan = coordinates.plan;
        let mut outputs = Vec::with_capacity(plan.nfe());
        let keep = |_: usize, _: &V, d: &V| outputs.push(d.clone());
        let image = execute_observed(plan, batch.start(), &mut denoise, keep).map_err(RefineError::Denoiser)?;
        let (place, mut evaluations) = (coordinates.encode(), plan.nfe());
        let (mut columns, mut units) = (Vec::with_capacity(place.len()), Vec::with_capacity(place.len()));
        for (i, first) in coordinates.stages().into_iter().enumerate() {
            let mut moved = place.clone();
            // a level at the upper end of the range stays there: its derivative comes out as 0
            moved[i] += options.difference;
            let moved = coordinates.decode(&moved, options.sigma_range);
            moved.validate()?;
            // what comes before the coordinate has a say is as it was
            let mut known = outputs.iter().take(first);
            let shifted = execute(&moved, batch.start(), |x: &V, sigma| match known.next() {
                Some(output) => Ok(output.clone()),
                None => denoise(x, sigma),
            });
            evaluations += plan.nfe() - first;
            let change = view(&shifted.map_err(RefineError::Denoiser)?.difference(&image));
            let length = change.norm_squared().sqrt();
            let (unit, change) = if length.is_finite() && length > 0.0 {
                (1.0 / length, change)
            } else {
                (0.0, view(&batch.image)) // 0 times what is not finite would not be 0
            };
            columns.push(V::combine(&[(unit, &change)]));
            units.push(unit * options.difference);
        }
        Ok(Self { image, columns, units, evaluations })
    }
}

/// Stretches the plan's `image` about the constant image, if it holds one, until it varies as the teacher's.
fn calibrate<V: Samples>(plan: &mut Plan, batch: &Endpoints<V>, image: &V, view: impl Fn(&V) -> V) {
    let Some(held) = batch.held.as_ref().filter(|_| plan.uses(Source::Constant)) else { return };
    let about = |image: &V| view(&image.difference(&held.batch));
    if let Some(k) = stretch(&about(image), &about(&batch.image)) {
        plan.output = gathered(stretched(plan.output.terms().collect(), k));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downhill_finds_the_minimum_of_a_row_and_tries_few() {
        for (errors, start, found, tries) in [
            ([5.0, 4.0, 3.0, 2.0, 1.0], 2, 4, 3),
            ([1.0, 2.0, 3.0, 4.0, 5.0], 2, 0, 4),
            ([5.0, 4.0, 3.0, 4.0, 5.0], 2, 2, 3),
            ([f64::INFINITY, f64::INFINITY, f64::INFINITY, 2.0, 3.0], 1, 3, 4),
            ([f64::INFINITY; 5], 0, 4, 5),
            ([1.0, f64::INFINITY, 3.0, 4.0, 5.0], 4, 2, 4),
        ] {
            let mut tried = 0;
            let make = |index: usize| {
                tried += 1;
                Ok::<_, ()>((errors[index], index, ()))
            };
            let (at, (error, index, ())) = downhill(start, 5, make).unwrap();
            assert_eq!((at, index, tried), (found, found, tries), "{errors:?} from {start}");
            assert_eq!(error, errors[found]);
        }
    }
}
