//! `gauss-newton`: levels and coefficients moved together by the normal equations of the rollout itself.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::coordinates::{Coordinates, Moving};
use super::jacobian::{Jacobian, jacobian_evaluations};
use super::{RefineError, check_range};
use crate::gain::any_loss_is_borne;
use crate::match_variance::{gathered, stretch, stretched};
use crate::normal::Normal;
use crate::pseudo_huber_constant;
use crate::teacher::Endpoints;
use fewstep_core::execute::{ExecuteError, Run, execute_together};
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
    /// Whether the first state moves: its level, and how much noise it has.
    pub first_state: bool,
    /// Noise levels that the network knows; levels stay between them.
    pub sigma_range: (f64, f64),
    /// How far a coordinate is moved to measure what it does: small against 1, and large against the rounding of the network.
    pub difference: f64,
    /// A step is taken if it takes at least this part of the held-out error away; with [`f64::MIN`] every step to a finite error is.
    pub least_gain: f64,
    /// Whether it is moved both ways: images bend the more along a coordinate the fewer evaluations there are.
    pub central: bool,
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
            first_state: true,
            sigma_range: (f64::MIN_POSITIVE, f64::MAX),
            difference: 1e-2,
            least_gain: 1e-2,
            central: false,
            robust: false,
            match_variance: false,
        }
    }
}

/// Ridges to choose from for every step, in units of the mean square of the normalised columns.
const RIDGES: [f64; 4] = [1e-3, 1e-2, 1e-1, 1.0];

/// The ridge, of [`RIDGES`], that a round's first step tries first.
const FIRST: usize = 1;

/// Ridges that the steps of one round try at most: two of the first, of which the weaker is better, and all of the second; or four
/// of the first and two of the second.
const MOST_TRIES: usize = 2 + RIDGES.len();

/// Steps along the derivatives of one round: they change little on the way, and a step without new ones is cheap.
const CHORDS: usize = 2;

impl GaussNewtonOptions {
    /// Evaluations that a refinement of `plan` takes at most, each of the whole batch that is fitted; second, those of the held-out errors,
    /// each of the whole batch that decides. Every round measures the derivatives, takes all its steps, and tries as many ridges as it may.
    pub(crate) fn most_evaluations(&self, plan: &Plan) -> (usize, usize) {
        let round = jacobian_evaluations(plan, self) + CHORDS * plan.nfe();
        (self.rounds.saturating_mul(round), plan.nfe() * (1 + MOST_TRIES.saturating_mul(self.rounds)))
    }

    /// Whether a step from the held-out error `before` to `after` is one to take.
    fn takes(&self, before: f64, after: f64) -> bool {
        if any_loss_is_borne(self.least_gain) {
            return after.is_finite();
        }
        let most = (1.0 - self.least_gain) * before;
        // what bears a loss bears none, too, which is all that an error of 0 has
        if self.least_gain < 0.0 { after <= most } else { after < most }
    }
}

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

/// Refines a plan by rounds of Gauss and Newton's: the images' derivative along every coordinate is a difference of two
/// runs, of which the second repeats only what the coordinate has a say in; ridge regressions of what is missing on
/// these derivatives give the steps. `held_out`, an error on other latents, says how strong the ridge should be and whether a
/// step is taken at all: derivatives do not hold for long ones. The few samples that end far from the teacher's rule a
/// squared error, so a mean distance decides best ([`Endpoints::mean_distance`]).
///
/// Needs no gradient of the network, and so far fewer evaluations than following one: a round takes at most about
/// `P n / 2 + 4 n` of the whole batch, `P` the coordinates that move (of a fitted plan of `n` evaluations about `6 n`, or
/// `2 n + 10` with [`GaussNewtonOptions::whole`] 2; twice as many with [`GaussNewtonOptions::central`]), and 6 held-out
/// errors at most, beside one before the first round. Memory: `P + 17 n` batches.
///
/// `denoise` evaluates several inputs at once; see [`execute_together`].
///
/// # Errors
/// As [`execute_together`], and if the range of levels holds none.
pub fn gauss_newton<V: Samples, E: Debug>(
    plan: &Plan,
    batch: &Endpoints<V>,
    held_out: impl FnMut(&Plan) -> Result<f64, ExecuteError<E>>,
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
    mut held_out: impl FnMut(&Plan) -> Result<f64, ExecuteError<E>>,
    options: &GaussNewtonOptions,
    space: impl Fn(&V) -> V,
    mut denoise: impl FnMut(&[(&V, f64)]) -> Result<Vec<V>, E>,
) -> Result<Solved, RefineError<E>> {
    plan.validate()?;
    check_range(options.sigma_range)?;
    let dimensions = batch.latent.norm_squared() / batch.samples.max(1) as f64;
    let softness = options.robust.then(|| pseudo_huber_constant(dimensions));
    let mut error = held_out(plan)?;
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
        let mut ridge = FIRST;
        for chord in 0..CHORDS {
            let step = |ridge: usize| -> Result<Option<Step>, RefineError<E>> {
                let to = jacobian.moved(&place, &normal.fit(&missing, RIDGES[ridge]).solution);
                let plan = coordinates.decode(&to, options.sigma_range);
                // levels that fall must go on falling: exports and tuning need a schedule
                let crossed = falling && Schedule::new(plan.sigmas()).is_err();
                if crossed || plan.validate().is_err() {
                    return Ok(None);
                }
                let error = held_out(&plan)?;
                Ok(Some(Step { ridge, error, to, plan }))
            };
            let best = best_step(ridge, chord == 0, step)?;
            let Some(best) = best.filter(|best| options.takes(error, best.error)) else { break };
            let run = Run { plan: &best.plan, start: batch.start(), known: &[] };
            let made = execute_together(&[run], &mut denoise)?.remove(0);
            solved.evaluations += best.plan.nfe();
            (ridge, error, place) = (best.ridge, best.error, best.to);
            missing = space(&batch.image.difference(&made));
            solved.errors.push(error);
            (solved.plan, image) = (best.plan, Some(made));
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
            "deciding_error_before": solved.errors[0], "deciding_error": solved.errors.last(),
        });
        plan.metadata.found_by.insert("refined".into(), found_by);
    }
    Ok(solved)
}

/// A step that was tried.
struct Step {
    /// The index of its ridge.
    ridge: usize,
    /// The held-out error after it.
    error: f64,
    /// Where it leads.
    to: Vec<f64>,
    plan: Plan,
}

/// The best of the steps with the ridge `from` and those beside it: the next weaker one if `weaker` ones may be tried, or else
/// stronger ones for as long as each is better than the one before. `step` has none where the plan would not be valid, as of ridges
/// that are too weak.
fn best_step<E>(
    from: usize,
    weaker: bool,
    mut step: impl FnMut(usize) -> Result<Option<Step>, E>,
) -> Result<Option<Step>, E> {
    let mut best = step(from)?;
    if let (true, Some(first), Some(weaker)) = (weaker, &best, from.checked_sub(1))
        && let Some(found) = step(weaker)?.filter(|found| found.error < first.error)
    {
        return Ok(Some(found));
    }
    for stronger in from + 1..RIDGES.len() {
        match (step(stronger)?, &best) {
            (Some(found), Some(before)) if found.error < before.error || before.error.is_nan() => best = Some(found),
            (found, None) => best = found,
            _ => break,
        }
    }
    Ok(best)
}

/// Stretches the plan's `image` about the constant image, if it holds one, until it varies as the teacher's.
fn match_variance<V: Samples>(plan: &mut Plan, batch: &Endpoints<V>, image: &V, space: impl Fn(&V) -> V) {
    let Some(mean) = batch.mean.as_ref().filter(|_| plan.uses(Source::Constant)) else { return };
    let about = |image: &V| space(&image.difference(&mean.batch));
    if let Some(k) = stretch(&about(image), &about(&batch.image)) {
        plan.output = gathered(stretched(plan.output.terms().collect(), k));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which ridges are tried from `from`, and which is the best; `errors` has none where a plan would not be valid.
    fn search(from: usize, weaker: bool, errors: [Option<f64>; RIDGES.len()]) -> (Vec<usize>, Option<usize>) {
        let mut tried = Vec::new();
        let step = |ridge: usize| -> Result<_, std::convert::Infallible> {
            tried.push(ridge);
            Ok(errors[ridge].map(|error| Step { ridge, error, to: Vec::new(), plan: Plan::default() }))
        };
        let best = best_step(from, weaker, step).unwrap();
        (tried, best.map(|step| step.ridge))
    }

    /// A share of an error of 0 is 0: what bears no loss needs less than that, what bears one is content with that, and what bears all
    /// takes anything finite.
    #[test]
    fn steps_are_taken_that_gain_enough() {
        let takes = |least_gain: f64, before: f64, after: f64| {
            GaussNewtonOptions { least_gain, ..GaussNewtonOptions::default() }.takes(before, after)
        };
        for (least_gain, before, taken, refused) in [
            (0.1, 1.0, 0.89, 0.9),
            (0.0, 1.0, 0.99, 1.0),
            (-0.5, 1.0, 1.5, 1.51),
            (-0.5, 0.0, 0.0, 1e-300),
            (f64::MIN, 0.0, 1e300, f64::INFINITY),
            (f64::MIN, 1e-310, 1e300, f64::NAN),
        ] {
            assert!(takes(least_gain, before, taken), "{least_gain}: {before} to {taken}");
            assert!(!takes(least_gain, before, refused), "{least_gain}: {before} to {refused}");
        }
        assert!(!takes(0.1, 0.0, 0.0) && !takes(0.0, 0.0, 0.0));
    }

    #[test]
    fn ridges_are_tried_while_they_gain() {
        let errors = [Some(0.9), Some(0.8), Some(0.7), Some(0.75)];
        assert_eq!(search(1, true, errors), (vec![1, 0, 2, 3], Some(2)));
        assert_eq!(search(1, false, errors), (vec![1, 2, 3], Some(2)));
        assert_eq!(search(3, false, errors), (vec![3], Some(3)));
        // a weaker one that is better ends the search
        assert_eq!(search(1, true, [Some(0.6), Some(0.8), Some(0.1), None]), (vec![1, 0], Some(0)));
        assert_eq!(search(1, true, [Some(0.9), Some(0.8), Some(0.85), Some(0.1)]), (vec![1, 0, 2], Some(1)));
        assert_eq!(search(0, true, [Some(0.5), Some(0.6), None, None]), (vec![0, 1], Some(0)));
        // what is not valid with a ridge is less so with a weaker one
        assert_eq!(search(1, true, [Some(0.1), None, None, Some(0.5)]), (vec![1, 2, 3], Some(3)));
        assert_eq!(search(1, true, [None; 4]), (vec![1, 2, 3], None));
        // errors that are no numbers are never the best
        assert_eq!(search(1, true, [Some(f64::NAN), Some(0.5), Some(f64::NAN), None]).1, Some(1));
        assert_eq!(search(1, false, [None, Some(f64::NAN), Some(0.5), Some(0.6)]).1, Some(2));
    }
}
