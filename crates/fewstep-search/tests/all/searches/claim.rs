//! The comparison that the project stands on.

use std::convert::Infallible;

use fewstep_core::plan::Constant;
use fewstep_core::schedule::karras;
use fewstep_core::{Plan, Solver, SolverOptions};
use fewstep_search::{
    CostMetric, Endpoints, Fit, MeanPrediction, Outcome, StepCosts, StudentOptions, Teacher, least_squares, oss,
    refined,
};

use crate::support::{denoiser, images, latents, samples};

use super::*;

/// The mean of outputs on data of so many dimensions, as a constant image and repeated.
pub fn mean_prediction(outputs: &[f64], dim: usize, samples: usize) -> MeanPrediction<Vec<f64>> {
    let count = (outputs.len() / dim) as f64;
    let mean: Vec<f64> = (0..dim).map(|d| outputs.iter().skip(d).step_by(dim).sum::<f64>() / count).collect();
    let image = mean.iter().map(|value| *value as f32).collect();
    MeanPrediction {
        constant: Constant { sigma: 80.0, shape: vec![dim], samples: vec![image] },
        batch: mean.repeat(samples),
    }
}

/// The project's central claim, on latents that no search saw: 64 dimensions, ten classes, 5 steps.
#[test]
fn least_squares_beats_the_rivals_on_held_out_latents() {
    let data = images();
    let grid = karras(25, 0.002, 80.0, 7.0).unwrap();
    let fine = refined(&grid, 3).unwrap();
    let mut held_out = {
        let plan = Solver::Heun.plan(&fine, &SolverOptions::default()).unwrap();
        Endpoints::solve(&plan, latents(&data, 100_000, 200), 200, denoiser(&data)).unwrap()
    };
    let count = 128;
    let parts: Vec<Vec<f64>> = samples(&data, 0, count);
    let apart =
        |x: &Vec<Vec<f64>>, sigma: f64| Ok::<_, Infallible>(x.iter().map(|x| data.denoised(x, sigma)).collect());
    let samples = Teacher::solve(Solver::Heun, &fine, &grid, parts, count as usize, apart).unwrap();
    let teacher = Teacher::from_parts::<Infallible>(
        grid.clone(),
        samples.states().iter().map(|state| state.concat()).collect(),
        Endpoints {
            latent: samples.ends().latent.concat(),
            mean: None,
            image: samples.ends().image.concat(),
            samples: count as usize,
        },
        samples.evaluations(),
    )
    .unwrap();
    let outputs = data.denoised(&teacher.states()[0], grid.sigma_max());
    held_out.mean = Some(mean_prediction(&outputs, 64, 200));
    let error = |plan: &Plan| held_out.rollout_error(plan, denoiser(&data)).unwrap();
    let row = |name: &str, outcome: &Outcome| -> Vec<f64> {
        let errors: Vec<f64> = outcome.plans[2..8].iter().map(|found| error(&found.plan)).collect();
        let text: Vec<String> = errors.iter().map(|e| format!("{e:8.4}")).collect();
        println!("{name:42}{} {:6} evaluations", text.join(""), outcome.evaluations);
        errors
    };
    println!("held-out rollout error at 3 to 8 steps");
    let mut rivals = Vec::new();
    for name in ["euler", "ipndm4", "dpmpp3m", "unipc3_bh2"] {
        let solver: Solver = name.parse().unwrap();
        let plan = |n| solver.plan(&karras(n, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let errors: Vec<f64> = (3..=8).map(|n| error(&plan(n))).collect();
        println!("{:42}{}", format!("rho = 7, {name}"), errors.iter().map(|e| format!("{e:8.4}")).collect::<String>());
        rivals.push(errors);
    }
    for metric in [CostMetric::Deviation, CostMetric::L2] {
        for last_step in LAST_STEPS {
            let costs = StepCosts::measure(&samples, metric, last_step, apart).unwrap();
            for (solver, coefficient) in [("euler", 1.0), ("euler", 1.15), ("ipndm4", 1.0), ("ipndm4", 1.15)] {
                let outcome = costs.search(8, coefficient, solver.parse().unwrap()).unwrap();
                rivals.push(row(&format!("GITS {solver} {metric:?} {coefficient} {last_step:?}"), &outcome));
            }
        }
    }
    for beam in [1, 2] {
        let options = StudentOptions { most: 8, beam, ..StudentOptions::default() };
        // the rival as it is published, and no less
        let every = StudentOptions { gain: f64::NEG_INFINITY, ..options };
        let mut reached = Vec::new();
        for solver in ["euler", "ipndm4", "dpmpp3m_nolof"] {
            let outcome = oss(&teacher, solver.parse().unwrap(), &every, denoiser(&data)).unwrap();
            reached.push(row(&format!("oss {solver}, beam {beam}"), &outcome));
        }
        for history in 1..=3 {
            let fit = Fit { history, ..Fit::default() };
            let outcome = least_squares(&teacher, &fit, &options, denoiser(&data)).unwrap();
            let ours = row(&format!("least squares {history}, beam {beam}"), &outcome);
            // at 5 steps: a third of Euler on its best levels, and below everything else with the same beam
            assert!(ours[2] < reached[0][2] / 2.5, "{} {}", ours[2], reached[0][2]);
            for rival in rivals.iter().chain(&reached) {
                assert!(ours[2] < rival[2], "{} {}", ours[2], rival[2]);
            }
        }
        let leaping = teacher.clone().with_mean(mean_prediction(&outputs, 64, count as usize), 1);
        let outcome = least_squares(&leaping, &Fit::default(), &options, denoiser(&data)).unwrap();
        let leaps = row(&format!("constant image, least squares 3, beam {beam}"), &outcome);
        let plain = least_squares(&teacher, &Fit::default(), &options, denoiser(&data)).unwrap();
        // a constant image is worth nearly an evaluation where there are few
        assert!(leaps[0] < 1.1 * error(&plain.plans[3].plan), "{leaps:?}");
    }
}

/// States that one evaluation more brought hardly nearer to the teacher are dropped, and no plan misses them.
#[test]
fn idle_states_are_not_missed() {
    let data = images();
    let grid = karras(17, 0.002, 80.0, 7.0).unwrap();
    let (latent, count) = (latents(&data, 0, 32), 32);
    let teacher =
        Teacher::solve(Solver::Heun, &refined(&grid, 3).unwrap(), &grid, latent, count, denoiser(&data)).unwrap();
    let outputs = data.denoised(&teacher.states()[0], grid.sigma_max());
    let teacher = teacher.with_mean(mean_prediction(&outputs, 64, count), 1);
    let usual = StudentOptions { most: 8, ..StudentOptions::default() };
    let every = StudentOptions { gain: f64::NEG_INFINITY, ..usual };
    let of = |options| least_squares(&teacher, &Fit::default(), &options, denoiser(&data)).unwrap();
    let (usual, every) = (of(usual), of(every));
    assert!(usual.evaluations * 5 < every.evaluations * 4, "{} {}", usual.evaluations, every.evaluations);
    for (usual, every) in usual.plans.iter().zip(&every.plans) {
        assert!(usual.error <= 1.02 * every.error, "{} {}", usual.error, every.error);
    }
}

/// Not a test: prints what the options of the search are worth on the same data, for docs/experiments/search-options.md.
#[test]
#[ignore = "prints numbers for the documentation"]
fn what_the_options_are_worth() {
    let data = images();
    let fine = refined(&karras(25, 0.002, 80.0, 7.0).unwrap(), 4).unwrap();
    let plan = Solver::Heun.plan(&fine, &SolverOptions::default()).unwrap();
    let mut held_out = Endpoints::solve(&plan, latents(&data, 100_000, 200), 200, denoiser(&data)).unwrap();
    let usual = (25, 64, Fit::default(), StudentOptions { most: 8, ..StudentOptions::default() });
    let (grid, count, fit, student) = usual;
    let choices = [
        ("as it is", usual),
        ("beam 1", (grid, count, fit, StudentOptions { beam: 1, ..student })),
        ("beam 4", (grid, count, fit, StudentOptions { beam: 4, ..student })),
        ("gain 0.3", (grid, count, fit, StudentOptions { gain: 0.3, ..student })),
        ("every state", (grid, count, fit, StudentOptions { gain: f64::NEG_INFINITY, ..student })),
        ("32 latents", (grid, 32, fit, student)),
        ("128 latents", (grid, 128, fit, student)),
        ("17 levels", (17, count, fit, student)),
        ("21 levels", (21, count, fit, student)),
        ("33 levels", (33, count, fit, student)),
        ("history 1", (grid, count, Fit { history: 1, ..fit }, student)),
        ("history 8", (grid, count, Fit { history: 8, ..fit }, student)),
        ("ridge 1e-4", (grid, count, Fit { ridge: 1e-4, ..fit }, student)),
        ("ridge 1e-3", (grid, count, Fit { ridge: 1e-3, ..fit }, student)),
        ("free state", (grid, count, Fit { fit_state_coefficient: true, ..fit }, student)),
    ];
    println!("held-out (and training) rollout error at 2 to 8 evaluations");
    for (name, (levels, count, fit, student)) in choices {
        let grid = karras(levels, 0.002, 80.0, 7.0).unwrap();
        let (latent, samples) = (latents(&data, 0, count), count as usize);
        let teacher =
            Teacher::solve(Solver::Heun, &refined(&grid, 3).unwrap(), &grid, latent, samples, denoiser(&data)).unwrap();
        let outputs = data.denoised(&teacher.states()[0], grid.sigma_max());
        held_out.mean = Some(mean_prediction(&outputs, 64, 200));
        let teacher = teacher.with_mean(mean_prediction(&outputs, 64, samples), 1);
        let outcome = least_squares(&teacher, &fit, &student, denoiser(&data)).unwrap();
        let row = outcome.plans[1..].iter().map(|found| {
            let error = held_out.rollout_error(&found.plan, denoiser(&data)).unwrap();
            format!("{error:7.3} ({:5.3})", found.error)
        });
        println!("{name:12}{} {:5} evaluations", row.collect::<String>(), outcome.evaluations);
    }
}
