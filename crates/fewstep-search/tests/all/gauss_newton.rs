//! Gauss-Newton refinement: exact where the target can be reached, and what it buys where it cannot.

use std::cell::Cell;
use std::convert::Infallible;

use fewstep_core::denoiser::{Levels, Oracle};
use fewstep_core::mixture::Mixture;
use fewstep_core::observe::Silent;
use fewstep_core::schedule::{ScheduleError, karras};
use fewstep_core::{Plan, Solver, SolverOptions, execute, one_by_one};
use fewstep_search::{
    Endpoints, Fit, GaussNewtonOptions, HeldOut, RefineError, Search, SearchSettings, StudentOptions, Teacher,
    gauss_newton, least_squares, refined,
};

use crate::support::{denoiser, images, latents, mixture, samples};

fn plan(solver: &str, n: usize) -> Plan {
    solver.parse::<Solver>().unwrap().plan(&karras(n, 0.05, 10.0, 7.0).unwrap(), &SolverOptions::default()).unwrap()
}

/// Every sample a vector of its own, so that they can be told apart.
fn apart(data: &Mixture) -> impl Fn(&Vec<Vec<f64>>, f64) -> Result<Vec<Vec<f64>>, Infallible> + Copy + '_ {
    |x, sigma| Ok(x.iter().map(|x| data.denoised(x, sigma)).collect())
}

fn options(rounds: usize) -> GaussNewtonOptions {
    GaussNewtonOptions { rounds, difference: 1e-5, sigma_range: (1e-3, 100.0), ..GaussNewtonOptions::default() }
}

/// The images of a plan nearby are reached again, to the last digits, from a plan that is a few per cent off everywhere.
#[test]
fn a_plan_that_can_be_reached_is_reached() {
    let data = mixture();
    for solver in ["euler", "ipndm3", "unipc2_bh2"] {
        for robust in [false, true] {
            let wanted = plan(solver, 4);
            let latent = samples(&data, 0, 24);
            let image = execute(&wanted, &latent, apart(&data)).unwrap();
            let ends = Endpoints { latent, mean: None, image, samples: 24 };
            let mut start = wanted.clone();
            for (k, stage) in start.stages.iter_mut().enumerate() {
                stage.sigma *= 1.0 + 0.03 * (k as f64 - 1.5);
                stage.input.terms_mut().for_each(|(_, c)| *c *= 1.0 - 0.02 * (k as f64 - 2.0));
            }
            let calls = Cell::new(0);
            let denoise = |x: &Vec<Vec<f64>>, sigma: f64| {
                calls.set(calls.get() + 1);
                apart(&data)(x, sigma)
            };
            let error = |plan: &Plan| ends.rollout_error(plan, apart(&data));
            let options = GaussNewtonOptions { robust, whole: usize::MAX, ..options(6) };
            let found = gauss_newton(&start, &ends, error, &options, one_by_one(denoise)).unwrap();
            let [before, after] = [&start, &found.plan].map(|plan| error(plan).unwrap());
            assert!(after < 1e-4 * before, "{solver}, robust {robust}: {before} to {after}");
            assert_eq!(found.evaluations, calls.get());
            assert!(found.errors.windows(2).all(|pair| pair[1] <= pair[0]), "{:?}", found.errors);
            // a round counts what comes before a coordinate has a say as known
            let most = 6 * (7 * 4 * 4 / 2 + 4 * 4);
            assert!(found.evaluations <= most, "{} of {most}", found.evaluations);
            found.plan.validate().unwrap();
        }
    }
}

/// What is left of the rollout error of fitted plans on 64-dimensional data, on latents that no search saw.
#[test]
fn fitted_plans_are_improved_together() {
    let data = images();
    let grid = karras(25, 0.002, 80.0, 7.0).unwrap();
    let heun = Solver::Heun.plan(&refined(&grid, 2).unwrap(), &SolverOptions::default()).unwrap();
    let ends = |first: u64, count: u64| {
        Endpoints::solve(&heun, samples(&data, first, count), count as usize, apart(&data)).unwrap()
    };
    let (training, others, held_out) = (ends(0, 48), ends(50_000, 48), ends(100_000, 150));
    let latent = latents(&data, 0, 48);
    let teacher =
        Teacher::solve(Solver::Heun, &refined(&grid, 2).unwrap(), &grid, latent, 48, denoiser(&data)).unwrap();
    let student = StudentOptions { most: 5, ..StudentOptions::default() };
    let fitted = least_squares(&teacher, &Fit::default(), &student, denoiser(&data)).unwrap().plans;
    for robust in [false, true] {
        let mut gain = 0.0;
        for found in &fitted[1..] {
            let options = GaussNewtonOptions { robust, sigma_range: (0.002, 80.0), ..options(1) };
            let decide = |plan: &Plan| others.mean_distance(plan, apart(&data));
            let refined = gauss_newton(&found.plan, &training, decide, &options, one_by_one(apart(&data))).unwrap();
            let error = |plan: &Plan| held_out.rollout_error(plan, apart(&data)).unwrap();
            let (before, after) = (error(&found.plan), error(&refined.plan));
            println!(
                "{} evaluations, robust {robust}: {before:.4} to {after:.4}, {} evaluations",
                found.plan.nfe(),
                refined.evaluations
            );
            gain += (before / after).ln() / fitted[1..].len() as f64;
            assert_eq!(Plan::from_json(&refined.plan.to_json().unwrap()).unwrap(), refined.plan);
            assert!(refined.plan.sigmas().iter().all(|sigma| (0.002..=80.0).contains(sigma)));
        }
        // the geometric mean over 2 to 5 evaluations; one latent of 150 that ends in another class is much of an error
        assert!(gain.exp() > 1.3, "{}", gain.exp());
    }
}

/// A level that is at an end of the range, or a last digit away from it, stays there: what a search finds does not hang on that digit.
#[test]
fn last_digits_of_the_range_do_not_matter() {
    let (mut top, mut rounded_down) = (79.9_f64, 0);
    let (settings, seeds) = (SearchSettings::default(), (0..100).collect::<Vec<u64>>());
    let mut found: Vec<Vec<f64>> = Vec::new();
    for _ in 0..8 {
        top = top.next_up();
        rounded_down += usize::from(top.ln().exp() < top);
        let denoiser = Oracle::new(mixture(), vec![2], Levels::between(0.002, top));
        let held_out = HeldOut::new(&denoiser, &settings.teacher, &seeds, &Silent).unwrap();
        let search = Search::new(&denoiser, &settings, &Silent).unwrap();
        let errors = |name: &str| {
            let plans = search.find(&name.parse().unwrap(), &[3, 5]).unwrap().plans.into_values();
            plans.map(|plan| held_out.rollout_error(&denoiser, &plan, &Silent).unwrap()).collect::<Vec<f64>>()
        };
        let (plain, refined) = (errors("karras/euler"), errors("karras/euler+gauss-newton"));
        assert!(refined[1] < 0.3 * plain[1], "{plain:?} {refined:?}");
        found.push([refined, errors("karras/ipndm2+gauss-newton")].concat());
    }
    assert!((1..8).contains(&rounded_down), "both kinds of ends are tried: {rounded_down} of 8 are rounded down");
    for errors in &found {
        assert!(errors.iter().zip(&found[0]).all(|(a, b)| (a / b - 1.0).abs() < 1e-6), "{found:?}");
    }
}

/// Where one sample of two is 3 away and the other 1, in each of 4 values.
#[test]
fn the_mean_distance_counts_every_sample_as_far_as_it_is() {
    let plan = plan("euler", 2);
    let latent = vec![vec![1.0, -2.0, 0.5, 3.0]; 2];
    let towards = |_: &Vec<Vec<f64>>, _: f64| Ok::<_, Infallible>(vec![vec![0.25; 4]; 2]);
    let ends = Endpoints::solve(&plan, latent, 2, towards).unwrap();
    let off = |_: &Vec<Vec<f64>>, _: f64| Ok::<_, Infallible>(vec![vec![3.25; 4], vec![-0.75; 4]]);
    let moved = ends.mean_distance(&plan, off).unwrap();
    let squared = ends.rollout_error(&plan, off).unwrap();
    // a constant denoiser's image is the constant and what is left of the latent, which is the same for both
    let share = (squared / 20.0).sqrt();
    assert!(share > 0.99 && (moved - 4.0 * share).abs() < 1e-9, "{moved} {squared}");
}

#[test]
fn networks_that_fail_say_so() {
    let data = mixture();
    let ends = Endpoints { latent: samples(&data, 0, 3), mean: None, image: samples(&data, 9, 3), samples: 3 };
    for sigma_range in [(100.0, 1e-3), (f64::NAN, 100.0)] {
        let options = GaussNewtonOptions { sigma_range, ..options(2) };
        let refused = gauss_newton(&plan("euler", 3), &ends, |_| Ok(1.0), &options, one_by_one(apart(&data)));
        assert!(matches!(refused, Err(RefineError::Schedule(ScheduleError::Range { .. }))), "{refused:?}");
    }
    let broken = |_: &Vec<Vec<f64>>, _: f64| Err("out of memory");
    let failed = gauss_newton(&plan("euler", 3), &ends, |_| Ok(1.0), &options(2), one_by_one(broken));
    assert_eq!(failed, Err(RefineError::Denoiser("out of memory")));
    // a network of NaN leaves the plan as it is
    let nan = |x: &Vec<Vec<f64>>, _: f64| Ok::<_, &str>(x.iter().map(|x| vec![f64::NAN; x.len()]).collect());
    let same = gauss_newton(&plan("euler", 3), &ends, |_| Ok(1.0), &options(2), one_by_one(nan)).unwrap();
    assert_eq!(same.plan.stages, plan("euler", 3).stages);
}
