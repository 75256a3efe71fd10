//! `least_squares`: schedule and solver together, each step the best linear combination of what the student knows.

use super::ridge::ridge_solve;
use super::student::{self, Known, Past, Rule, Step, StudentOptions};
use super::teacher::{Nodes, Teacher};
use super::{Outcome, SearchError};
use crate::plan::{Combination, Source};
use crate::space::VectorSpace;

/// How the coefficients of a step are fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Outputs before the newest that a step may use; 0 fits the newest alone, and more than 3 seldom help.
    pub history: usize,
    /// Strength of the ridge towards Euler's step, in units of the mean square of the outputs in use. Enough of it
    /// keeps a plan from one small batch good on others.
    pub ridge: f64,
}

impl Default for Fit {
    fn default() -> Self {
        Self { history: 3, ridge: 1e-6 }
    }
}

/// The sampler nearest to the teacher among those whose step from `sigma_i` to `sigma_j` is
///
/// `x_j = (sigma_j / sigma_i) x_i + sum_m c_m D_m`, `m` over the last `history + 1` outputs,
///
/// with `c` from the normal equations against the teacher's state at `sigma_j`, the last step to zero fitted against
/// its image in the same way. If the teacher holds a constant image ([`Teacher::holding`]), it stands for an output at
/// the first level that costs no evaluation. Levels are chosen as in [`super::reachable`], by the student's own states, for every
/// number of steps at once. It takes evaluations alone, no gradient.
///
/// The ridge draws `c` to Euler's step (`c_0 = 1 - sigma_j / sigma_i`, the others 0), which a very strong one is. Outputs
/// that are linearly dependent are regularised further; the plan's `found_by` then has `regularised` set.
///
/// Costs at most `1 + beam (most - 1) (grid - 1)` evaluations, and `grid - 2` more with a constant image. Memory: at most `(history + 3) beam grid` batches
/// beside the teacher.
///
/// # Errors
/// If the ridge is negative or not finite, if all states reached diverge, and the first error of the denoiser.
pub fn least_squares<V: VectorSpace, E>(
    teacher: &Teacher<V>,
    fit: &Fit,
    options: &StudentOptions,
    denoise: impl FnMut(&V, f64) -> Result<V, E>,
) -> Result<Outcome, SearchError<E>> {
    if !(fit.ridge.is_finite() && fit.ridge >= 0.0) {
        return Err(SearchError::Option { name: "ridge", rule: "finite and not negative", value: fit.ridge });
    }
    student::search("least_squares", teacher, options, fit, denoise)
}

impl<V: VectorSpace> Rule<V> for Fit {
    fn depth(&self) -> (usize, usize) {
        (1, self.history.saturating_add(1))
    }

    fn takes_constant(&self) -> bool {
        true
    }

    fn steps(&self, path: &[usize], past: &Past<V>, nodes: &Nodes<V>) -> Vec<Step> {
        let newest = path.len() - 1;
        let from = nodes.sigma(path[newest]);
        let (x, outputs) = (&past.inputs[0], &past.outputs);
        // the latent is the state in units of its noise level
        let unit = if x.source == Source::Latent { from } else { 1.0 };
        let dots = |a: &Known<V>| outputs.iter().map(|b| a.value.dot(&b.value)).collect();
        let gram: Vec<Vec<f64>> = outputs.iter().map(dots).collect();
        let step = |j: usize| {
            let ratio = nodes.sigma(j) / from;
            // what Euler's step leaves to be explained
            let rest =
                V::combine(&[(1.0, nodes.state(j)), (-ratio * unit, &x.value), (ratio - 1.0, &outputs[0].value)]);
            let right: Vec<f64> = outputs.iter().map(|output| output.value.dot(&rest)).collect();
            let fitted = ridge_solve(&gram, &right, self.ridge);
            let mut terms = vec![(x.source, ratio * unit)];
            let mut left = vec![(1.0, &rest)];
            for (m, (output, delta)) in outputs.iter().zip(&fitted.solution).enumerate() {
                let euler = if m == 0 { 1.0 - ratio } else { 0.0 };
                terms.push((output.source, euler + delta));
                left.push((-delta, &*output.value));
            }
            terms.retain(|(_, c)| *c != 0.0);
            Step { terms: Combination::new(terms), error: V::combine(&left).norm_squared(), regularised: fitted.raised }
        };
        (path[newest] + 1..=nodes.end()).map(step).collect()
    }

    fn describe(&self, metadata: &mut serde_json::Map<String, serde_json::Value>) -> String {
        metadata.insert("history".into(), self.history.into());
        metadata.insert("ridge".into(), self.ridge.into());
        "least_squares".into()
    }
}
