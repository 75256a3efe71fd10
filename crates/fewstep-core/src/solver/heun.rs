//! Heun's method as in EDM (Karras et al. 2022, Algorithm 1): an Euler step, then the mean of the slopes at both ends.
//!
//! Order 2, two evaluations a step. The last step to zero has no second slope, so `N` levels cost `2N - 1`.

use super::euler::euler_step;
use super::march::{Point, march};
use super::{SolverError, SolverOptions};
use crate::plan::Plan;

pub(super) fn plan(levels: &[f64], options: &SolverOptions) -> Result<Plan, SolverError> {
    march(levels, options, |trace, step| {
        let point = step.current();
        let predicted = Point::evaluated(trace, euler_step(step), step.next);
        let mean_slope = 0.5 * (point.slope() + predicted.slope());
        &point.x + mean_slope * (step.next - point.sigma)
    })
}
