//! Tables that turn phase 1 into arithmetic: with forward-noised inputs `D_i` depends on `sigma_i` alone, so
//! `e(sigma) = E ||D - y||^2` and `G(sigma, sigma') = E <D - y, D' - y>` on a grid determine every objective on every
//! schedule of grid levels. They cost one evaluation a grid level and batch, and no backward pass.

use serde::{Deserialize, Serialize};

use super::{ForwardNoised, induced_weights};
use crate::schedule::Schedule;
use crate::space::VectorSpace;

/// Tables that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Different grids.
    #[error("two tables can be added only on the same grid of noise levels")]
    Grid,
    /// A stored table with sums that are not finite, or too many or too few for its grid.
    #[error("the stored table is damaged: a grid of {levels} noise levels needs {expected} finite sums")]
    Damaged {
        /// Levels of the grid.
        levels: usize,
        /// Sums that belong to it.
        expected: usize,
    },
    /// Sums of errors that were not finite.
    #[error(
        "the table is not finite at noise level number {index} of its grid, counting from 0: the network's answers there, or the images, \
         are not; mend them and make the table anew"
    )]
    NotFinite {
        /// Index of the first such level.
        index: usize,
    },
}

/// The stored form of both tables.
#[derive(Serialize, Deserialize)]
struct Stored {
    grid: Schedule,
    samples: u64,
    sums: Vec<f64>,
}

impl Stored {
    fn check(self, expected: usize) -> Result<Self, TableError> {
        if self.sums.len() == expected && self.sums.iter().all(|sum| sum.is_finite()) {
            Ok(self)
        } else {
            Err(TableError::Damaged { levels: self.grid.len(), expected })
        }
    }
}

macro_rules! stored {
    ($table:ident, $expected:expr) => {
        impl TryFrom<Stored> for $table {
            type Error = TableError;

            fn try_from(stored: Stored) -> Result<Self, TableError> {
                let expected: fn(usize) -> usize = $expected;
                let expected = expected(stored.grid.len());
                let Stored { grid, samples, sums } = stored.check(expected)?;
                Ok(Self { grid, samples, sums })
            }
        }

        impl From<$table> for Stored {
            fn from($table { grid, samples, sums }: $table) -> Self {
                Self { grid, samples, sums }
            }
        }
    };
}

stored!(BoundTable, |levels| levels);
stored!(GramTable, |levels| triangle(levels, 0));

/// `e(sigma)` on a grid: all that the bound (Eq. 12) needs. Streams: nothing but sums is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct BoundTable {
    grid: Schedule,
    samples: u64,
    /// Sums over samples, one a level.
    sums: Vec<f64>,
}

impl BoundTable {
    /// An empty table on this grid.
    pub fn new(grid: Schedule) -> Self {
        let sums = vec![0.0; grid.len()];
        Self { grid, samples: 0, sums }
    }

    /// The grid.
    pub fn grid(&self) -> &Schedule {
        &self.grid
    }

    /// Samples seen.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds a batch of `samples` samples: one evaluation a grid level, one output alive at a time.
    ///
    /// # Errors
    /// The first error of the network; the table is then as before.
    pub fn add<V: VectorSpace, F: ForwardNoised<V>>(&mut self, samples: u64, batch: &mut F) -> Result<(), F::Error> {
        let mut sums = self.sums.clone();
        for (j, (sum, &sigma)) in sums.iter_mut().zip(self.grid.levels()).enumerate() {
            *sum += batch.denoised(j, sigma)?.difference(batch.clean()).norm_squared();
        }
        (self.sums, self.samples) = (sums, self.samples + samples);
        Ok(())
    }

    /// Adds another table, from another process or an earlier run.
    ///
    /// # Errors
    /// If the grids differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), TableError> {
        if self.grid != other.grid {
            return Err(TableError::Grid);
        }
        self.samples += other.samples;
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        Ok(())
    }

    /// Refuses a table that cannot be minimised over.
    ///
    /// # Errors
    /// If it is not finite somewhere: a network that diverged was added.
    pub fn check(&self) -> Result<(), TableError> {
        finite(self.sums.iter().map(|sum| sum.is_finite()))
    }

    /// `e(sigma)` at every grid level, per sample; zeros while the table is empty.
    pub fn errors(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.samples.max(1) as f64).collect()
    }
}

/// `G(sigma, sigma')` on a grid: all that the discretization loss (Eq. 11) needs, `a^T G a`. Its diagonal is `e`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct GramTable {
    grid: Schedule,
    samples: u64,
    /// Sums over samples, the lower triangle row by row.
    sums: Vec<f64>,
}

impl GramTable {
    /// An empty table on this grid.
    pub fn new(grid: Schedule) -> Self {
        let sums = vec![0.0; triangle(grid.len(), 0)];
        Self { grid, samples: 0, sums }
    }

    /// The grid.
    pub fn grid(&self) -> &Schedule {
        &self.grid
    }

    /// Samples seen.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds a batch of `samples` samples: one evaluation a grid level, and the outputs of all levels alive at once,
    /// so batches should be small where the grid is fine.
    ///
    /// # Errors
    /// The first error of the network; the table is then as before.
    pub fn add<V: VectorSpace, F: ForwardNoised<V>>(&mut self, samples: u64, batch: &mut F) -> Result<(), F::Error> {
        let mut errors = Vec::with_capacity(self.grid.len());
        for (j, &sigma) in self.grid.levels().iter().enumerate() {
            errors.push(batch.denoised(j, sigma)?.difference(batch.clean()));
        }
        for i in 0..errors.len() {
            for j in 0..=i {
                self.sums[triangle(i, j)] += errors[i].dot(&errors[j]);
            }
        }
        self.samples += samples;
        Ok(())
    }

    /// Adds another table, from another process or an earlier run.
    ///
    /// # Errors
    /// If the grids differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), TableError> {
        if self.grid != other.grid {
            return Err(TableError::Grid);
        }
        self.samples += other.samples;
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        Ok(())
    }

    /// Refuses a table that cannot be minimised over.
    ///
    /// # Errors
    /// If it is not finite somewhere: a network that diverged was added.
    pub fn check(&self) -> Result<(), TableError> {
        finite((0..self.grid.len()).map(|i| (0..=i).all(|j| self.sums[triangle(i, j)].is_finite())))
    }

    /// `G` between two grid levels, per sample.
    ///
    /// # Panics
    /// If an index is outside the grid.
    pub fn product(&self, i: usize, j: usize) -> f64 {
        self.sums[triangle(i.max(j), i.min(j))] / self.samples.max(1) as f64
    }

    /// The diagonal as a table of its own.
    pub fn bound_table(&self) -> BoundTable {
        let sums = (0..self.grid.len()).map(|i| self.sums[triangle(i, i)]).collect();
        BoundTable { grid: self.grid.clone(), samples: self.samples, sums }
    }

    /// `a^T G a`: the discretization loss per sample of the schedule that visits these grid levels, given by rising
    /// index.
    ///
    /// # Panics
    /// If `path` is empty, does not rise or leaves the grid.
    pub fn discretization(&self, path: &[usize]) -> f64 {
        let a = induced_weights(&schedule_on(&self.grid, path));
        let row = |i: usize| (0..a.len()).map(|j| a[j] * self.product(path[i], path[j])).sum::<f64>();
        (0..a.len()).map(|i| a[i] * row(i)).sum()
    }
}

/// The schedule of these grid levels.
///
/// # Panics
/// If `path` is empty, does not rise or leaves the grid.
pub fn schedule_on(grid: &Schedule, path: &[usize]) -> Schedule {
    let levels = path.iter().map(|&index| grid.levels()[index]).collect();
    Schedule::new(levels).expect("a rising path on a grid is a schedule")
}

/// Refuses a table of which not every level `is_finite`.
fn finite(mut is_finite: impl Iterator<Item = bool>) -> Result<(), TableError> {
    is_finite.position(|finite| !finite).map_or(Ok(()), |index| Err(TableError::NotFinite { index }))
}

/// Place of entry `(i, j)`, `j <= i`, in a lower triangle.
fn triangle(i: usize, j: usize) -> usize {
    i * (i + 1) / 2 + j
}
