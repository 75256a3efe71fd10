//! Objectives of phase 1: how well a schedule's first-order sampler reproduces noisy data (Eqs. 9 to 12), with the
//! gradient of Eq. 14.
//!
//! With the weights `a_i` of [`induced_weights`], clean data `y` and `D_i = D(y + sigma_i n_i; sigma_i)`:
//!
//! - `discretization` (Eq. 11): `|| sum_i a_i (D_i - y) ||^2`. Eq. 11 also has `sigma_1 (n_N - n)`, noise whose own
//!   mean square does not depend on the schedule; it is left out, as is the cross term it has with `D_N`, of the order
//!   of `sigma_1`.
//! - `bound` (Eq. 12): `sum_i a_i || D_i - y ||^2`, never smaller (Jensen).
//! - `joint`: `discretization + gamma * bound`, what the paper minimises.
//!
//! The paper leaves open whether the noises `n_i` are independent or shared; whoever implements [`ForwardNoised`]
//! decides. Minimised to convergence, `discretization` collapses towards one jump to low noise, because forward-noised
//! inputs never show the sampler its own states; `bound` goes the same way, far more slowly (docs/experiments/objectives.md).
//!
//! Losses are sums over a batch, as [`VectorSpace::dot`] is.

mod gradient;
mod table;
mod weights;

use serde::{Deserialize, Serialize};

pub use gradient::{loss, loss_and_gradient};
pub use table::schedule_on;
pub use table::{BoundTable, GramTable, TableError};
pub use weights::{euler_weights, induced_weights, induced_weights_pullback};

use crate::space::VectorSpace;

/// What phase 1 minimises.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Objective {
    /// Eq. 11.
    Discretization,
    /// Eq. 12.
    Bound,
    /// Eq. 11 plus `gamma` times Eq. 12: the paper's.
    Joint {
        /// Weight of the bound; not negative.
        gamma: f64,
    },
}

impl Objective {
    /// Weights of `discretization` and `bound` in the objective.
    pub(crate) fn mix(self) -> (f64, f64) {
        match self {
            Self::Discretization => (1.0, 0.0),
            Self::Bound => (0.0, 1.0),
            Self::Joint { gamma } => (1.0, gamma),
        }
    }
}

/// The parts of an objective on one batch, summed over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// The objective itself.
    pub total: f64,
    /// Eq. 11's part, whatever the objective.
    pub discretization: f64,
    /// Eq. 12's part, whatever the objective.
    pub bound: f64,
}

/// A batch of clean data and its noise, denoised at any level: what the objectives see of a network.
///
/// The implementor owns the noises `n_level` and so decides whether they are independent or shared. They must stay
/// the same while one loss and its gradient are computed.
pub trait ForwardNoised<V: VectorSpace> {
    /// Why a network evaluation failed.
    type Error;

    /// The clean batch `y`.
    fn clean(&self) -> &V;

    /// `D(y + sigma n_level; sigma)`, without a graph. `level` counts in sampling order from 0.
    ///
    /// # Errors
    /// Whatever the network says.
    fn denoised(&mut self, level: usize, sigma: f64) -> Result<V, Self::Error>;

    /// `<cotangent, dD/dsigma>` of the same `D`, through its input `y + sigma n_level` and its noise level: one
    /// vector-Jacobian product, whose graph need not outlive the call.
    ///
    /// # Errors
    /// Whatever the network says.
    fn pullback(&mut self, level: usize, sigma: f64, cotangent: &V) -> Result<f64, Self::Error>;
}
