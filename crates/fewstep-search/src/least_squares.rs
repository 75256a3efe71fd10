//! `least_squares`: schedule and solver together, each step the best linear combination of what the student knows.

use std::ops::RangeInclusive;

use super::match_variance::{gathered, stretch, stretched};
use super::normal::{Normal, distance};
use super::rollout::pseudo_huber_constant;
use super::student::{self, Past, Rule, Step, StudentOptions, Swept};
use super::teacher::{Nodes, Teacher};
use super::{Outcome, SearchError};
use fewstep_core::plan::{Plan, Source, Stage};
use fewstep_core::space::Samples;

/// How the coefficients of a step are fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Outputs before the newest that a step may use; 0 fits the newest alone, and more than 3 seldom help.
    pub history: usize,
    /// Strength of the ridge towards Euler's step, in units of the mean square of the outputs in use. Enough of it
    /// keeps a plan from one small batch good on others.
    pub ridge: f64,
    /// Whether images are stretched about the constant image, where the teacher holds one, until their variance is the
    /// teacher's. Fitted images are too smooth: what cannot be predicted is left out, as in every regression.
    pub match_variance: bool,
    /// Whether the state's own coefficient is fitted, too, rather than held at `sigma_j / sigma_i`.
    pub fit_state_coefficient: bool,
    /// Whether the pseudo-Huber distance ([`super::pseudo_huber`]) is made small, and states are compared by it, in
    /// place of the squared error: no few samples that end somewhere else altogether rule the fit.
    pub robust: bool,
}

impl Default for Fit {
    fn default() -> Self {
        Self { history: 3, ridge: 1e-6, match_variance: false, fit_state_coefficient: false, robust: false }
    }
}

impl Fit {
    /// A plan of `nfe` evaluations with all the terms that a fit can give one, each with the coefficient 1; its levels mean nothing. With
    /// `constant` the constant image stands for an output before the first.
    pub(crate) fn fullest(&self, nfe: usize, constant: bool) -> Plan {
        let combination = |stage: usize| {
            let state = if stage > 0 { Source::Input(stage - 1) } else { Source::Latent };
            let outputs = (0..stage).rev().map(Source::Output).chain(constant.then_some(Source::Constant));
            let used = if stage > 0 { self.history.saturating_add(1) } else { 1 };
            let stretched = (stage == nfe && constant && self.match_variance).then_some(Source::Constant);
            let terms = outputs.take(used).chain([state]).chain(stretched).map(|source| (source, 1.0));
            gathered(terms.collect())
        };
        let stages = (0..nfe).map(|stage| Stage { sigma: 1.0, input: combination(stage) }).collect();
        Plan { stages, output: combination(nfe), ..Plan::default() }
    }
}

/// The sampler nearest to the teacher among those whose step from `sigma_i` to `sigma_j` is
///
/// `x_j = (sigma_j / sigma_i) x_i + sum_m c_m D_m`, `m` over the last `history + 1` outputs,
///
/// with `c` from the normal equations against the teacher's state at `sigma_j`, the last step to zero fitted against
/// its image in the same way; with [`Fit::fit_state_coefficient`], the coefficient of `x_i` as well. If the teacher holds a
/// mean prediction ([`Teacher::with_mean`]), it stands for an output at the first level that costs no evaluation. Levels are chosen as in [`super::oss()`], by the student's own states,
/// for every number of steps at once. It takes evaluations alone, no gradient.
///
/// The ridge draws `c` to Euler's step (`c_0 = 1 - sigma_j / sigma_i`, the others 0), which a very strong one is. Outputs
/// that are linearly dependent are regularised further; the plan's `found_by` then has `regularised` set.
///
/// Costs at most `1 + beam (most - 1) (grid - 1)` evaluations, and `grid - 2` more with a constant image. Memory: at
/// most `(history + 3) beam grid` batches beside the teacher.
///
/// # Errors
/// If the ridge is negative or not finite, if all states reached diverge, and the first error of the denoiser.
pub fn least_squares<V: Samples, E>(
    teacher: &Teacher<V>,
    fit: &Fit,
    options: &StudentOptions,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Outcome, SearchError<E>> {
    least_squares_in(teacher, fit, options, V::clone, denoise)
}

/// [`least_squares`] with errors in another space: `space` is a linear map of images, such as their gradients, in which
/// squared distances are taken, fits are made, states are chosen and variances compared. States and plans stay in the
/// space of images. Errors of the outcome are those of the error space.
///
/// # Errors
/// As [`least_squares`].
pub fn least_squares_in<V: Samples, E>(
    teacher: &Teacher<V>,
    fit: &Fit,
    options: &StudentOptions,
    space: impl Fn(&V) -> V,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Outcome, SearchError<E>> {
    student::search("least_squares", teacher, options, &Fitting::new(teacher, fit, space)?, denoise)
}

/// [`least_squares_in`] along `paths` through the teacher's grid (indices into it, which rise), one plan each. With `sweeps`,
/// paths first move to where their end is nearer to the teacher. The dynamic program keeps the states that are nearest at every
/// level, and those are not always the best to go on from; here a path is compared by its end alone. From the last path to the
/// first, in each of at most so many sweeps, every one of its levels in turn moves one place up or down on the grid if that is an
/// improvement (none follows one that gains less than 2 per cent); the same is done to the best that is left of the path after it, if that
/// has one level more, without any one of its levels; and the better of both is taken. What is better is told by the mean distance
/// `||x - x*||` of the samples: the squared error is mostly that of a few samples, and of other latents that of others. Any few of the samples serve for that: [`Teacher::from_parts`] of some states, and then all of them along the paths found, without sweeps.
///
/// Of the options it uses [`StudentOptions::last_step`] alone. Costs for a path of `n` levels `n` evaluations, with sweeps at
/// most `n (n + 1) / 2` more for what the longer path leaves and `2 n (n + 1)` a sweep ([`sweep_evaluations`](crate::sweep_evaluations)).
///
/// # Errors
/// As [`least_squares`], and if a path does not rise or leaves the grid.
pub fn least_squares_along<V: Samples, E>(
    teacher: &Teacher<V>,
    fit: &Fit,
    options: &StudentOptions,
    paths: &[Vec<usize>],
    sweeps: usize,
    space: impl Fn(&V) -> V,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Outcome, SearchError<E>> {
    let (plans, evaluations) = least_squares_swept(teacher, fit, options, paths, sweeps, space, denoise)?;
    let nearest = |plans: Swept| {
        plans
            .into_iter()
            .next()
            .map(|(found, _)| found)
            .ok_or(SearchError::NotFinite { what: "a state that the search reached" })
    };
    Ok(Outcome::counted(plans.into_iter().map(nearest).collect::<Result<_, _>>()?, evaluations))
}

/// [`least_squares_along`] with both plans of a path that was moved, its own and what the path after it leaves, the better first, each
/// with the sum of its samples' distances from the teacher's; none of a path that leads to a state that is not finite. Second, the evaluations.
pub(super) fn least_squares_swept<V: Samples, E>(
    teacher: &Teacher<V>,
    fit: &Fit,
    options: &StudentOptions,
    paths: &[Vec<usize>],
    sweeps: usize,
    space: impl Fn(&V) -> V,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<(Vec<Swept>, usize), SearchError<E>> {
    student::along("least_squares", teacher, options, &Fitting::new(teacher, fit, space)?, paths, sweeps, denoise)
}

/// A fit at work.
struct Fitting<'a, V, S> {
    fit: &'a Fit,
    space: S,
    /// What images are stretched about, if they are.
    centre: Option<&'a V>,
    /// The constant of the pseudo-Huber distance, if that is what is made small.
    softness: Option<f64>,
}

impl<V: Samples, S: Fn(&V) -> V> Rule<V> for Fitting<'_, V, S> {
    fn depth(&self) -> (usize, usize) {
        (1, self.fit.history.saturating_add(1))
    }

    fn takes_constant(&self) -> bool {
        true
    }

    fn steps(&self, path: &[usize], past: &Past<V>, nodes: &Nodes<V>, to: RangeInclusive<usize>) -> Vec<Step> {
        let from = nodes.sigma(path[path.len() - 1]);
        let (x, outputs) = (&past.inputs[0], &past.outputs);
        // the latent is the state in units of its noise level
        let unit = if x.source == Source::Latent { from } else { 1.0 };
        let mut known: Vec<(Source, &V, f64)> =
            outputs.iter().map(|known| (known.source, &*known.value, 1.0)).collect();
        if self.fit.fit_state_coefficient {
            // as large as the newest output, so that what the ridge does has no unit
            let size = (outputs[0].value.norm_squared() / x.value.norm_squared()).sqrt();
            let size = if size.is_normal() { size } else { unit / from };
            known.push((x.source, &x.value, size));
        }
        let regressors: Vec<V> =
            known.iter().map(|(_, value, unit)| (self.space)(&V::combine(&[(*unit, *value)]))).collect();
        let normal = Normal::new(&regressors, self.softness);
        let step = |j: usize| {
            let ratio = nodes.sigma(j) / from;
            // what Euler's step leaves to be explained
            let rest =
                V::combine(&[(1.0, nodes.state(j)), (-ratio * unit, &x.value), (ratio - 1.0, &outputs[0].value)]);
            let rest = (self.space)(&rest);
            let fitted = normal.fit(&rest, self.fit.ridge);
            let mut terms = vec![(x.source, ratio * unit), (outputs[0].source, 1.0 - ratio)];
            let mut left = vec![(1.0, &rest)];
            for (((source, _, unit), regressor), delta) in known.iter().zip(&regressors).zip(&fitted.solution) {
                terms.push((*source, unit * delta));
                left.push((-delta, regressor));
            }
            let left = V::combine(&left);
            let (terms, left) = match self.centre.filter(|_| j == nodes.end()) {
                Some(centre) => self.stretched(terms, left, nodes.state(j), centre),
                None => (terms, left),
            };
            // the squared error of a batch is mostly that of the few samples that end far from the teacher's
            let distance = match j == nodes.end() {
                true => left.sample_dots(&left).into_iter().map(f64::sqrt).sum(),
                false => f64::NAN,
            };
            Step { terms: gathered(terms), error: self.error(&left), distance, regularised: fitted.raised }
        };
        to.map(step).collect()
    }

    fn describe(&self, metadata: &mut serde_json::Map<String, serde_json::Value>) -> String {
        let Fit { history, ridge, match_variance, fit_state_coefficient, robust } = *self.fit;
        metadata.insert("history".into(), history.into());
        metadata.insert("ridge".into(), ridge.into());
        metadata.insert("match_variance".into(), match_variance.into());
        metadata.insert("fit_state_coefficient".into(), fit_state_coefficient.into());
        metadata.insert("robust".into(), robust.into());
        "least_squares".into()
    }
}

impl<'a, V: Samples, S: Fn(&V) -> V> Fitting<'a, V, S> {
    fn new<E>(teacher: &'a Teacher<V>, fit: &'a Fit, space: S) -> Result<Self, SearchError<E>> {
        if !(fit.ridge.is_finite() && fit.ridge >= 0.0) {
            return Err(SearchError::Option { name: "ridge", rule: "finite and not negative", value: fit.ridge });
        }
        let ends = teacher.ends();
        // latents are unit normal
        let dimensions = ends.latent.norm_squared() / ends.samples.max(1) as f64;
        Ok(Self {
            fit,
            space,
            centre: ends.mean.as_ref().map(|mean| &mean.batch).filter(|_| fit.match_variance),
            softness: fit.robust.then(|| pseudo_huber_constant(dimensions)),
        })
    }

    /// What a state that leaves `left` to be explained counts, the whole batch.
    fn error(&self, left: &V) -> f64 {
        distance(left, self.softness)
    }

    /// The image `x` of these terms, which leave `left = x* - x` (in the error space) to be explained, moved away from the centre `m`:
    /// `m + k (x - m)`, `k^2 = |x* - m|^2 / |x - m|^2`. With it, what it leaves.
    fn stretched(&self, terms: Vec<(Source, f64)>, left: V, target: &V, centre: &V) -> (Vec<(Source, f64)>, V) {
        let wanted = (self.space)(&target.difference(centre));
        let found = wanted.difference(&left);
        match stretch(&found, &wanted) {
            Some(k) => (stretched(terms, k), V::combine(&[(1.0, &wanted), (-k, &found)])),
            None => (terms, left),
        }
    }
}
