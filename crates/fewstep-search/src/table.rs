//! Schedules from tables: the bound exactly, the discretization loss by local search.

use super::shortest_paths;
use fewstep_core::objective::{BoundTable, GramTable, TableError, schedule_on};
use fewstep_core::schedule::Schedule;

/// A schedule of grid levels and its objective per sample.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchedule {
    /// The levels.
    pub schedule: Schedule,
    /// Their grid indices, rising.
    pub path: Vec<usize>,
    /// The objective there.
    pub value: f64,
}

/// The schedules that minimise the bound `sum_i a_i e(sigma_i)` (Eq. 12) over the grid, one for every number of
/// levels from 2 to `most`, ends fixed at the ends of the grid. Exact: with the last level fixed, the weight of a
/// level depends on it and its successor alone, so dynamic programming finds the minimum.
///
/// Numbers of levels of which every schedule has a bound that is not finite are left out: [`BoundTable::check`] says where the table is
/// not.
pub fn minimise_bound(table: &BoundTable, most: usize) -> Vec<TableSchedule> {
    let sigma = table.grid().levels();
    let errors = table.errors();
    let last = table.grid().sigma_min();
    let found = shortest_paths(sigma.len(), most, 1.0, |i, k| last * (1.0 / sigma[k] - 1.0 / sigma[i]) * errors[i]);
    found
        .into_iter()
        .filter(|found| found.cost.is_finite()) // else no path was taken at all
        .map(|found| TableSchedule {
            schedule: schedule_on(table.grid(), &found.path),
            path: found.path,
            value: found.cost,
        })
        .collect()
}

/// Schedules with a small discretization loss `a^T G a` (Eq. 11) over the grid, one for every number of levels from 2
/// to `most`, ends fixed at the ends of the grid.
///
/// The paper leaves the optimiser OPEN, and the loss does not decompose into steps. This is coordinate descent, each
/// inner level moved in turn to its best free place until none improves, from three starts: the minimum of the bound,
/// levels even in grid index, and the previous result with its best additional level. The best end is returned; on
/// grids small enough to try every path it is nearly always the minimum. Know that the minimum itself is a poor
/// sampler (see [`fewstep_core::objective`]).
///
/// # Errors
/// If the table is not finite.
pub fn minimise_discretization(table: &GramTable, most: usize) -> Result<Vec<TableSchedule>, TableError> {
    table.check()?;
    let grid = table.grid().len();
    let mut found: Vec<TableSchedule> = Vec::new();
    for bound in minimise_bound(&table.bound_table(), most) {
        let n = bound.path.len();
        let even = (0..n).map(|j| (j * (grid - 1) + (n - 1) / 2) / (n - 1)).collect();
        let mut starts = vec![bound.path, even];
        if let Some(previous) = found.last() {
            starts.extend(best_insertion(table, &previous.path));
        }
        let ends = starts.into_iter().map(|start| descend(table, start));
        if let Some((path, value)) = ends.min_by(|a, b| a.1.total_cmp(&b.1)) {
            found.push(TableSchedule { schedule: schedule_on(table.grid(), &path), path, value });
        }
    }
    Ok(found)
}

fn descend(table: &GramTable, mut path: Vec<usize>) -> (Vec<usize>, f64) {
    let mut value = table.discretization(&path);
    loop {
        let before = value;
        for j in 1..path.len() - 1 {
            let mut others = path.clone();
            others.remove(j);
            let moved = best_insertion(table, &others).map(|path| (table.discretization(&path), path));
            if let Some((lower, moved)) = moved.filter(|(lower, _)| *lower < value) {
                (value, path) = (lower, moved);
            }
        }
        // a loss beyond all numbers falls no further either
        if value.is_nan() || value >= before {
            return (path, value);
        }
    }
}

/// `path` with the one more inner level that makes the loss smallest; none if the grid is used up.
fn best_insertion(table: &GramTable, path: &[usize]) -> Option<Vec<usize>> {
    let free = (1..table.grid().len() - 1).filter(|index| path.binary_search(index).is_err());
    let with = |index: usize| {
        let mut longer = path.to_vec();
        longer.insert(path.partition_point(|&other| other < index), index);
        longer
    };
    free.map(with).min_by(|a, b| table.discretization(a).total_cmp(&table.discretization(b)))
}
