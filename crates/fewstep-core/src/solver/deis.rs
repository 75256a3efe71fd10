//! DEIS (Zhang and Chen 2023): the slope is extrapolated by the polynomial through its last values, and integrated
//! over the step.
//!
//! Orders 2 to 4, one evaluation a step; the first steps run at the order that their history allows.

use super::lagrange::{integrals, lagrange};
use super::march::march;
use super::{SolverError, SolverOptions};
use crate::plan::Plan;
use crate::schedule::VpNoise;

/// The variable in which the slope is taken for a polynomial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// tAB: the time of the variance-preserving process that reaches from sigma 0.002 (`t = 0.001`) to 80 (`t = 1`).
    Time,
    /// rhoAB: sigma itself, which makes it variable-step Adams-Bashforth. (diff-sampler's order 4 repeats the weights of
    /// its fourth step from the fifth step on; that slip is not reproduced.)
    Sigma,
}

pub(super) fn plan(order: usize, basis: Basis, levels: &[f64], options: &SolverOptions) -> Result<Plan, SolverError> {
    let noise = VpNoise::from_range(0.002, 80.0, 1e-3).expect("these constants are a range");
    march(levels, options, |_, step| {
        let sigmas: Vec<f64> = step.newest(order).map(|point| point.sigma).collect();
        // With one slope both are an Euler step, which needs no integral.
        let weights = match basis {
            _ if sigmas.len() == 1 => vec![step.next - sigmas[0]],
            Basis::Sigma => integrals(&sigmas, sigmas[0], step.next),
            Basis::Time => time_integrals(&noise, &sigmas, step.next),
        };
        // x' = x + sum_j d_j * integral of l_j dsigma
        let terms = step.newest(order).zip(weights);
        terms.fold(step.current().x.clone(), |x, (point, weight)| x + point.slope() * weight)
    })
}

/// `integral of l_j(t) sigma'(t) dt` from the first node to `next`, polynomials in VP time.
///
/// By the sum over 10,000 points of the public implementation (diff-sampler). It counts both ends in full, which
/// makes a long step's weights wrong in the fourth digit; that is kept, because it is how published results are made,
/// and it vanishes faster than the step does.
fn time_integrals(noise: &VpNoise, sigmas: &[f64], next: f64) -> Vec<f64> {
    const POINTS: usize = 10_000;
    let nodes: Vec<f64> = sigmas.iter().map(|&sigma| noise.time(sigma)).collect();
    let (from, to) = (nodes[0], noise.time(next));
    let mut weights = vec![0.0; nodes.len()];
    for i in 0..POINTS {
        let t = from + (to - from) * i as f64 / (POINTS - 1) as f64;
        let slope = noise.sigma_derivative(t) * (to - from) / POINTS as f64;
        for (j, weight) in weights.iter_mut().enumerate() {
            *weight += slope * lagrange(&nodes, j, t);
        }
    }
    weights
}
