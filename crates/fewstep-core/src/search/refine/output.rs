//! `refit_output`: the combination that makes a plan's images, fitted to a distance between sets of images.

use serde::{Deserialize, Serialize};

use super::RefineError;
use crate::execute::execute_observed;
use crate::optimise::{Adam, cosine};
use crate::plan::{Combination, Plan, Source};
use crate::search::ridge::{backward, factor, forward};
use crate::search::teacher::Endpoints;
use crate::space::VectorSpace;

/// Options of [`refit_output`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefitOptions {
    /// What the squared error counts beside the distance, both in units of what they are before: 0 forgets which image
    /// belongs to which latent, a large one moves nothing.
    pub error_weight: f64,
    /// Steps of Adam.
    pub steps: usize,
    /// Adam's step at the start, in units of the squared error's root; it falls to zero along a cosine.
    pub learning_rate: f64,
}

impl Default for RefitOptions {
    fn default() -> Self {
        Self { error_weight: 0.3, steps: 60, learning_rate: 0.1 }
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
    /// Evaluations of the denoiser, each of the whole batch.
    pub evaluations: usize,
}

/// Ridge of the coordinates, in units of the mean square of what is combined: outputs differ little, and what only
/// their smallest differences could do is left alone.
const RIDGE: f64 = 1e-5;

/// Fits the coefficients of the plan's image so that `distance(images)`, between all of them and what they should be
/// like, falls, with the squared error from the teacher's images as a rein:
///
/// `distance(x) / distance(x_before) + w |x - x*|^2 / |x_before - x*|^2`.
///
/// A regression leaves out what it cannot predict, so its images are smoother than the teacher's, each by little and all
/// of them in the same way. A distance between sets sees that, and what it asks for costs little error. Images are
/// linear in these coefficients: it takes one run of the plan, and then no evaluation more.
///
/// `distance` gives a value that is not negative and its gradient with respect to the images. A plan that makes no error
/// or leaves no distance stays as it is.
///
/// # Errors
/// If the plan is not valid, the first error of the denoiser or of `distance`, and if its gradient is not finite.
pub fn refit_output<V: VectorSpace, E>(
    plan: &Plan,
    batch: &Endpoints<V>,
    options: &RefitOptions,
    mut distance: impl FnMut(&V) -> Result<(f64, V), E>,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Refitted, RefineError<E>> {
    plan.validate()?;
    let (mut inputs, mut outputs) = (Vec::with_capacity(plan.nfe()), Vec::with_capacity(plan.nfe()));
    let keep = |_: usize, x: &V, d: &V| {
        inputs.push(x.clone());
        outputs.push(d.clone());
    };
    let before = execute_observed(plan, batch.start(), denoise, keep).map_err(RefineError::Denoiser)?;
    let of = |source: Source| match source {
        Source::Latent => Some(&batch.latent),
        Source::Constant => batch.held.as_ref().map(|held| &held.batch),
        Source::Input(k) => inputs.get(k),
        Source::Output(k) => outputs.get(k),
    };
    let known: Vec<(Source, f64, &V)> = plan.output.terms().filter_map(|(s, c)| Some((s, c, of(s)?))).collect();

    let samples = batch.samples.max(1) as f64;
    let error_before = before.difference(&batch.image).norm_squared() / samples;
    let (distance_before, _) = distance(&before).map_err(RefineError::Denoiser)?;
    let mut refitted = Refitted {
        plan: plan.clone(),
        distances: [distance_before; 2],
        errors: [error_before; 2],
        evaluations: plan.nfe(),
    };
    let sane = |value: f64| value.is_finite() && value > 0.0;
    let gram: Vec<Vec<f64>> =
        known.iter().map(|(.., a)| known.iter().map(|(.., b)| a.dot(b) / samples).collect()).collect();
    let (true, true, Some(lower)) = (sane(error_before), sane(distance_before), factor(&gram, RIDGE)) else {
        return Ok(refitted);
    };

    // x = x_before + sum_i (L^-T q)_i v_i with G = L L^T: a step of |q| changes the images by as much, whatever its direction
    let scale = error_before.sqrt();
    let mut place = vec![0.0; known.len()];
    let mut adam = Adam::new(options.learning_rate);
    let mut least = 1.0 + options.error_weight;
    for step in 0..=options.steps {
        let moved: Vec<f64> = backward(&lower, &place).into_iter().map(|c| scale * c).collect();
        let terms: Vec<(f64, &V)> = moved.iter().zip(&known).map(|(c, (.., v))| (*c, *v)).collect();
        let image = V::combine(&[vec![(1.0, &before)], terms].concat());
        let left = image.difference(&batch.image);
        let error = left.norm_squared() / samples;
        let (value, slope) = distance(&image).map_err(RefineError::Denoiser)?;
        let sum = value / distance_before + options.error_weight * error / error_before;
        if sum < least {
            least = sum;
            let new = known.iter().zip(&moved).map(|((source, c, _), moved)| (*source, c + moved)).collect();
            refitted.plan.output = Combination::new(new);
            (refitted.distances[1], refitted.errors[1]) = (value, error);
        }
        if step == options.steps {
            break;
        }
        let along = |v: &V| {
            slope.dot(v) / distance_before + 2.0 * options.error_weight * left.dot(v) / (samples * error_before)
        };
        let gradient = forward(&lower, &known.iter().map(|(.., v)| scale * along(v)).collect::<Vec<_>>());
        adam.learning_rate = options.learning_rate * cosine(step as f64 / options.steps as f64);
        adam.step(&mut place, &gradient)?;
    }
    refitted.plan.validate()?;
    let found_by = serde_json::json!({
        "by": "refit_output", "error_weight": options.error_weight, "steps": options.steps,
        "samples": batch.samples, "distances": refitted.distances, "errors": refitted.errors,
    });
    refitted.plan.metadata.found_by.insert("refitted".into(), found_by);
    Ok(refitted)
}
