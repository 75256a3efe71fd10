//! The schedulers of diffusers that take noise levels, read from its version 0.42.1.
//!
//! Which those are, and what each does with what it is told, stands in docs/exports.md; `testdata/exports` runs them.

use fewstep_core::solver::Solver;

use super::Options;
use super::error::{Error, Result};
use super::levels::{decimal, joined, ramp_positions, with_zero};
use super::tool::Wanted;

/// A scheduler whose steps are those of one of our solvers on levels that it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Takes levels as they are.
    Euler,
    /// Takes positions on the rho = 7 ramp between its ends, and appends the 0.
    EdmEuler,
    /// Takes levels of flow matching, shifts them and appends the 0.
    FlowEuler,
    /// Takes timesteps, with fractions in spite of its signature, and appends the 0.
    Heun,
    /// Takes whole timesteps and appends the 0.
    DpmPp,
}

impl Scheduler {
    /// The Python class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Euler => "EulerDiscreteScheduler",
            Self::EdmEuler => "EDMEulerScheduler",
            Self::FlowEuler => "FlowMatchEulerDiscreteScheduler",
            Self::Heun => "HeunDiscreteScheduler",
            Self::DpmPp => "DPMSolverMultistepScheduler",
        }
    }

    /// Whether it steps like this solver, with a last step to 0.
    pub fn has(self, solver: Solver) -> bool {
        match self {
            Self::Euler | Self::EdmEuler | Self::FlowEuler => solver == Solver::Euler,
            Self::Heun => solver == Solver::Heun,
            // Its own lower order at the end begins a step later than the public toolbox's, and ours.
            Self::DpmPp => matches!(solver, Solver::DpmPp { lower_order_final: false, .. }),
        }
    }

    /// The levels that it has when told to have these.
    fn rounded(self, levels: &[f64], options: &Options) -> Vec<f64> {
        let table = options.betas.table();
        let round = |sigma: f64| match self {
            Self::Euler | Self::EdmEuler | Self::FlowEuler => sigma,
            Self::Heun => table.level(table.timestep(sigma)),
            Self::DpmPp => table.level(table.whole(sigma) as f64),
        };
        levels.iter().map(|sigma| round(*sigma)).collect()
    }

    /// Why it cannot have these levels.
    pub fn refuses(self, levels: &[f64], options: &Options) -> Option<String> {
        let rounded = self.rounded(levels, options);
        let (sigma, nearest) = levels.iter().zip(&rounded).find(|(a, b)| (*a / *b - 1.0).abs() > 1e-5)?;
        let (low, high) = options.betas.table().ends();
        let betas = &options.betas;
        let [sigma, nearest, low, high] = [*sigma, *nearest, low, high].map(decimal);
        Some(if self == Self::DpmPp {
            format!("its timesteps are whole numbers, which makes {nearest} of the noise level {sigma} (betas {betas})")
        } else {
            format!("the noise level {sigma} lies outside of the table {low} to {high} (betas {betas})")
        })
    }

    /// The levels nearest to these that it can have.
    ///
    /// # Errors
    /// If two of them become one.
    pub fn nearest(self, levels: &[f64], options: &Options) -> Result<Vec<f64>> {
        let rounded = self.rounded(levels, options);
        for (wanted, found) in levels.windows(2).zip(rounded.windows(2)) {
            if found[0] == found[1] {
                return Err(Error::LevelsBecomeOne {
                    tool: self.class().to_owned(),
                    levels: [wanted[0], wanted[1]],
                    became: found[0],
                    betas: options.betas.clone(),
                });
            }
        }
        Ok(rounded)
    }

    /// How to use the text in a pipeline, and what else has to be known.
    pub fn advice(self, levels: &[f64], options: &Options) -> String {
        let sigma = levels.first().copied().unwrap_or(1.0);
        let start = match self {
            Self::Euler | Self::EdmEuler | Self::Heun => sigma,
            Self::FlowEuler => flow(sigma),
            Self::DpmPp => sigma / sigma.hypot(1.0),
        };
        let told = self.told();
        let mut advice = format!(
            "in a pipeline: pipe.scheduler = scheduler, then pipe(..., {told}={told}); the plan starts from noise * {}",
            decimal(start)
        );
        let (low, high) = options.betas.table().ends();
        let outside = |sigma: f64| sigma < low * (1.0 - 1e-4) || sigma > high * (1.0 + 1e-4);
        if self == Self::Euler && levels.iter().any(|sigma| outside(*sigma)) {
            advice += &format!(
                "\nwarning: noise levels outside of the table {} to {} (betas {}) are used as they are, but the network \
                 is told the table's last timestep",
                decimal(low),
                decimal(high),
                options.betas
            );
        }
        if self.starts_late(levels, high) {
            advice += "\nwarning: a pipeline that does not call scheduler.set_begin_index(0) itself begins with the second of \
                       the levels that share that timestep: run these lines in a loop of your own";
        }
        advice
    }

    /// The argument that it is told levels by, of `set_timesteps` and of pipelines.
    fn told(self) -> &'static str {
        match self {
            Self::Euler | Self::EdmEuler | Self::FlowEuler => "sigmas",
            Self::Heun | Self::DpmPp => "timesteps",
        }
    }

    /// Whether it finds its place by a first timestep that two levels share, those at or above the table's last, and so would
    /// begin with the second.
    fn starts_late(self, levels: &[f64], top: f64) -> bool {
        self == Self::Euler && levels.iter().filter(|sigma| **sigma >= top).count() > 1
    }

    /// Python lines that make the scheduler of the model's own configuration, and give it the levels.
    pub fn write(self, wanted: &Wanted, options: &Options) -> String {
        let Wanted { levels, solver, .. } = wanted;
        let table = options.betas.table();
        let timesteps = |timestep: &dyn Fn(f64) -> f64| {
            format!("[{}]", joined(levels.iter().map(|sigma| decimal(timestep(*sigma))), ", "))
        };
        let (settings, value) = match self {
            Self::Euler => ("timestep_spacing=\"linspace\"".to_owned(), format!("[{}]", with_zero(levels, ", "))),
            Self::EdmEuler => {
                let positions = joined(ramp_positions(levels).into_iter().map(|r| format!("{r:.12}")), ", ");
                let [first, last] = [levels.first(), levels.last()].map(|end| decimal(end.copied().unwrap_or(1.0)));
                (
                    format!(
                        "sigma_min={last}, sigma_max={first}, rho=7.0, sigma_schedule=\"karras\", final_sigmas_type=\"zero\""
                    ),
                    // it calls a tensor's methods
                    format!("torch.tensor([{positions}], dtype=torch.float64)"),
                )
            }
            Self::FlowEuler => {
                let sigmas = levels.iter().map(|sigma| decimal(unshifted(flow(*sigma), options.shift)));
                (
                    format!(
                        "shift={}, shift_terminal=None, use_dynamic_shifting=False, {OWN_LEVELS}, \
                         stochastic_sampling=False",
                        options.shift
                    ),
                    format!("[{}]", joined(sigmas, ", ")),
                )
            }
            Self::Heun => (
                format!("timestep_spacing=\"linspace\", {OWN_LEVELS}, clip_sample=False"),
                timesteps(&|sigma| table.timestep(sigma)),
            ),
            Self::DpmPp => {
                let order = if let Solver::DpmPp { order, .. } = solver { *order } else { 2 };
                (
                    format!(
                        "algorithm_type=\"dpmsolver++\", solver_type=\"midpoint\", solver_order={order}, \
                         lower_order_final=False, euler_at_final=False, final_sigmas_type=\"zero\", {OWN_LEVELS}, \
                         use_lu_lambdas=False, use_flow_sigmas=False, thresholding=False"
                    ),
                    timesteps(&|sigma| table.whole(sigma) as f64),
                )
            }
        };
        let (class, told) = (self.class(), self.told());
        let torch = if self == Self::EdmEuler { "import torch\n" } else { "" };
        let mut text = format!(
            "# given: scheduler (the model's own, such as pipe.scheduler), device\n\
             {torch}from diffusers import {class}\n\
             {told} = {value}\n\
             scheduler = {class}.from_config(scheduler.config, {settings})\n\
             scheduler.set_timesteps({told}={told}, device=device)\n"
        );
        if self.starts_late(levels, table.ends().1) {
            text += "scheduler.set_begin_index(0)\n";
        }
        text
    }
}

/// Switches that would replace the levels.
const OWN_LEVELS: &str = "use_karras_sigmas=False, use_exponential_sigmas=False, use_beta_sigmas=False";

/// The level s of flow matching, `x = (1 - s) y + s n`, that has the signal-to-noise ratio of sigma.
fn flow(sigma: f64) -> f64 {
    sigma / (1.0 + sigma)
}

/// What a shift by `k`, `k s / (1 + (k - 1) s)`, makes into `s`.
fn unshifted(s: f64, k: f64) -> f64 {
    s / (k - (k - 1.0) * s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_undone() {
        for k in [1.0, 3.0, 0.5] {
            for sigma in [80.0, 1.0, 0.002] {
                let s = unshifted(flow(sigma), k);
                let back = k * s / (1.0 + (k - 1.0) * s);
                assert!((back / (1.0 - back) / sigma - 1.0).abs() < 1e-9);
            }
        }
    }
}
