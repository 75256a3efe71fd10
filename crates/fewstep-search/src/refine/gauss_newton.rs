//! `gauss-newton`: levels and coefficients moved together by the normal equations of the rollout itself.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::coordinates::{Coordinates, Moving};
use super::{RefineError, check_range};
use crate::match_variance::{gathered, stretch, stretched};
use crate::normal::Normal;
use crate::pseudo_huber_constant;
use crate::teacher::Endpoints;
use fewstep_core::execute::{ExecuteError, Run, execute_observed, execute_together};
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
    /// A step is taken if it takes at least this part of the held-out error away.
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
pub(crate) const MOST_TRIES: usize = 2 + RIDGES.len();

/// Steps along the derivatives of one round: they change little on the way, and a step without new ones is cheap.
const CHORDS: usize = 2;

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

/// A level that an end of the range stops before this part of [`GaussNewtonOptions::difference`] is held there. Logarithms round, so that a
/// level at an end may be a last digit away from it, and a difference over that is rounding alone.
const LEAST_OF_DIFFERENCE: f64 = 0.1;

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
            let Some(best) = best.filter(|best| best.error < (1.0 - options.least_gain) * error) else { break };
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

/// A coordinate with the plans that its derivative is measured between.
struct Moved {
    coordinate: usize,
    /// The first stage that the coordinate has a say in.
    first: usize,
    /// With the coordinate moved up.
    up: Plan,
    /// With it moved down; without one, the derivative is measured from the plan itself.
    down: Option<Plan>,
    /// How far the plans are from one another.
    distance: f64,
}

impl Moved {
    fn plans(&self) -> impl Iterator<Item = &Plan> {
        [&self.up].into_iter().chain(&self.down)
    }
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

impl<V> Jacobian<V> {
    /// A place moved by `solution`, a number for each column.
    fn moved(&self, place: &[f64], solution: &[f64]) -> Vec<f64> {
        let mut to = place.to_vec();
        for (step, (index, unit)) in solution.iter().zip(&self.units) {
            to[*index] += step * unit;
        }
        to
    }
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
        let alone = |x: &V, sigma: f64| denoise(&[(x, sigma)]).map_err(Some)?.pop().ok_or(None);
        let image = match execute_observed(plan, batch.start(), alone, keep).map_err(ExecuteError::into_denoiser) {
            Ok(image) => image,
            Err(Ok(Some(error))) => return Err(RefineError::Denoiser(error)),
            Err(Ok(None)) => return Err(RefineError::of_run(ExecuteError::Answers { asked: 1, answered: 0 })),
            Err(Err(error)) => return Err(RefineError::of_run(error)),
        };
        let (place, mut evaluations) = (coordinates.encode(), plan.nfe());
        let here = coordinates.decode(&place, options.sigma_range);
        let mut moving = Vec::with_capacity(place.len());
        for ((coordinate, first), moves) in
            coordinates.stages().into_iter().enumerate().zip(coordinates.moves(options.whole, options.first_state))
        {
            // the plan with the coordinate moved, and how far
            let at = |difference: f64| {
                let mut to = place.clone();
                to[coordinate] += difference;
                let moved = coordinates.decode(&to, options.sigma_range);
                let changed = moved.stages != here.stages || moved.output != here.output;
                let reach = coordinates.reach(coordinate, difference, [&here, &moved], options.sigma_range);
                // a level at an end of the range stays there
                (changed && reach >= LEAST_OF_DIFFERENCE * difference.abs()).then_some((moved, reach))
            };
            // the image is linear in its own coefficients: a difference of any length is its derivative, and rounds the less
            let linear = first == plan.nfe();
            let difference = if linear { 1.0 } else { options.difference };
            if let Some((up, above)) = at(difference).filter(|_| moves) {
                up.validate()?;
                let down = if options.central && !linear { at(-difference) } else { None };
                let down = down.filter(|(down, _)| down.validate().is_ok());
                let distance = above + down.as_ref().map_or(0.0, |(_, below)| *below);
                moving.push(Moved { coordinate, first, up, down: down.map(|(down, _)| down), distance });
            }
        }
        // in order of the stages, so that those measured at once repeat about the same ones
        moving.sort_by_key(|moved| moved.first);
        let (mut columns, mut units) = (Vec::with_capacity(moving.len()), Vec::with_capacity(moving.len()));
        for moving in moving.chunks(if options.central { TOGETHER / 2 } else { TOGETHER }) {
            // what comes before a coordinate has a say is as it was
            let runs: Vec<Run<V>> = moving
                .iter()
                .flat_map(|moved| moved.plans().map(|plan| (plan, &outputs[..moved.first])))
                .map(|(plan, known)| Run { plan, start: batch.start(), known })
                .collect();
            evaluations += runs.iter().map(|run| plan.nfe() - run.known.len()).sum::<usize>();
            let mut made = execute_together(&runs, &mut denoise)?.into_iter();
            for moved in moving {
                let (up, down) = (made.next(), moved.down.as_ref().and_then(|_| made.next()));
                let Some(up) = up else { break };
                let change = space(&up.difference(down.as_ref().unwrap_or(&image)));
                let length = change.norm_squared().sqrt();
                let (unit, change) = if length.is_finite() && length > 0.0 {
                    (1.0 / length, change)
                } else {
                    (0.0, space(&batch.image)) // 0 times what is not finite would not be 0
                };
                columns.push(V::combine(&[(unit, &change)]));
                units.push((moved.coordinate, unit * moved.distance));
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

#[cfg(test)]
mod tests {
    use fewstep_core::execute::one_by_one;
    use fewstep_core::schedule::karras;
    use fewstep_core::solver::{Solver, SolverOptions};

    use super::*;

    /// How far along each level a step of one column goes, for levels from 0.1 to 10 in this range; none of a level that is held.
    fn units(central: bool, sigma_range: (f64, f64)) -> [Option<f64>; 3] {
        let plan = Solver::Euler.plan(&karras(3, 0.1, 10.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let coordinates = Coordinates { plan: &plan, moving: Moving { levels: true, coefficients: false } };
        let batch = Endpoints { latent: vec![1.0, -0.5], mean: None, image: vec![0.0; 2], samples: 1 };
        let options = GaussNewtonOptions { central, sigma_range, ..GaussNewtonOptions::default() };
        let denoise = |x: &Vec<f64>, sigma: f64| {
            Ok::<_, std::convert::Infallible>(x.iter().map(|x| (x / (1.0 + sigma)).sin()).collect())
        };
        let measured = Jacobian::measure(&coordinates, &batch, &options, &Vec::clone, one_by_one(denoise)).unwrap();
        let of =
            |level: usize| measured.units.iter().find(|(coordinate, _)| *coordinate == level).map(|(_, unit)| *unit);
        [0, 1, 2].map(of)
    }

    /// A move that an end of the range cuts short has the derivative of a whole one, and a level at an end stays there, whatever the last
    /// digits of both are.
    #[test]
    fn moves_that_are_cut_short_are_measured_as_far_as_they_go() {
        let whole = |central: bool| units(central, (1e-3, 1e3)).map(Option::unwrap);
        let close = |a: Option<f64>, b: f64| a.is_some_and(|a| (a / b - 1.0).abs() < 0.05);
        let half = 0.5 * GaussNewtonOptions::default().difference;
        for central in [false, true] {
            let [first, middle, last] = whole(central);
            let cut = units(central, (0.1 * (-half).exp(), 10.0 * half.exp()));
            assert!(close(cut[0], first) && cut[1] == Some(middle) && close(cut[2], last), "{central}: {cut:?}");
            for away in -4_i64..=4 {
                let ulps = |end: f64| f64::from_bits(end.to_bits().wrapping_add_signed(away));
                let at_ends = units(central, (ulps(0.1), ulps(10.0)));
                assert!(at_ends[0].is_none() && close(at_ends[2], last), "{central} {away}: {at_ends:?}");
            }
        }
    }

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
