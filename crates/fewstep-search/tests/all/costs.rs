//! Forecasts of refinements: never less than what is taken, and near it.

use fewstep_core::denoiser::{Counting, Denoiser, Levels, Oracle};
use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::observe::Silent;
use fewstep_search::{Method, Search, SearchSettings, search_cost};

use crate::rounding::single;
use crate::support::{Batch, images};

/// One Gaussian, or three: their plans go different ways through the levels.
fn gaussians(count: usize) -> Mixture {
    let part = |k: usize| Component {
        weight: 1.0,
        mean: vec![(k as f64).sin(), 0.5, -0.4 * k as f64, (3 * k) as f64 / 7.0],
        covariance: Covariance::Isotropic(0.02 * count as f64),
    };
    Mixture::new((0..count).map(part).collect()).unwrap()
}

/// What a search takes, as it is and where it goes on for as long as it may.
fn taken(
    denoiser: impl Denoiser<Batch = Batch>,
    method: &Method,
    steps: &[usize],
    settings: &SearchSettings,
) -> [u64; 2] {
    let denoiser = Counting::new(denoiser);
    let mut tireless = settings.clone();
    (tireless.gauss_newton.least_gain, tireless.least_squares.least_gain) = (f64::MIN, f64::MIN);
    [settings, &tireless].map(|settings| {
        let before = denoiser.cost().evaluations;
        Search::new(&denoiser, settings, &Silent).unwrap().find(method, steps).unwrap();
        denoiser.cost().evaluations - before
    })
}

/// Refuses a forecast that is less than what a search takes, as it is or where it goes on, or `times` as much as the latter.
fn check(said: u64, [as_it_is, tireless]: [u64; 2], times: f64, what: &str) {
    assert!(said >= as_it_is.max(tireless), "{what}: {said} for {as_it_is} or {tireless}");
    assert!((said as f64) < times * tireless as f64, "{what}: {said} for {tireless}");
}

/// What is forecast of the teacher and the search, calls on single samples.
fn forecast(denoiser: &impl Denoiser, method: &Method, steps: &[usize], settings: &SearchSettings) -> u64 {
    let cost = search_cost(denoiser.spec(), method, steps, settings).unwrap();
    cost.teacher + cost.search
}

/// Of one round or several, in single and double precision. (Sweeps end early on Gaussians, whatever states have to gain.)
#[test]
fn refinements_take_at_most_what_was_said() {
    let models = [(gaussians(1), vec![4]), (gaussians(3), vec![1, 2, 2])];
    for (method, history, constant) in [
        ("least-squares+gauss-newton", 3, true),
        ("least-squares+gauss-newton", 1, true),
        ("least-squares+gauss-newton", 4, false),
        ("karras/ipndm3+gauss-newton", 3, true),
        ("oss/euler+gauss-newton", 3, true),
    ] {
        let method: Method = method.parse().unwrap();
        let mut settings = SearchSettings::default();
        (settings.teacher.samples, settings.teacher.grid, settings.sweep.sweeps) = (12, 13, 0);
        (settings.least_squares.history, settings.least_squares.constant) = (history, constant);
        for (mixture, shape) in &models {
            let exact = Oracle::new(mixture.clone(), shape.clone(), Levels::between(0.002, 80.0));
            let single = single(&exact);
            for (rounds, steps) in
                (1..=3).flat_map(|rounds| [&[1, 3][..], &[2, 4, 6], &[5, 8]].map(|steps| (rounds, steps)))
            {
                settings.gauss_newton.rounds = rounds;
                // levels that would cross end all rounds that are left
                let times = if rounds > 1 { 2.0 } else { 1.5 };
                let what = format!("{method} {history} {constant} {shape:?}, {rounds} rounds of {steps:?}");
                check(
                    forecast(&exact, &method, steps, &settings),
                    taken(&exact, &method, steps, &settings),
                    times,
                    &what,
                );
                let what = format!("{what} in single precision");
                check(
                    forecast(&single, &method, steps, &settings),
                    taken(&single, &method, steps, &settings),
                    times,
                    &what,
                );
            }
        }
    }
}

/// The default, of as many values as a small image, with plans that are swept.
#[test]
fn the_forecast_of_the_default_is_near() {
    let exact = Oracle::new(images(), vec![1, 8, 8], Levels::between(0.002, 80.0));
    let (settings, method, steps) = (SearchSettings::default(), Method::LEAST_SQUARES, [4, 6, 8]);
    check(forecast(&exact, &method, &steps, &settings), taken(&exact, &method, &steps, &settings), 1.5, "default");
}
