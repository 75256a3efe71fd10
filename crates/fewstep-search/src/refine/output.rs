//! `refit_output`: the combination that makes a plan's images, fitted to a distance between sets of images.

use serde::{Deserialize, Serialize};

use super::RefineError;
use crate::ridge::{backward, factor, forward};
use crate::teacher::Endpoints;
use fewstep_core::execute::{ExecuteError, execute_observed};
use fewstep_core::optimise::{Adam, cosine};
use fewstep_core::plan::{Combination, Plan, Source};
use fewstep_core::space::VectorSpace;

/// Options of [`refit_output`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefitOptions {
    /// What the squared error counts beside the distance, both in units of what they are before: 0 forgets which image
    /// belongs to which latent, a large one moves nothing.
    pub error_weight: f64,
    /// An error, per sample, that hardly matters: where there is less of it before, errors count in units of this one instead. 0: in
    /// units of what they are before, however little that is.
    pub hardly_matters: f64,
    /// Rounds: the distance is evaluated, and its local model made small.
    pub rounds: usize,
    /// Steps of Adam in every round.
    pub steps: usize,
    /// Adam's step at the start of a round, in units of the squared error's root; it falls to zero along a cosine.
    pub learning_rate: f64,
}

impl Default for RefitOptions {
    fn default() -> Self {
        Self { error_weight: 0.3, hardly_matters: 0.0, rounds: 6, steps: 60, learning_rate: 0.1 }
    }
}

/// A plan whose output [`refit_output`] has fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Refitted<V> {
    /// The plan with the least sum of both, the one it started from included.
    pub plan: Plan,
    /// Its images.
    pub image: V,
    /// The distance before and after; NaN where the plan makes no error, and so is not evaluated.
    pub distances: [f64; 2],
    /// The rollout error before and after, per sample.
    pub errors: [f64; 2],
    /// Evaluations of the denoiser, each of the whole batch.
    pub evaluations: usize,
}

/// Ridge of the coordinates, in units of the mean square of what is combined: outputs differ little, and what only
/// their smallest differences could do is left alone.
const RIDGE: f64 = 1e-5;

/// A round that gains less than this part of the sum is the last.
const LEAST_GAIN: f64 = 1e-3;

/// Fits the coefficients of the plan's image so that a distance of its images, between all of them and what they should
/// be like, falls, with the squared error from the teacher's images as a penalty:
///
/// `distance(x) / distance(x_before) + w |x - x*|^2 / |x_before - x*|^2`,
///
/// less of the latter for images that are very near already ([`RefitOptions::hardly_matters`]).
///
/// A regression leaves out what it cannot predict, so its images are smoother than the teacher's, each by little and all
/// of them in the same way. A distance between sets sees that, and what it asks for costs little error. Images are
/// linear in these coefficients: it takes one run of the plan, and then no evaluation more.
///
/// `near` is given images and directions `[u_j]`, and answers with the distance of `images + sum_j q_j u_j` and its
/// gradient with respect to `q`. At 0 the distance has to be exact; away from it, and its gradient, may be of first order: it
/// is asked again wherever the steps lead, and a step that makes the sum larger is halved. A plan that makes no error or
/// leaves no distance stays as it is. Memory: two batches for every term of the plan's output, and those that a run takes.
///
/// # Errors
/// If the plan is not valid, the first error of the denoiser or of `near`, and if a gradient is not finite.
pub fn refit_output<V: VectorSpace, E, N>(
    plan: &Plan,
    batch: &Endpoints<V>,
    options: &RefitOptions,
    mut near: impl FnMut(&V, &[V]) -> Result<N, E>,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Refitted<V>, RefineError<E>>
where
    N: FnMut(&[f64]) -> Result<(f64, Vec<f64>), E>,
{
    plan.validate()?;
    let (image, known) = run(plan, batch, denoise)?;
    let terms: Vec<&V> = known.iter().map(|(.., vector)| vector).collect();
    let mut refitted = Refitted {
        plan: plan.clone(),
        image: image.clone(),
        distances: [f64::NAN; 2],
        errors: [image.difference(&batch.image).norm_squared() / batch.samples.max(1) as f64; 2],
        evaluations: plan.nfe(),
    };
    let Some(penalty) = ErrorPenalty::new(&terms, &image.difference(&batch.image), batch.samples) else {
        return Ok(refitted);
    };
    let directions: Vec<V> = (0..terms.len()).map(|j| combined(&penalty.more(&unit(j, terms.len())), &terms)).collect();

    let error_weight = options.error_weight * refitted.errors[0] / refitted.errors[0].max(options.hardly_matters);
    let (mut place, mut learning_rate) = (vec![0.0; terms.len()], options.learning_rate);
    let (mut best, mut least) = (place.clone(), f64::INFINITY);
    for round in 0..=options.rounds {
        let moved = V::combine(&[(1.0, &image), (1.0, &combined(&penalty.more(&place), &terms))]);
        let mut model = near(&moved, &directions).map_err(RefineError::Denoiser)?;
        let (distance, _) = model(&vec![0.0; terms.len()]).map_err(RefineError::Denoiser)?;
        if round == 0 {
            refitted.distances = [distance; 2];
            if !(distance.is_finite() && distance > 0.0) {
                return Ok(refitted);
            }
        }
        let (error, _) = penalty.error(&place);
        let sum = distance / refitted.distances[0] + error_weight * error;
        if sum.is_nan() || sum >= least {
            place.iter_mut().zip(&best).for_each(|(to, from)| *to = 0.5 * (*to + from));
            learning_rate *= 0.5;
            continue;
        }
        let gained = least - sum;
        (best, least) = (place.clone(), sum);
        (refitted.distances[1], refitted.errors[1]) = (distance, error * refitted.errors[0]);
        if round == options.rounds || gained < LEAST_GAIN * sum {
            break;
        }
        let mut adam = Adam::new(learning_rate);
        for step in 0..options.steps {
            let moved: Vec<f64> = place.iter().zip(&best).map(|(to, from)| to - from).collect();
            let (_, of_distance) = model(&moved).map_err(RefineError::Denoiser)?;
            let (_, of_error) = penalty.error(&place);
            let both = of_distance.iter().zip(of_error);
            let gradient: Vec<f64> = both.map(|(d, e)| d / refitted.distances[0] + error_weight * e).collect();
            adam.learning_rate = learning_rate * cosine(step as f64 / options.steps as f64);
            adam.step(&mut place, &gradient)?;
        }
    }
    let more = penalty.more(&best);
    refitted.image = V::combine(&[(1.0, &image), (1.0, &combined(&more, &terms))]);
    let new = known.iter().zip(more).map(|((source, c, _), more)| (*source, c + more)).collect();
    refitted.plan.output = Combination::new(new);
    refitted.plan.validate()?;
    let found_by = serde_json::json!({
        "by": "refit_output", "error_weight": options.error_weight, "hardly_matters": options.hardly_matters,
        "error_counts": error_weight, "rounds": options.rounds, "steps": options.steps,
        "samples": batch.samples, "distances": refitted.distances, "errors": refitted.errors,
    });
    refitted.plan.metadata.found_by.insert("refitted".into(), found_by);
    Ok(refitted)
}

/// What a plan's image is combined of: a source, its coefficient and its value.
type Known<V> = Vec<(Source, f64, V)>;

/// The images of a plan, and what they are combined of.
fn run<V: VectorSpace, E>(
    plan: &Plan,
    batch: &Endpoints<V>,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<(V, Known<V>), ExecuteError<E>> {
    let (mut inputs, mut outputs) = (Vec::with_capacity(plan.nfe()), Vec::with_capacity(plan.nfe()));
    let keep = |_: usize, x: &V, d: &V| {
        inputs.push(x.clone());
        outputs.push(d.clone());
    };
    let image = execute_observed(plan, batch.start(), denoise, keep)?;
    let of = |source: Source| match source {
        Source::Latent => Some(&batch.latent),
        Source::Constant => batch.mean.as_ref().map(|mean| &mean.batch),
        Source::Input(k) => inputs.get(k),
        Source::Output(k) => outputs.get(k),
    };
    let known = plan.output.terms().filter_map(|(source, c)| Some((source, c, of(source)?.clone()))).collect();
    Ok((image, known))
}

/// The squared error of images by how much more of every term they are given, in the coordinates `q` of
/// `more = s L^-T q` with the Gram matrix `L L^T` and the error's root `s`: a step of `|q|` changes the images by as much,
/// whatever its direction.
struct ErrorPenalty {
    gram: Vec<Vec<f64>>,
    /// `L`.
    lower: Vec<Vec<f64>>,
    /// Products of the terms with what the images are off.
    slope: Vec<f64>,
    /// Before anything is moved, per sample.
    error: f64,
}

impl ErrorPenalty {
    /// None where nothing is off, or nothing can be moved.
    fn new<V: VectorSpace>(terms: &[&V], off: &V, samples: usize) -> Option<Self> {
        let samples = samples.max(1) as f64;
        let products = |a: &V| terms.iter().map(|b| a.dot(b) / samples).collect::<Vec<f64>>();
        let error = off.norm_squared() / samples;
        let gram: Vec<Vec<f64>> = terms.iter().map(|term| products(term)).collect();
        let lower = factor(&gram, RIDGE).filter(|_| error.is_finite() && error > 0.0)?;
        Some(Self { gram, lower, slope: products(off), error })
    }

    /// How much more of every term the images have at `q`.
    fn more(&self, q: &[f64]) -> Vec<f64> {
        let scale = self.error.sqrt();
        backward(&self.lower, q).into_iter().map(|c| scale * c).collect()
    }

    /// The error in units of what it was, and its gradient.
    fn error(&self, q: &[f64]) -> (f64, Vec<f64>) {
        let more = self.more(q);
        let half: Vec<f64> = self.gram.iter().zip(&self.slope).map(|(row, b)| b + dot(row, &more)).collect();
        let value = 1.0 + (dot(&self.slope, &more) + dot(&half, &more)) / self.error;
        let gradient: Vec<f64> = half.iter().map(|half| 2.0 * half / self.error.sqrt()).collect();
        (value, forward(&self.lower, &gradient))
    }
}

fn combined<V: VectorSpace>(coefficients: &[f64], terms: &[&V]) -> V {
    V::combine(&coefficients.iter().copied().zip(terms.iter().copied()).collect::<Vec<_>>())
}

fn unit(j: usize, n: usize) -> Vec<f64> {
    (0..n).map(|i| if i == j { 1.0 } else { 0.0 }).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
