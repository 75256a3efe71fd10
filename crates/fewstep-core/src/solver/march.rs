//! The frame that every solver shares: walk down the levels, evaluate, step.

use super::{LastStep, SolverError, SolverOptions};
use crate::plan::Plan;
use crate::trace::{Expr, Trace};

/// A point of the trajectory where the denoiser is known.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// Noise level.
    pub sigma: f64,
    /// State.
    pub x: Expr,
    /// `D(x; sigma)`, or what stands for it in an analytical first step.
    pub denoised: Expr,
}

impl Point {
    /// `dx/dsigma = (x - D) / sigma` (Eq. 6).
    pub fn slope(&self) -> Expr {
        (&self.x - &self.denoised) / self.sigma
    }

    /// `-log sigma`, the half log-SNR in which exponential integrators step.
    pub fn lambda(&self) -> f64 {
        -self.sigma.ln()
    }

    /// The slope `x / sqrt(1 + sigma^2)` of unit normal data, without an evaluation.
    fn analytical(x: Expr, sigma: f64) -> Self {
        let denoised = &x * (1.0 - sigma / sigma.hypot(1.0));
        Self { sigma, x, denoised }
    }

    /// The evaluated point.
    pub fn evaluated(trace: &mut Trace, x: Expr, sigma: f64) -> Self {
        let (x, denoised) = trace.eval(x, sigma);
        Self { sigma, x, denoised }
    }
}

/// One step, as a solver sees it.
pub(super) struct Step<'a> {
    /// All points so far, oldest first; never empty, and the last is where the step starts.
    pub history: &'a [Point],
    /// The level to step to.
    pub next: f64,
    /// Steps to take after this one before the last level is reached.
    pub remaining: usize,
}

impl Step<'_> {
    /// The point the step starts from.
    pub fn current(&self) -> &Point {
        &self.history[self.history.len() - 1]
    }

    /// The `k`-th point before the current one.
    pub fn back(&self, k: usize) -> &Point {
        &self.history[self.history.len() - 1 - k]
    }

    /// The newest points, at most `count`, newest first.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = &Point> + Clone {
        self.history.iter().rev().take(count)
    }
}

/// Evaluates at every level but the last and lets `step` make the state at the next one; then ends as the options say.
///
/// `step` gets the tape, for solvers that evaluate between levels.
pub(super) fn march(
    levels: &[f64],
    options: &SolverOptions,
    mut step: impl FnMut(&mut Trace, &Step) -> Expr,
) -> Result<Plan, SolverError> {
    let too_few = SolverError::TooFewLevels { levels: levels.len() };
    if options.analytical_first_step && levels.len() < 2 {
        return Err(too_few);
    }
    let mut trace = Trace::new();
    let mut x = trace.latent() * levels[0];
    let mut history = Vec::with_capacity(levels.len());
    for (i, pair) in levels.windows(2).enumerate() {
        history.push(if i == 0 && options.analytical_first_step {
            Point::analytical(x, pair[0])
        } else {
            Point::evaluated(&mut trace, x, pair[0])
        });
        x = step(&mut trace, &Step { history: &history, next: pair[1], remaining: levels.len() - 2 - i });
    }
    if options.last_step == LastStep::ToZero {
        x = trace.eval(x, levels[levels.len() - 1]).1;
    }
    if trace.evaluations() == 0 { Err(too_few) } else { Ok(trace.finish(x)) }
}
