//! The order of accuracy of every solver, measured on exact flows and compared with what it declares.

use std::convert::Infallible;

use fewstep_core::schedule::{Discretization, Path, Scaling, karras};
use fewstep_core::solver::{OneStep, along_path};
use fewstep_core::{LastStep, Parameterisation, Plan, Schedule, Solver, SolverOptions, Source, execute};

use crate::parameterisations::{self, Dressed};
use crate::support::{distance, flow, from_gaps, gaussian, mixture, run};
use fewstep_core::mixture::Mixture;

const STOP: SolverOptions = SolverOptions { last_step: LastStep::Stop, analytical_first_step: false };

/// A range in which the data's scales lie, so that few steps reach the limit of many.
const FROM: f64 = 2.0;
const TO: f64 = 0.2;

fn global_error(plan: &Plan, mixture: &Mixture) -> f64 {
    error_of(mixture, |latent| run(plan, mixture, latent))
}

fn error_of(mixture: &Mixture, sampled: impl Fn(&[f64]) -> Vec<f64>) -> f64 {
    let latent: Vec<f64> = [0.7, -1.1, 0.4].into_iter().take(mixture.dim()).collect();
    let start: Vec<f64> = latent.iter().map(|v| v * FROM).collect();
    distance(&sampled(&latent), &flow(mixture, &start, FROM, TO))
}

/// The slope of log error over log steps, from the last doubling.
fn measured(error: impl Fn(usize) -> f64) -> f64 {
    (error(160) / error(320)).log2()
}

#[test]
fn whole_trajectories_converge_at_the_declared_order() {
    for data in [gaussian(), mixture()] {
        for solver in Solver::all() {
            let order = measured(|steps| {
                let schedule = karras(steps + 1, TO, FROM, 3.0).unwrap();
                global_error(&solver.plan(&schedule, &STOP).unwrap(), &data)
            });
            let declared = solver.global_order() as f64;
            assert!(order > declared - 0.1, "{solver} declares order {declared} and has {order:.2}");
            if matches!(solver, Solver::Euler | Solver::Heun | Solver::Dpm2) {
                assert!(order < declared + 0.1, "{solver} declares order {declared} and has {order:.2}");
            }
        }
    }
}

/// What a network predicts and is told changes no order.
#[test]
fn orders_hold_in_every_parameterisation() {
    let data = gaussian();
    let networks = parameterisations::continuous();
    for solver in Solver::all() {
        let plan = |steps| solver.plan(&karras(steps + 1, TO, FROM, 3.0).unwrap(), &STOP).unwrap();
        let plans = [160, 320].map(|steps| (steps, plan(steps)));
        for network in &networks {
            let dressed = Dressed { network: network.clone(), data: &data };
            let denoise = |x: &Vec<f64>, sigma: f64| Ok::<_, Infallible>(dressed.denoised(x, sigma));
            let order = measured(|steps| {
                let (_, plan) = plans.iter().find(|(of, _)| *of == steps).unwrap();
                error_of(&data, |latent| execute(plan, &latent.to_vec(), denoise).unwrap())
            });
            let declared = solver.global_order() as f64;
            assert!(order > declared - 0.1, "{solver} declares {declared} and has {order:.2} in {network:?}");
        }
    }
}

/// Karras et al.'s other paths bend the steps, not the answer.
#[test]
fn paths_do_not_change_the_order() {
    let network = Parameterisation::EDM;
    let paths = [
        Path::default(),
        Path { scaling: Scaling::Vp, ..Path::default() },
        Discretization::Edm.vp_path(&network, Scaling::Vp).unwrap(),
        Discretization::Edm.vp_path(&network, Scaling::None).unwrap(),
    ];
    for path in paths {
        for (method, declared) in [(OneStep::Euler, 1.0), (OneStep::Heun, 2.0)] {
            let order = measured(|steps| {
                let schedule = karras(steps + 1, TO, FROM, 3.0).unwrap();
                global_error(&along_path(method, &path, &schedule, &STOP).unwrap(), &mixture())
            });
            assert!((order - declared).abs() < 0.2, "{method:?} along {path:?} has order {order:.2}");
        }
    }
}

#[test]
fn the_default_path_is_the_plain_solver() {
    let schedule = karras(7, 0.002, 80.0, 7.0).unwrap();
    for (method, solver) in [(OneStep::Euler, Solver::Euler), (OneStep::Heun, Solver::Heun)] {
        for options in [STOP, SolverOptions::default()] {
            let along = along_path(method, &Path::default(), &schedule, &options).unwrap();
            let plain = solver.plan(&schedule, &options).unwrap();
            assert_eq!(along.sigmas(), plain.sigmas());
            let latent = [0.3, -1.0];
            let (a, b) = (run(&along, &mixture(), &latent), run(&plain, &mixture(), &latent));
            assert!(distance(&a, &b) < 1e-12, "{solver}");
        }
    }
}

/// The error of the step into level `k` when everything before it is exact.
fn one_step_error(solver: Solver, schedule: &Schedule, k: usize) -> f64 {
    let data = gaussian();
    let start = [2.0, -1.5, 0.8];
    let exact = |j: usize| flow(&data, &start, schedule.sigma_max(), schedule.levels()[j]);
    if solver.evaluations_per_step() > 1 {
        let two = Schedule::new(schedule.levels()[k - 1..=k].to_vec()).unwrap();
        let latent: Vec<f64> = exact(k - 1).iter().map(|x| x / two.sigma_max()).collect();
        return distance(&run(&solver.plan(&two, &STOP).unwrap(), &data, &latent), &exact(k));
    }
    let plan = solver.plan(schedule, &STOP).unwrap();
    let mut state = vec![0.0; 3];
    for (source, c) in plan.stages[k].input.terms() {
        let value = match source {
            Source::Input(j) => exact(j),
            Source::Output(j) => data.denoised(&exact(j), schedule.levels()[j]),
            _ => start.iter().map(|x| x / schedule.sigma_max()).collect(),
        };
        state.iter_mut().zip(value).for_each(|(s, v)| *s += c * v);
    }
    distance(&state, &exact(k))
}

/// The order of one step of a shape of steps: the exponent of its error, less one.
fn one_step_order(solver: Solver, shape: [f64; 7]) -> f64 {
    // as many points behind the step as a multistep formula of its order takes, and as many steps to come
    let k = solver.order().max(4);
    let error = |h: f64| {
        let gaps: Vec<f64> = shape.iter().cycle().take(k + 3).map(|gap| gap * h).collect();
        one_step_error(solver, &from_gaps(0.4, &gaps), k)
    };
    // small enough to be in the limit, large enough for an error of h^(order + 1) to stay above rounding
    let h = match solver.order() {
        0..=2 => 0.001,
        3 => 0.002,
        4 => 0.005,
        order => 1e-14_f64.powf(1.0 / (order + 1) as f64),
    };
    (error(h) / error(h / 2.0)).log2() - 1.0
}

const EQUAL: [f64; 7] = [1.0; 7];
const UNEVEN: [f64; 7] = [1.0, 1.4, 0.8, 1.1, 0.9, 1.0, 1.2];

#[test]
fn one_step_from_exact_history_has_the_declared_order() {
    for solver in Solver::all() {
        let declared = solver.order() as f64;
        // symmetry may add an order on equal steps, as it does for UniPC
        let equal = one_step_order(solver, EQUAL);
        assert!(equal > declared - 0.25, "{solver} declares {declared} and has {equal:.2} on equal steps");
        let uneven = one_step_order(solver, UNEVEN);
        let measured = if solver.needs_equal_steps() { equal } else { uneven };
        assert!((measured - declared).abs() < 0.25, "{solver} declares {declared} and has {measured:.2}");
        assert!(!solver.needs_equal_steps() || uneven < declared - 0.5, "{solver} has {uneven:.2} on uneven steps");
    }
}

/// What the documentation says of the weights of equal steps on uneven ones, and of the toolbox's variable weights.
#[test]
fn ipndm_on_uneven_steps_is_as_documented() {
    for (name, documented) in [("ipndm2", 1.0), ("ipndm3", 1.0), ("ipndm4", 1.0), ("ipndm_v3", 2.0), ("ipndm_v4", 0.0)]
    {
        let order = one_step_order(name.parse().unwrap(), UNEVEN);
        assert!((order - documented).abs() < 0.3, "{name} has {order:.2}");
    }
}
