//! `refit_output`: the combination that makes a plan's images, fitted to a distance between sets of images.

use serde::{Deserialize, Serialize};

use super::RefineError;
use crate::execute::{Start, execute_observed};
use crate::optimise::{Adam, cosine};
use crate::plan::{Combination, Plan, Source};
use crate::search::ridge::{backward, factor, forward};
use crate::space::VectorSpace;

/// Options of [`refit_output`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefitOptions {
    /// What the squared error counts beside the distance, both in units of what they are before: 0 forgets which image
    /// belongs to which latent, a large one moves nothing.
    pub error_weight: f64,
    /// Times that the distance is looked at and made small near by.
    pub rounds: usize,
    /// Steps of Adam in every round.
    pub steps: usize,
    /// Adam's step at the start of a round, in units of the squared error's root; it falls to zero along a cosine.
    pub learning_rate: f64,
}

impl Default for RefitOptions {
    fn default() -> Self {
        Self { error_weight: 0.3, rounds: 6, steps: 60, learning_rate: 0.1 }
    }
}

/// The images of a plan and what they are combined of, for one batch of latents: all that it takes to see what another
/// last combination of the same would make.
#[derive(Clone, Debug)]
pub struct Made<V> {
    image: V,
    /// What `plan.output` combines, in its order.
    parts: Vec<V>,
}

impl<V: VectorSpace> Made<V> {
    /// Runs the plan. Costs its evaluations, and memory for as many batches as its output has terms, and as many again
    /// as it has stages on the way.
    ///
    /// # Errors
    /// If the plan is not valid, and the first error of the denoiser.
    pub fn run<E>(
        plan: &Plan,
        start: Start<'_, V>,
        denoise: impl FnMut(&V, f64) -> Result<V, E>,
    ) -> Result<Self, RefineError<E>> {
        plan.validate()?;
        let (mut inputs, mut outputs) = (Vec::with_capacity(plan.nfe()), Vec::with_capacity(plan.nfe()));
        let keep = |_: usize, x: &V, d: &V| {
            inputs.push(x.clone());
            outputs.push(d.clone());
        };
        let (latent, constant) = (start.latent, start.constant);
        let image = execute_observed(plan, start, denoise, keep).map_err(RefineError::Denoiser)?;
        let of = |source: Source| match source {
            Source::Latent => Some(latent),
            Source::Constant => constant,
            Source::Input(k) => inputs.get(k),
            Source::Output(k) => outputs.get(k),
        };
        let parts = plan.output.terms().filter_map(|(source, _)| of(source).cloned()).collect();
        Ok(Self { image, parts })
    }

    /// The images with `more` of every part.
    fn with(&self, more: &[f64]) -> V {
        let terms: Vec<(f64, &V)> = more.iter().copied().zip(&self.parts).collect();
        V::combine(&[vec![(1.0, &self.image)], terms].concat())
    }
}

/// A plan whose output [`refit_output`] has fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Refitted {
    /// The plan with the least sum of both, the one it started from included.
    pub plan: Plan,
    /// The distance before and after.
    pub distances: [f64; 2],
    /// The rollout error before and after, per sample.
    pub errors: [f64; 2],
}

/// Ridge of the coordinates, in units of the mean square of what is combined: outputs differ little, and what only
/// their smallest differences could do is left alone.
const RIDGE: f64 = 1e-5;

/// A round that gains less than this part of the sum is the last.
const LEAST_GAIN: f64 = 1e-3;

/// Fits the coefficients of the plan's image so that a distance of the images that it has `made`, between all of them and
/// what they should be like, falls, with the squared error from the teacher's images as a rein:
///
/// `distance(x) / distance(x_before) + w |x - x*|^2 / |x_before - x*|^2`.
///
/// A regression leaves out what it cannot predict, so its images are smoother than the teacher's, each by little and all
/// of them in the same way. A distance between sets sees that, and what it asks for costs little error. Images are
/// linear in these coefficients: no evaluation of a network is needed beside those that made them.
///
/// `teacher` holds what the images should be, of `samples` latents. `near` is given images and directions `[u_j]`, and answers with the distance of `images + sum_j q_j u_j` and its gradient
/// with respect to `q`, which has to be exact at 0 and may be of first order about it: it is asked again wherever the
/// steps lead. A step that makes the sum larger is halved. A plan that makes no error or leaves no distance stays as it is.
///
/// # Errors
/// The first error of `near`, and if a gradient is not finite.
pub fn refit_output<V: VectorSpace, E, N>(
    plan: &Plan,
    made: &Made<V>,
    (teacher, samples): (&V, usize),
    options: &RefitOptions,
    mut near: impl FnMut(&V, &[V]) -> Result<N, E>,
) -> Result<Refitted, RefineError<E>>
where
    N: FnMut(&[f64]) -> Result<(f64, Vec<f64>), E>,
{
    let samples = samples.max(1) as f64;
    let missing = made.image.difference(teacher);
    let error_before = missing.norm_squared() / samples;
    let mut refitted = Refitted { plan: plan.clone(), distances: [f64::NAN; 2], errors: [error_before; 2] };
    let sane = |value: f64| value.is_finite() && value > 0.0;
    let products = |a: &V| made.parts.iter().map(|b| a.dot(b) / samples).collect::<Vec<f64>>();
    let gram: Vec<Vec<f64>> = made.parts.iter().map(products).collect();
    let (true, Some(lower)) = (sane(error_before), factor(&gram, RIDGE)) else {
        return Ok(refitted);
    };
    let slope = products(&missing);

    // more = s L^-T q of every part, with G = L L^T: a step of |q| changes the images by as much, whatever its direction
    let scale = error_before.sqrt();
    let more = |q: &[f64]| backward(&lower, q).into_iter().map(|c| scale * c).collect::<Vec<f64>>();
    // the error is a quadratic of the coefficients; in units of what it was, with its gradient by q
    let error_at = |q: &[f64]| {
        let c = more(q);
        let by_c: Vec<f64> = gram.iter().zip(&slope).map(|(row, b)| b + dot(row, &c)).collect();
        let value = 1.0 + (dot(&slope, &c) + dot(&by_c, &c)) / error_before;
        let gradient: Vec<f64> = by_c.iter().map(|g| 2.0 * scale * g / error_before).collect();
        (value, forward(&lower, &gradient))
    };
    let directions: Vec<V> = (0..made.parts.len())
        .map(|j| {
            let unit: Vec<f64> = (0..made.parts.len()).map(|i| if i == j { 1.0 } else { 0.0 }).collect();
            V::combine(&more(&unit).into_iter().zip(&made.parts).collect::<Vec<_>>())
        })
        .collect();

    let mut place = vec![0.0; directions.len()];
    let (mut best, mut least, mut distance_before) = (place.clone(), f64::INFINITY, f64::NAN);
    for round in 0..=options.rounds {
        let mut model = near(&made.with(&more(&place)), &directions).map_err(RefineError::Denoiser)?;
        let (distance, _) = model(&vec![0.0; place.len()]).map_err(RefineError::Denoiser)?;
        if round == 0 {
            distance_before = distance;
            refitted.distances = [distance; 2];
            if !sane(distance) {
                return Ok(refitted);
            }
        }
        let (error, _) = error_at(&place);
        let sum = distance / distance_before + options.error_weight * error;
        if sum.is_nan() || sum >= least {
            place.iter_mut().zip(&best).for_each(|(to, from)| *to = 0.5 * (*to + from));
            continue;
        }
        let gained = least - sum;
        (best, least) = (place.clone(), sum);
        (refitted.distances[1], refitted.errors[1]) = (distance, error * error_before);
        if round == options.rounds || gained < LEAST_GAIN * sum {
            break;
        }
        let mut adam = Adam::new(options.learning_rate);
        for step in 0..options.steps {
            let moved: Vec<f64> = place.iter().zip(&best).map(|(to, from)| to - from).collect();
            let (_, slope) = model(&moved).map_err(RefineError::Denoiser)?;
            let (_, rein) = error_at(&place);
            let gradient: Vec<f64> =
                slope.iter().zip(rein).map(|(d, e)| d / distance_before + options.error_weight * e).collect();
            adam.learning_rate = options.learning_rate * cosine(step as f64 / options.steps as f64);
            adam.step(&mut place, &gradient)?;
        }
    }
    let new = plan.output.terms().zip(more(&best)).map(|((source, c), more)| (source, c + more)).collect();
    refitted.plan.output = Combination::new(new);
    refitted.plan.validate()?;
    let found_by = serde_json::json!({
        "by": "refit_output", "error_weight": options.error_weight, "rounds": options.rounds, "steps": options.steps,
        "samples": samples, "distances": refitted.distances, "errors": refitted.errors,
    });
    refitted.plan.metadata.found_by.insert("refitted".into(), found_by);
    Ok(refitted)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
