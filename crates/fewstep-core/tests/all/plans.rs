//! Plans: what every solver's plan must satisfy, for any schedule.

use fewstep_core::objective::induced_weights;
use fewstep_core::schedule::{Scale, SoftmaxIncrements, karras};
use fewstep_core::{LastStep, Plan, Schedule, Solver, SolverOptions, Source};
use proptest::prelude::*;

use crate::support::{distance, mixture, run};

/// Any strictly decreasing list of 3 to 9 levels between about 0.002 and 100.
fn schedules() -> impl Strategy<Value = Schedule> {
    (-6.0..-2.0_f64, prop::collection::vec(0.05..2.0_f64, 2..=8)).prop_map(|(last, gaps)| {
        let mut log = last;
        let mut levels = vec![log.exp()];
        for gap in gaps {
            log += gap;
            levels.push(log.exp());
        }
        levels.reverse();
        Schedule::new(levels).unwrap()
    })
}

fn solvers() -> impl Strategy<Value = Solver> {
    prop::sample::select(Solver::all())
}

fn options() -> impl Strategy<Value = SolverOptions> {
    (any::<bool>(), any::<bool>()).prop_map(|(zero, analytical_first_step)| {
        let last_step = if zero { LastStep::ToZero } else { LastStep::Stop };
        SolverOptions { last_step, analytical_first_step }
    })
}

proptest! {
    #[test]
    fn json_round_trips_exactly(schedule in schedules(), solver in solvers(), options in options()) {
        let plan = solver.plan(&schedule, &options).unwrap();
        let text = plan.to_json().unwrap();
        prop_assert_eq!(&Plan::from_json(&text).unwrap(), &plan);
        let nested: Vec<Plan> = serde_json::from_str(&format!("[{text}]")).unwrap();
        prop_assert_eq!(&nested[0], &plan);
    }

    #[test]
    fn unrolled_plans_make_the_same_image(schedule in schedules(), solver in solvers(), options in options()) {
        let plan = solver.plan(&schedule, &options).unwrap();
        let unrolled = plan.unrolled();
        prop_assert!(unrolled.validate().is_ok());
        for stage in &unrolled.stages {
            prop_assert!(stage.input.terms().all(|(source, _)| !matches!(source, Source::Input(_))));
        }
        let latent = [0.4, -1.3, 0.9, 0.1];
        let (a, b) = (run(&plan, &mixture(), &latent), run(&unrolled, &mixture(), &latent));
        let size = a.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        prop_assert!(distance(&a, &b) < 1e-8 * size, "{:?} {:?}", a, b);
    }

    /// On data that is a single point, D is constant and the flow a straight line: a solver has to be exact on it, whatever its order
    /// and its steps. (Convergence as steps become small asks for less; steps of a plan are long.)
    #[test]
    fn coefficients_sum_to_what_consistency_demands(schedule in schedules(), solver in solvers(), zero in any::<bool>()) {
        // the toolbox's order-4 weights do not sum to one on uneven steps; see its documentation
        prop_assume!(solver != Solver::IpndmV { order: 4 });
        let last_step = if zero { LastStep::ToZero } else { LastStep::Stop };
        let plan = solver.plan(&schedule, &SolverOptions { last_step, analytical_first_step: false }).unwrap();
        // coefficients of long extrapolations are large, and so is their rounding
        let (stop, scale) = (if zero { 0.0 } else { schedule.sigma_min() }, 1e-9 * schedule.sigma_max().max(1.0));
        // DEIS-tAB's quadrature, kept as published, is off in the fourth digit
        let tolerance = if solver.to_string().starts_with("deis_tab") { 1e-2 * scale / 1e-9 } else { scale };
        for (k, c) in plan.consistency(stop).into_iter().enumerate() {
            prop_assert!((c.latent[0] - c.latent[1]).abs() < tolerance, "{} stage {}: {:?}", solver, k, c);
            prop_assert!((c.outputs[0] - c.outputs[1]).abs() < tolerance, "{} stage {}: {:?}", solver, k, c);
        }
    }

    /// Eq. 8: the coefficients of an unrolled Euler plan are the weights that the schedule induces.
    #[test]
    fn euler_unrolls_to_equation_8(schedule in schedules()) {
        let stop = SolverOptions { last_step: LastStep::Stop, analytical_first_step: false };
        let unrolled = Solver::Euler.plan(&schedule, &stop).unwrap().unrolled();
        let a = induced_weights(&schedule);
        prop_assert_eq!(unrolled.nfe(), a.len());
        for (j, a) in a.iter().enumerate() {
            prop_assert!((unrolled.output.coefficient(Source::Output(j)) - a).abs() < 1e-13);
        }
        prop_assert!((unrolled.output.coefficient(Source::Latent) / schedule.sigma_min() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn any_theta_is_a_schedule(theta in prop::collection::vec(-6.0..6.0_f64, 1..12), log in any::<bool>()) {
        let scale = if log { Scale::Log } else { Scale::Linear };
        let increments = SoftmaxIncrements { scale, sigma_min: 0.002, sigma_max: 80.0 };
        let schedule = increments.sigmas(&theta).unwrap();
        prop_assert_eq!((schedule.len(), schedule.sigma_max(), schedule.sigma_min()), (theta.len() + 1, 80.0, 0.002));
        // the inverse finds theta again, up to the shift that softmax ignores
        let (again, found) = SoftmaxIncrements::from_schedule(&schedule, scale);
        prop_assert_eq!(again, increments);
        let mean = theta.iter().sum::<f64>() / theta.len() as f64;
        for (a, b) in found.iter().zip(&theta) {
            prop_assert!((a - (b - mean)).abs() < 1e-6, "{} is not {}", a, b - mean);
        }
    }

    #[test]
    fn rho_schedules_fall_strictly(n in 2..200_usize, rho in 0.5..40.0_f64, low in 1e-4..0.5_f64, high in 1.0..200.0_f64) {
        let schedule = karras(n, low, high, rho).unwrap();
        prop_assert!(schedule.levels().windows(2).all(|pair| pair[1] < pair[0]));
        prop_assert_eq!((schedule.sigma_max(), schedule.sigma_min()), (high, low));
    }
}

/// The analytical first step is one evaluation fewer and, on unit normal data, the step it stands for.
#[test]
fn the_analytical_first_step_is_exact_in_slope_for_unit_normal_data() {
    let schedule = karras(6, 0.002, 80.0, 7.0).unwrap();
    let data = fewstep_core::mixture::Mixture::gaussian(vec![0.0, 0.0], 1.0).unwrap();
    for solver in Solver::all() {
        let plan = |analytical_first_step| {
            let options = SolverOptions { analytical_first_step, ..SolverOptions::default() };
            solver.plan(&schedule, &options).unwrap()
        };
        assert_eq!(plan(true).nfe() + 1, plan(false).nfe(), "{solver}");
        // the slope x / sqrt(1 + sigma^2) against the exact x sigma / (1 + sigma^2): 8e-5 apart at sigma = 80
        let latent = [0.6, -1.0];
        let (a, b) = (run(&plan(true), &data, &latent), run(&plan(false), &data, &latent));
        assert!(distance(&a, &b) < 2e-2 * (1.0 + distance(&b, &[0.0, 0.0])), "{solver}: {a:?} {b:?}");
    }
}
