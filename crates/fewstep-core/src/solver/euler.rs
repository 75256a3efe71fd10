//! Euler's method on Eq. 6, which is DDIM (Song et al. 2021) in the canonical parameterisation (Eq. 7).
//!
//! Order 1, one evaluation a level.

use super::march::{Step, march};
use super::{SolverError, SolverOptions};
use crate::plan::Plan;
use crate::trace::Expr;

pub(super) fn plan(levels: &[f64], options: &SolverOptions) -> Result<Plan, SolverError> {
    march(levels, options, |_, step| euler_step(step))
}

/// `x' = r x + (1 - r) D`, `r = sigma' / sigma` (Eq. 7).
pub(super) fn euler_step(step: &Step) -> Expr {
    let point = step.current();
    let r = step.next / point.sigma;
    r * &point.x + (1.0 - r) * &point.denoised
}
