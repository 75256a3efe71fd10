//! GITS's search against all paths.

use std::cell::Cell;
use std::convert::Infallible;

use fewstep_core::mixture::Mixture;
use fewstep_core::{LastStep, Solver};
use fewstep_search::{CostMetric, StepCosts, Teacher, refined};

use crate::support::{distance, mixture, samples};

use super::*;

/// Where a step leads: a level of the grid, or the image.
#[derive(Clone, Copy)]
enum End {
    Level(usize),
    Image,
}

/// GITS's cost of a single Euler step in two dimensions, from its definition sample by sample; `end` is where the
/// teacher's trajectories end. In the plane, the distance from a line is a cross product.
fn step_cost(
    data: &Mixture,
    teacher: &Teacher<Vec<Vec<f64>>>,
    metric: CostMetric,
    i: usize,
    to: End,
    end: &[Vec<f64>],
) -> f64 {
    let (sigma, states) = (grid().levels()[i], teacher.states());
    let cost = |k: usize| {
        let x = &states[i][k];
        let d = data.denoised(x, sigma);
        let (sigma_to, target) = match to {
            End::Level(j) => (grid().levels()[j], &states[j][k]),
            End::Image => (0.0, &teacher.ends().image[k]),
        };
        let reached: Vec<f64> = (0..2).map(|c| x[c] + (sigma_to - sigma) * (x[c] - d[c]) / sigma).collect();
        let (from, until) = (&states[0][k], &end[k]);
        let off = |p: &[f64]| {
            let cross = (until[0] - from[0]) * (p[1] - from[1]) - (until[1] - from[1]) * (p[0] - from[0]);
            cross.abs() / distance(until, from)
        };
        match metric {
            CostMetric::L1 => (reached[0] - target[0]).abs() + (reached[1] - target[1]).abs(),
            CostMetric::L2 => distance(&reached, target),
            CostMetric::Deviation => off(&reached) - off(target),
        }
    };
    (0..end.len()).map(cost).sum::<f64>() / end.len() as f64
}

#[test]
fn gits_is_the_least_of_all_paths() {
    let data = mixture();
    let count = 5;
    let latent = samples(&data, 3, count);
    let denoise =
        |x: &Vec<Vec<f64>>, sigma: f64| Ok::<_, Infallible>(x.iter().map(|x| data.denoised(x, sigma)).collect());
    let fine = refined(&grid(), 3).unwrap();
    let teacher = Teacher::solve(Solver::Heun, &fine, &grid(), latent, count as usize, denoise).unwrap();
    for last_step in LAST_STEPS {
        let (last, end) = match last_step {
            LastStep::ToZero => (End::Image, &teacher.ends().image),
            LastStep::Stop => (End::Level(LEVELS - 1), &teacher.states()[LEVELS - 1]),
        };
        for (metric, coefficient) in
            [(CostMetric::L1, 1.0), (CostMetric::L2, 1.15), (CostMetric::Deviation, 1.15), (CostMetric::Deviation, 0.8)]
        {
            let of = |path: &[usize]| -> f64 {
                let ends = path[1..].iter().map(|&j| End::Level(j)).chain([last]);
                let steps = path.iter().zip(ends).enumerate();
                let cost = |(m, (&i, to)): (usize, (&usize, End))| {
                    f64::powi(coefficient, m as i32) * step_cost(&data, &teacher, metric, i, to, end)
                };
                steps.map(cost).sum()
            };
            let calls = Cell::new(0);
            let counted = |x: &Vec<Vec<f64>>, sigma: f64| {
                calls.set(calls.get() + 1);
                denoise(x, sigma)
            };
            let costs = StepCosts::measure(&teacher, metric, last_step, counted).unwrap();
            let outcome = costs.search(5, coefficient, Solver::Ipndm { order: 2 }).unwrap();
            assert_eq!(outcome.plans.len(), 5);
            check(&outcome, last_step, calls.get());
            for found in &outcome.plans {
                let least = paths(found.path.len(), last_step).iter().map(|p| of(p)).fold(f64::INFINITY, f64::min);
                assert!((found.error - least).abs() < 1e-9, "{metric:?} {last_step:?} {:?}", found.path);
                assert!((of(&found.path) - least).abs() < 1e-9);
                assert_eq!(found.plan.solver, "ipndm2");
            }
        }
    }
}
