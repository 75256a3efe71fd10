//! Tables and the searches over them, against direct evaluation and against trying every schedule.

use fewstep_core::Schedule;
use fewstep_core::mixture::{NoiseSharing, NoisedBatch};
use fewstep_core::objective::{BoundTable, GramTable, Objective, TableError, loss, loss_and_gradient};
use fewstep_core::optimise::Adam;
use fewstep_core::schedule::{Scale, SoftmaxIncrements, karras};
use fewstep_search::{TableSchedule, minimise_bound, minimise_discretization};

use crate::support::mixture;

const SAMPLES: u64 = 64;

fn grid() -> Schedule {
    karras(10, 0.02, 20.0, 7.0).unwrap()
}

fn gram() -> GramTable {
    let data = mixture();
    let mut table = GramTable::new(grid());
    for seed in 0..2 {
        table.add(SAMPLES, &mut NoisedBatch::new(&data, SAMPLES as usize, seed, NoiseSharing::Shared)).unwrap();
    }
    table
}

/// All rising paths through the grid with both ends and `n` levels.
fn paths(n: usize) -> impl Iterator<Item = Vec<usize>> {
    let masks = (0_u32..1 << 8).filter(move |mask| mask.count_ones() as usize == n - 2);
    masks.map(|mask| [0].into_iter().chain((1..9).filter(move |j| mask >> (j - 1) & 1 == 1)).chain([9]).collect())
}

fn schedule(path: &[usize]) -> Schedule {
    Schedule::new(path.iter().map(|&j| grid().levels()[j]).collect()).unwrap()
}

#[test]
fn tables_hold_the_objectives_of_every_schedule_on_the_grid() {
    let data = mixture();
    let table = gram();
    assert_eq!(table.samples(), 2 * SAMPLES);
    for path in paths(5).step_by(7) {
        let direct = |objective| {
            let of = |seed| {
                let mut batch = NoisedBatch::new(&data, SAMPLES as usize, seed, NoiseSharing::Shared);
                loss(objective, &schedule(&path), &mut batch).unwrap().total
            };
            (of(0) + of(1)) / (2 * SAMPLES) as f64
        };
        assert!((table.discretization(&path) / direct(Objective::Discretization) - 1.0).abs() < 1e-10);
        let errors = table.bound_table().errors();
        let a = fewstep_core::objective::induced_weights(&schedule(&path));
        let bound: f64 = a.iter().zip(&path).map(|(a, &j)| a * errors[j]).sum();
        assert!((bound / direct(Objective::Bound) - 1.0).abs() < 1e-10);
    }
}

#[test]
fn streaming_merging_and_storing_give_the_same_table() {
    let data = mixture();
    let batch = |seed| NoisedBatch::new(&data, SAMPLES as usize, seed, NoiseSharing::Shared);
    let mut streamed = BoundTable::new(grid());
    streamed.add(SAMPLES, &mut batch(0)).unwrap();
    let mut other = BoundTable::new(grid());
    other.add(SAMPLES, &mut batch(1)).unwrap();
    streamed.merge(&other).unwrap();
    let errors = gram().bound_table().errors();
    for (a, b) in streamed.errors().iter().zip(&errors) {
        assert!((a / b - 1.0).abs() < 1e-12);
    }
    let other_grid = BoundTable::new(karras(3, 0.1, 1.0, 7.0).unwrap());
    assert_eq!(streamed.merge(&other_grid), Err(TableError::Grid));
    let text = serde_json::to_string(&gram()).unwrap();
    assert_eq!(serde_json::from_str::<GramTable>(&text).unwrap(), gram());
    let damaged = text.replacen("\"sums\":[", "\"sums\":[1.0,", 1);
    assert!(serde_json::from_str::<GramTable>(&damaged).unwrap_err().to_string().contains("damaged"));
}

#[test]
fn the_bound_is_minimised_exactly_for_every_number_of_levels() {
    let table = gram();
    let errors = table.bound_table().errors();
    let found = minimise_bound(&table.bound_table(), 8);
    assert_eq!(found.len(), 7);
    for TableSchedule { schedule: best, path, value } in found {
        assert_eq!(best, schedule(&path));
        let of = |path: &[usize]| {
            let a = fewstep_core::objective::induced_weights(&schedule(path));
            a.iter().zip(path).map(|(a, &j)| a * errors[j]).sum::<f64>()
        };
        let least = paths(path.len()).map(|p| of(&p)).fold(f64::INFINITY, f64::min);
        assert!((value / least - 1.0).abs() < 1e-12, "{path:?}");
    }
}

#[test]
fn the_discretization_loss_is_minimised_on_a_small_grid() {
    let table = gram();
    let found = minimise_discretization(&table, 7).unwrap();
    assert_eq!(found.len(), 6);
    for TableSchedule { path, value, .. } in found {
        assert_eq!(value, table.discretization(&path));
        let least = paths(path.len()).map(|p| table.discretization(&p)).fold(f64::INFINITY, f64::min);
        assert!(value <= 1.02 * least, "{path:?} has {value}, the least is {least}");
    }
}

/// Adam on theta with the gradient of Eq. 14, as phase 1 runs it.
fn optimise(objective: Objective, start: &Schedule, batch: &mut NoisedBatch, steps: usize) -> Schedule {
    let (increments, mut theta) = SoftmaxIncrements::from_schedule(start, Scale::Log);
    let mut adam = Adam::new(0.05);
    for step in 0..steps {
        adam.learning_rate = 0.05 * (1.0 - step as f64 / steps as f64);
        let schedule = increments.sigmas(&theta).unwrap();
        let (_, d_sigma) = loss_and_gradient(objective, &schedule, batch).unwrap();
        let gradient = increments.pullback(&theta, &d_sigma).unwrap();
        adam.step(&mut theta, &gradient).unwrap();
    }
    increments.sigmas(&theta).unwrap()
}

#[test]
fn the_gradient_finds_the_optimum_of_the_table() {
    let data = mixture();
    let mut batch = NoisedBatch::new(&data, 200, 3, NoiseSharing::Shared);
    let mut table = BoundTable::new(karras(120, 0.02, 20.0, 30.0).unwrap());
    table.add(200, &mut batch).unwrap();
    for found in minimise_bound(&table, 6).into_iter().skip(1) {
        let start = karras(found.schedule.len(), 0.02, 20.0, 7.0).unwrap();
        let refined = optimise(Objective::Bound, &start, &mut batch, 600);
        let value = |schedule: &Schedule, batch: &mut NoisedBatch| {
            loss(Objective::Bound, schedule, batch).unwrap().total / 200.0
        };
        assert!((value(&found.schedule, &mut batch) / found.value - 1.0).abs() < 1e-9);
        let ratio = value(&refined, &mut batch) / found.value;
        assert!(ratio < 1.0005, "off the grid the bound is no larger: {ratio}");
        assert!(ratio > 0.98, "and on a fine grid hardly smaller: {ratio}");
    }
}
