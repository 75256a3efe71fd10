//! DPM-Solver++ multistep, 2M and 3M (Lu et al. 2023), data prediction, in `lambda = -log sigma`.
//!
//! One evaluation a step. 2M is of order 2. 3M adds a second difference, but the formula of the public
//! implementation weighs that with half of what order 3 takes. It is kept, because published results are made with it,
//! so 3M is of order 2 too. The first steps run at the order that their history allows, and with `lower_order_final`
//! so do the last.
//!
//! The public implementations clip every output (dynamic thresholding, Saharia et al. 2022, at the 0.995 quantile).
//! That is not linear and so no part of a plan: to have it, give the executor a denoiser that clips.

use super::march::{Step, march};
use super::phi::phi;
use super::{SolverError, SolverOptions};
use crate::plan::Plan;
use crate::trace::Expr;

pub(super) fn plan(
    order: usize,
    lower_order_final: bool,
    levels: &[f64],
    options: &SolverOptions,
) -> Result<Plan, SolverError> {
    march(levels, options, |_, step| {
        let warm_up = step.history.len();
        match order.min(warm_up) {
            full if full == order && lower_order_final => advance(step, order.min(step.remaining + 1)),
            possible => advance(step, possible),
        }
    })
}

/// The exponential integrator with `D` expanded in backward differences over lambda (their Eq. B.4 and Algorithm 2).
fn advance(step: &Step, order: usize) -> Expr {
    let point = step.current();
    let h = -step.next.ln() - point.lambda();
    let ratio = step.next / point.sigma;
    let first_order = ratio * &point.x + (1.0 - ratio) * &point.denoised;
    if order == 1 {
        return first_order;
    }
    let r0 = (point.lambda() - step.back(1).lambda()) / h;
    let d1_0 = (&point.denoised - &step.back(1).denoised) / r0;
    if order == 2 {
        return first_order + 0.5 * (1.0 - ratio) * d1_0;
    }
    let r1 = (step.back(1).lambda() - step.back(2).lambda()) / h;
    let d1_1 = (&step.back(1).denoised - &step.back(2).denoised) / r1;
    let second = &d1_0 - &d1_1;
    let d1 = d1_0 + &second * (r0 / (r0 + r1));
    let d2 = second / (r0 + r1);
    first_order + h * phi(2, -h) * d1 + h * phi(3, -h) * d2
}
