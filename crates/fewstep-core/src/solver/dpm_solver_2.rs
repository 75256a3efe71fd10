//! DPM-Solver-2 (Lu et al. 2022), the singlestep method with its midpoint at half the log-SNR step: `r_1 = 1/2`.
//!
//! Order 2, two evaluations a step, one for the last step to zero.

use super::march::{Point, march};
use super::{SolverError, SolverOptions};
use crate::plan::Plan;

pub(super) fn plan(levels: &[f64], options: &SolverOptions) -> Result<Plan, SolverError> {
    march(levels, options, |trace, step| {
        let point = step.current();
        let middle = (point.sigma * step.next).sqrt();
        let at_middle = &point.x + point.slope() * (middle - point.sigma);
        let slope = Point::evaluated(trace, at_middle, middle).slope();
        &point.x + slope * (step.next - point.sigma)
    })
}
