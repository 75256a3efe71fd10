//! Schedules of levels that a network knows.

use super::Preconditioning;
use crate::schedule::{Schedule, ScheduleError};

impl Schedule {
    /// Every level moved to the nearest one that the network knows ([`Preconditioning::round_sigma`]).
    ///
    /// # Errors
    /// If two levels are rounded to one: ask for fewer levels, or a wider range.
    pub fn round(&self, preconditioning: &Preconditioning) -> Result<Self, ScheduleError> {
        Self::new(preconditioning.round_sigmas(self.levels()))
    }

    /// As [`Schedule::round`], for grids to choose from: levels that round to the same are one.
    ///
    /// # Errors
    /// If a level rounds to none that a schedule can have.
    pub fn round_grid(&self, preconditioning: &Preconditioning) -> Result<Self, ScheduleError> {
        let mut levels = preconditioning.round_sigmas(self.levels());
        levels.dedup();
        Self::new(levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::karras;

    #[test]
    fn rounds_to_discrete_levels_and_refuses_collisions() {
        let discrete = Preconditioning::IDDPM;
        let rounded = karras(6, 0.01, 80.0, 7.0).unwrap().round(&discrete).unwrap();
        for &level in rounded.levels() {
            assert_eq!(discrete.round_sigma(level), level);
        }
        let crowded = Schedule::new(vec![1.0 + 1e-9, 1.0]).unwrap();
        assert!(matches!(crowded.round(&discrete), Err(ScheduleError::NotDecreasing { .. })));
        assert_eq!(crowded.round_grid(&discrete).unwrap().len(), 1);
    }
}
