//! Euler and Heun along any path `sigma(t)`, `s(t)` of Karras et al. 2022 (Algorithm 1 with Table 1's functions): the
//! samplers of EDM's ablations. With `sigma = t` and `s = 1` they are [`super::Solver::Euler`] and
//! [`super::Solver::Heun`].

use super::{LastStep, SolverError, SolverOptions};
use crate::plan::Plan;
use crate::schedule::{Path, Schedule};
use crate::trace::{Expr, Trace};

/// The one-step methods that run along a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneStep {
    /// Order 1.
    Euler,
    /// Order 2, but for the last step to zero.
    Heun,
}

/// The plan of `method` with steps that are straight in `t` for the scaled state `s(t) x`.
///
/// Plans are canonical, so the solver works on `z = x / s`, in which the ODE (Karras et al., Eq. 4) reads
/// `d(s z)/dt = (sigma'/sigma + s'/s) s z - (sigma'/sigma) s D(z; sigma)`.
///
/// # Errors
/// If the schedule has too few levels for the options, or a coefficient overflows. An analytical first step is not
/// defined along a path; asking for one is refused like too few levels.
pub fn along_path(
    method: OneStep,
    path: &Path,
    schedule: &Schedule,
    options: &SolverOptions,
) -> Result<Plan, SolverError> {
    let too_few = SolverError::TooFewLevels { levels: schedule.len() };
    let mut times: Vec<f64> = schedule.levels().iter().map(|&sigma| path.noise.time(sigma)).collect();
    if options.last_step == LastStep::ToZero {
        times.push(0.0);
    }
    if times.len() < 2 || options.analytical_first_step {
        return Err(too_few);
    }
    let mut trace = Trace::new();
    let mut z = trace.latent() * path.noise.sigma(times[0]);
    for pair in times.windows(2) {
        let (t, next) = (pair[0], pair[1]);
        let h = next - t;
        let (z_hat, slope) = slope(&mut trace, path, z, t);
        let x_hat = path.scale(t) * &z_hat;
        z = (&x_hat + h * &slope) / path.scale(next);
        if method == OneStep::Heun && next > 0.0 {
            let (_, slope_next) = self::slope(&mut trace, path, z, next);
            z = (x_hat + 0.5 * h * (slope + slope_next)) / path.scale(next);
        }
    }
    let plan = trace.finish(z).named(
        match method {
            OneStep::Euler => "euler along a path",
            OneStep::Heun => "heun along a path",
        },
        Some(schedule.clone()),
    );
    plan.validate()?;
    Ok(plan)
}

/// The state `z` as a source, and `d(s z)/dt` there.
fn slope(trace: &mut Trace, path: &Path, z: Expr, t: f64) -> (Expr, Expr) {
    let sigma = path.noise.sigma(t);
    let (z, denoised) = trace.eval(z, sigma);
    let growth = path.noise.sigma_derivative(t) / sigma;
    let scale = path.scale(t);
    let slope = (growth * scale + path.scale_derivative(t)) * &z - growth * scale * denoised;
    (z, slope)
}
