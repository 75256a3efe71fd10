//! Teachers follow the flow and refuse what they cannot.

use std::convert::Infallible;

use fewstep_core::schedule::{ScheduleError, karras};
use fewstep_core::{Schedule, Solver, VectorSpace};
use fewstep_search::{Endpoints, SearchError, Teacher, refined};

use crate::support::{denoiser, distance, flow, gaussian, latents, mixture};

use super::*;

#[test]
fn the_teacher_follows_the_flow() {
    for data in [gaussian(), mixture()] {
        let (grid, fine) = (grid(), refined(&grid(), 40).unwrap());
        let solve = |latent| Teacher::solve(Solver::Heun, &fine, &grid, latent, 1, denoiser(&data)).unwrap();
        let teacher = solve(latents(&data, 5, 1));
        assert_eq!(teacher.evaluations(), 2 * (40 * (LEVELS - 1)) + 1);
        let start = Vec::combine(&[(20.0, &teacher.ends().latent)]);
        for (state, sigma) in teacher.states().iter().zip(grid.levels()) {
            let error = distance(state, &flow(&data, &start, 20.0, *sigma));
            assert!(error < 1e-3 * (1.0 + sigma), "{error} at {sigma}");
        }
        // the last step to zero is of first order
        let error = distance(&teacher.ends().image, &flow(&data, &start, 20.0, 1e-6));
        assert!(error < 5e-2, "{error}");
    }
}

#[test]
fn teachers_keep_the_same_states_for_solvers_of_one_and_two_evaluations() {
    let data = mixture();
    let (grid, fine) = (grid(), refined(&grid(), 40).unwrap());
    let of = |solver: &str| {
        let latent = latents(&data, 0, 3);
        Teacher::solve(solver.parse().unwrap(), &fine, &grid, latent, 3, denoiser(&data)).unwrap()
    };
    let heun = of("heun");
    for solver in ["dpm2", "dpmpp2m", "unipc3_bh2", "deis_rhoab3"] {
        for (a, b) in of(solver).states().iter().zip(heun.states()) {
            assert!(distance(a, b) < 1e-2, "{solver}");
        }
    }
}

/// Levels so close that nothing fits between them stay as they are, and no others do.
#[test]
fn grids_are_refined_or_refused() {
    let close = Schedule::new(vec![2.0, 1.0_f64.next_up(), 1.0]).unwrap();
    let levels = refined(&close, 4).unwrap();
    assert_eq!((levels.len(), levels.levels()[4], levels.sigma_min()), (6, 1.0_f64.next_up(), 1.0));
    assert_eq!(refined(&grid(), 0).unwrap(), grid());
    assert_eq!(refined(&grid(), 9_999).unwrap().len(), 9_999 * (LEVELS - 1) + 1);
    for parts in [10_000, usize::MAX] {
        let asked = parts.saturating_add(1);
        assert_eq!(refined(&grid(), parts), Err(ScheduleError::TooMany { asked }));
    }
}

#[test]
fn bad_teachers_are_refused() {
    let data = mixture();
    let latent = || latents(&data, 0, 2);
    let solve = |fine: &Schedule, grid: &Schedule| {
        Teacher::solve(Solver::Euler, fine, grid, latent(), 2, denoiser(&data)).map(|_| ())
    };
    assert!(solve(&refined(&grid(), 2).unwrap(), &grid()).is_ok());
    let other = karras(LEVELS, 0.05, 20.0, 7.0).unwrap();
    assert!(matches!(solve(&other, &grid()), Err(SearchError::Grid(_))));
    let half = Schedule::new(grid().levels()[..3].to_vec()).unwrap();
    assert!(matches!(solve(&grid(), &half), Err(SearchError::Grid(_))));
    let one = Schedule::new(vec![20.0]).unwrap();
    assert!(matches!(solve(&one, &one), Err(SearchError::Grid(_))));
    let ends = || Endpoints { latent: latent(), mean: None, image: latent(), samples: 2 };
    let parts = |states, ends| Teacher::from_parts::<Infallible>(grid(), states, ends, 0).map(|_| ());
    assert!(parts(vec![latent(); LEVELS], ends()).is_ok());
    assert!(matches!(parts(vec![latent(); 3], ends()), Err(SearchError::Grid(_))));
    assert!(matches!(parts(vec![latent(); LEVELS], Endpoints { samples: 0, ..ends() }), Err(SearchError::NoSamples)));
    let infinite = Endpoints { image: vec![f64::INFINITY], ..ends() };
    assert!(matches!(parts(vec![latent(); LEVELS], infinite), Err(SearchError::NotFinite { .. })));
}
