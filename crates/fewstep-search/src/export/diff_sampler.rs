//! The solvers of diff-sampler, read from its commit 68d5ce4 (`diff-solvers-main`); `testdata/exports/diff_sampler_check.py` runs them.

use fewstep_core::solver::{Basis, LastStep, Solver, Variant};

use super::levels::decimals;

/// The solver that is exported for this one: itself, or another of the same steps where the tool's code for it fails.
fn stand_in(solver: Solver) -> Solver {
    match solver {
        // with --max_order=1, where both are Euler's method, ipndm and ipndm_v fail in their second step
        Solver::Ipndm { order: 1 } | Solver::IpndmV { order: 1 } => Solver::Euler,
        // with --max_order=2, where both are variable-step Adams-Bashforth, rhoab fails in its third step
        Solver::Deis { order: 2, basis: Basis::Sigma } => Solver::IpndmV { order: 2 },
        solver => solver,
    }
}

/// Its name for a solver.
pub fn name(solver: Solver) -> &'static str {
    match stand_in(solver) {
        Solver::Euler => "euler",
        Solver::Heun => "heun",
        Solver::Dpm2 => "dpm",
        Solver::Ipndm { .. } => "ipndm",
        Solver::IpndmV { .. } => "ipndm_v",
        Solver::DpmPp { .. } => "dpmpp",
        Solver::UniPc { .. } => "unipc",
        Solver::Deis { .. } => "deis",
    }
}

/// Why it does not take this solver's steps on so many noise levels.
pub fn refuses(solver: Solver, levels: usize) -> Option<String> {
    match solver {
        _ if levels < 2 => Some("its code fails with a single noise level, whatever the solver".to_owned()),
        Solver::UniPc { order, .. } if levels <= order => Some(format!(
            "with {order} noise levels or fewer its {solver} corrects the last state too, which takes one evaluation more"
        )),
        // it makes weights for one slope more than --max_order, as soon as there are as many
        Solver::Deis { order: 3, basis: Basis::Sigma } if levels > 4 => {
            Some(format!("its code for {solver} fails with more than 4 noise levels"))
        }
        // for five slopes it makes none, and takes those of the step before
        Solver::Deis { order: 4, basis: Basis::Sigma } if levels > 5 => Some(format!(
            "with more than 5 noise levels its {solver} repeats the weights of the fourth step in all later ones"
        )),
        _ => None,
    }
}

/// Whether it clips the network's outputs, which plans do not.
pub fn clips(solver: Solver) -> bool {
    matches!(solver, Solver::DpmPp { .. } | Solver::UniPc { .. })
}

/// What its user has to know beside the options.
pub fn advice(solver: Solver) -> Option<String> {
    clips(solver).then(|| {
        format!(
            "warning: diff-sampler's {} clips the network's outputs, which the plan does not and no option switches off (dynamic \
             thresholding at s, the 0.995 quantile of a sample's absolute values or 1 if that is more, and division by s): outputs within \
             [-1, 1] stay as they are, and others, such as latents, become different images",
            name(solver)
        )
    })
}

/// Its options. It counts levels, stops at the last, and has a switch for a last step to 0.
pub fn write(levels: &[f64], solver: Solver, last_step: LastStep) -> String {
    let form = match stand_in(solver) {
        Solver::Ipndm { order } | Solver::IpndmV { order } => format!(" --max_order={order}"),
        Solver::Deis { order, basis } => {
            let basis = if basis == Basis::Time { "tab" } else { "rhoab" };
            format!(" --max_order={order} --deis_mode={basis}")
        }
        Solver::DpmPp { order, lower_order_final } => {
            let last = if lower_order_final { "True" } else { "False" };
            format!(" --max_order={order} --predict_x0=True --lower_order_final={last}")
        }
        Solver::UniPc { order, variant } => {
            let variant = if variant == Variant::Bh1 { "bh1" } else { "bh2" };
            format!(" --max_order={order} --predict_x0=True --lower_order_final=True --variant={variant}")
        }
        Solver::Euler | Solver::Heun | Solver::Dpm2 => String::new(),
    };
    let last = if last_step == LastStep::ToZero { " --denoise_to_zero=True" } else { "" };
    let (name, steps) = (name(solver), decimals(levels).join(","));
    format!("--solver={name} --num_steps={} '--t_steps=[{steps}]'{form}{last}\n", levels.len())
}

#[cfg(test)]
mod tests {
    use fewstep_core::schedule::karras;
    use fewstep_core::solver::SolverOptions;

    use super::*;

    fn solver(name: &str) -> Solver {
        name.parse().unwrap()
    }

    /// What its code did on 1 to 8 levels: see `testdata/exports/diff_sampler_check.py`.
    #[test]
    fn what_its_code_does_otherwise_is_refused() {
        for solver in Solver::all() {
            let taken: Vec<usize> = (1..=8).filter(|levels| refuses(solver, *levels).is_none()).collect();
            let expected = match solver.to_string().as_str() {
                "unipc2_bh1" | "unipc2_bh2" => 3..=8,
                "unipc3_bh1" | "unipc3_bh2" => 4..=8,
                "deis_rhoab3" => 2..=4,
                "deis_rhoab4" => 2..=5,
                _ => 2..=8,
            };
            assert_eq!(taken, expected.collect::<Vec<_>>(), "{solver}");
        }
    }

    /// Where its own code fails, what is exported instead has the same coefficients.
    #[test]
    fn a_stand_in_takes_the_same_steps() {
        let schedule = karras(7, 0.002, 80.0, 7.0).unwrap();
        let mut found = Vec::new();
        for solver in Solver::all().into_iter().filter(|solver| stand_in(*solver) != *solver) {
            for last_step in [LastStep::ToZero, LastStep::Stop] {
                let options = SolverOptions { last_step, analytical_first_step: false };
                let [ours, theirs] =
                    [solver, stand_in(solver)].map(|solver| solver.plan(&schedule, &options).unwrap().unrolled());
                let states = |plan: &fewstep_core::Plan| {
                    plan.stages.iter().map(|stage| stage.input.clone()).chain([plan.output.clone()]).collect::<Vec<_>>()
                };
                for (a, b) in states(&ours).iter().zip(&states(&theirs)) {
                    for (source, c) in a.terms().chain(b.terms()) {
                        let near = (a.coefficient(source) - b.coefficient(source)).abs() < 1e-9 * (1.0 + c.abs());
                        assert!(near, "{solver}: {source}");
                    }
                }
            }
            found.push(solver.to_string());
        }
        assert_eq!(found, ["ipndm1", "ipndm_v1", "deis_rhoab2"]);
    }

    #[test]
    fn solvers_are_told_by_its_options() {
        for (name, text) in [
            ("euler", "--solver=euler --num_steps=2 '--t_steps=[80,1]'\n"),
            ("ipndm1", "--solver=euler --num_steps=2 '--t_steps=[80,1]'\n"),
            ("ipndm4", "--solver=ipndm --num_steps=2 '--t_steps=[80,1]' --max_order=4\n"),
            ("deis_rhoab2", "--solver=ipndm_v --num_steps=2 '--t_steps=[80,1]' --max_order=2\n"),
            ("deis_tab2", "--solver=deis --num_steps=2 '--t_steps=[80,1]' --max_order=2 --deis_mode=tab\n"),
        ] {
            assert_eq!(write(&[80.0, 1.0], solver(name), LastStep::Stop), text);
        }
    }
}
