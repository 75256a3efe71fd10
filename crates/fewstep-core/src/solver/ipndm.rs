//! Improved PNDM (Zhang and Chen 2023; Liu et al. 2022 without the Runge-Kutta start): Adams-Bashforth on the slope.
//!
//! Orders 1 to 4, one evaluation a step; the first steps run at the order that their history allows.

use super::march::{Step, march};
use super::{SolverError, SolverOptions};
use crate::plan::Plan;
use crate::trace::Expr;

/// Adams-Bashforth weights of equal steps, newest slope first, by order.
const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

/// The weights of equal steps on every schedule.
pub(super) fn fixed(order: usize, levels: &[f64], options: &SolverOptions) -> Result<Plan, SolverError> {
    march(levels, options, |_, step| {
        let order = order.min(step.history.len());
        advance(step, WEIGHTS[order - 1])
    })
}

/// Weights that follow the step sizes, as the public toolbox's `ipndm_v` computes them.
pub(super) fn variable(order: usize, levels: &[f64], options: &SolverOptions) -> Result<Plan, SolverError> {
    march(levels, options, |_, step| {
        let weights = variable_weights(step, order.min(step.history.len()));
        advance(step, &weights)
    })
}

/// `x + h sum_k w_k d_{n-k}`.
fn advance(step: &Step, weights: &[f64]) -> Expr {
    let point = step.current();
    let h = step.next - point.sigma;
    let slopes = step.newest(weights.len()).zip(weights);
    slopes.fold(point.x.clone(), |x, (past, w)| x + past.slope() * (h * w))
}

/// Weights in the basis of scaled backward differences: `d + g_1 (d - d_1) + g_2 (...) + g_3 (...)`.
///
/// These are the weights of the public toolbox (diff-sampler), with which `ipndm_v` results are published. They depart
/// from variable-step Adams-Bashforth in three places, marked below: order 3 has its order on equal steps only and
/// order 2 on others; order 4 is of order 3 on equal steps, and on others its weights do not even sum to one. The
/// formula as it should be is `deis_rhoab` ([`super::deis`]).
fn variable_weights(step: &Step, order: usize) -> Vec<f64> {
    let h = step.next - step.current().sigma;
    let back = |k: usize| step.back(k - 1).sigma - step.back(k).sigma;
    let mut weights = vec![0.0; order];
    weights[0] = 1.0;
    if order == 1 {
        return weights;
    }
    let h1 = back(1);
    add(&mut weights, h / (2.0 * h1), &[1.0, -1.0]);
    if order == 2 {
        return weights;
    }
    let h2 = back(2);
    let product = h * (h + h1) / (h1 * (h1 + h2));
    let third = h / (3.0 * (h + h1));
    let r1 = h1 / h2;
    // first departure: 0.5 * (1.0 - third) * product
    add(&mut weights, 0.5 * (1.0 - third * product), &[1.0, -1.0 - r1, r1]);
    if order == 3 {
        return weights;
    }
    let h3 = back(3);
    // second departure: minus between the two terms
    let inner = 0.5 * (1.0 - third) + (1.0 - h / (2.0 * (h + h1))) * h / (6.0 * (h + h1 + h2));
    let product = h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3));
    let q = h1 * (h1 + h2) / (h2 * (h2 + h3));
    let r2 = h2 / h3;
    // third departure: the last weight is -q * r2
    add(&mut weights, inner * product, &[1.0, -1.0 - r1 - q, r1 + q * (1.0 + r2), -q * r1]);
    weights
}

fn add(weights: &mut [f64], scale: f64, difference: &[f64]) {
    for (w, d) in weights.iter_mut().zip(difference) {
        *w += scale * d;
    }
}
