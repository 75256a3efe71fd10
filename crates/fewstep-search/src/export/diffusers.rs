//! The schedulers of diffusers that take noise levels, read from its version 0.42.1.
//!
//! Which those are, and what each does with what it is told, stands in docs/exports.md; `testdata/exports` runs them.

use fewstep_core::solver::Solver;

use super::Options;
use super::error::Result;
use super::levels::{check_apart, decimal, decimals, ramp_positions, time, with_zero, written_positions};
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
        check_apart(self.class(), levels, &rounded, Some(&options.betas))?;
        Ok(rounded)
    }

    /// The numbers that it is told for these levels.
    ///
    /// # Errors
    /// If two of them are one.
    fn counted(self, levels: &[f64], options: &Options) -> Result<Vec<f64>> {
        let table = options.betas.table();
        let counted = match self {
            Self::Euler => levels.to_vec(),
            Self::EdmEuler => ramp_positions(levels),
            Self::FlowEuler => levels.iter().map(|sigma| unshifted(time(*sigma), options.shift)).collect(),
            Self::Heun => levels.iter().map(|sigma| table.timestep(*sigma)).collect(),
            Self::DpmPp => levels.iter().map(|sigma| table.whole(*sigma) as f64).collect(),
        };
        let betas = self.has_timesteps().then_some(&options.betas);
        check_apart(self.class(), levels, &counted, betas)?;
        Ok(counted)
    }

    /// How to use the text in a pipeline, and what else has to be known.
    pub fn advice(self, levels: &[f64], options: &Options) -> String {
        let sigma = levels.first().copied().unwrap_or(1.0);
        let start = match self {
            Self::Euler | Self::EdmEuler | Self::Heun => sigma,
            Self::FlowEuler => time(sigma),
            Self::DpmPp => sigma / sigma.hypot(1.0),
        };
        let told = self.told();
        let mut advice = format!(
            "in a pipeline: pipe.scheduler = scheduler, then pipe(..., {told}={told}); the plan starts from noise * {}",
            decimal(start)
        );
        if self.has_timesteps() {
            advice += &format!(
                "\nthe timesteps are those of the betas {} as they stand: they hold for models whose \
                 scheduler.config has rescale_betas_zero_snr=False, or does not have it",
                options.betas
            );
        }
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
        if self.has_timesteps() { "timesteps" } else { "sigmas" }
    }

    /// Whether it is told timesteps of the noise table.
    fn has_timesteps(self) -> bool {
        matches!(self, Self::Heun | Self::DpmPp)
    }

    /// Whether it finds its place by a first timestep that two levels share, those at or above the table's last, and so would
    /// begin with the second.
    fn starts_late(self, levels: &[f64], top: f64) -> bool {
        self == Self::Euler && levels.iter().filter(|sigma| **sigma >= top).count() > 1
    }

    /// Python lines that make the scheduler of the model's own configuration, and give it the levels.
    ///
    /// # Errors
    /// If two levels are one to it.
    pub fn write(self, wanted: &Wanted, options: &Options) -> Result<String> {
        let Wanted { levels, solver, .. } = wanted;
        let counted = self.counted(levels, options)?;
        let list = format!("[{}]", decimals(&counted).join(", "));
        let (settings, value) = match self {
            Self::Euler => ("timestep_spacing=\"linspace\"".to_owned(), format!("[{}]", with_zero(&counted, ", "))),
            Self::EdmEuler => {
                let positions = written_positions(&counted).join(", ");
                let ends = decimals(levels);
                let [first, last] = [ends.first(), ends.last()].map(|end| end.map_or("1", String::as_str));
                (
                    format!(
                        "sigma_min={last}, sigma_max={first}, rho=7.0, sigma_schedule=\"karras\", final_sigmas_type=\"zero\""
                    ),
                    // it calls a tensor's methods
                    format!("torch.tensor([{positions}], dtype=torch.float64)"),
                )
            }
            Self::FlowEuler => (
                format!(
                    "shift={}, shift_terminal=None, use_dynamic_shifting=False, {OWN_LEVELS}, \
                     stochastic_sampling=False",
                    options.shift
                ),
                list,
            ),
            Self::Heun => (format!("timestep_spacing=\"linspace\", {OWN_LEVELS}, clip_sample=False"), list),
            Self::DpmPp => {
                let order = if let Solver::DpmPp { order, .. } = solver { *order } else { 2 };
                (
                    format!(
                        "algorithm_type=\"dpmsolver++\", solver_type=\"midpoint\", solver_order={order}, \
                         lower_order_final=False, euler_at_final=False, final_sigmas_type=\"zero\", {OWN_LEVELS}, \
                         use_lu_lambdas=False, use_flow_sigmas=False, thresholding=False"
                    ),
                    list,
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
        if self.starts_late(levels, options.betas.table().ends().1) {
            text += "scheduler.set_begin_index(0)\n";
        }
        Ok(text)
    }
}

/// Switches that would replace the levels.
const OWN_LEVELS: &str = "use_karras_sigmas=False, use_exponential_sigmas=False, use_beta_sigmas=False";

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
                let s = unshifted(time(sigma), k);
                let back = k * s / (1.0 + (k - 1.0) * s);
                assert!((back / (1.0 - back) / sigma - 1.0).abs() < 1e-9);
            }
        }
    }
}
