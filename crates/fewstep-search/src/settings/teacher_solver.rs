//! The solver of a teacher.

use fewstep_core::denoiser::Levels;
use fewstep_core::solver::{Solver, SolverError};
use serde::{Deserialize, Serialize};

use super::TeacherSettings;

/// Greatest ratio of the ends of a range on which Heun's steps are small enough: EDM's spans 4e4, a flow's 1e6.
const WIDE: f64 = 1e5;

/// The solver of a teacher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TeacherSolver {
    /// Heun. Where levels span more than five decades, as those of flows do, DPM-Solver++ 2M in twice as many steps: for as many
    /// evaluations it errs less there, as it takes long steps in D, which hardly moves at high noise, and not in sigma.
    ///
    /// Of GITS's own teacher ([`GitsSettings::solver_on`](super::GitsSettings::solver_on)): iPNDM-4, or DPM-Solver++ 2M, a step from level to level.
    #[default]
    Auto,
    /// This one.
    Of(Solver),
}

impl TeacherSolver {
    /// The solver on these levels, and how many times as many steps it makes.
    pub fn on(self, levels: &Levels) -> (Solver, usize) {
        let (low, high) = levels.sampling;
        match self {
            Self::Of(solver) => (solver, 1),
            Self::Auto if high / low > WIDE => (Solver::DpmPp { order: 2, lower_order_final: true }, 2),
            Self::Auto => (Solver::Heun, 1),
        }
    }
}

impl TeacherSettings {
    /// The solver on these levels, and its steps from one level of the grid to the next.
    pub fn steps_on(&self, levels: &Levels) -> (Solver, usize) {
        let (solver, times) = self.solver.on(levels);
        (solver, times.saturating_mul(self.substeps))
    }
}

impl TryFrom<String> for TeacherSolver {
    type Error = SolverError;

    fn try_from(name: String) -> Result<Self, SolverError> {
        if name == "auto" { Ok(Self::Auto) } else { name.parse().map(Self::Of) }
    }
}

impl From<TeacherSolver> for String {
    fn from(solver: TeacherSolver) -> Self {
        match solver {
            TeacherSolver::Auto => "auto".to_owned(),
            TeacherSolver::Of(solver) => solver.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::GitsSettings;

    #[test]
    fn wide_ranges_take_steps_in_d() {
        let on = |solver: TeacherSolver, low, high| solver.on(&Levels::between(low, high));
        assert_eq!(on(TeacherSolver::Auto, 0.002, 80.0), (Solver::Heun, 1));
        let (solver, times) = on(TeacherSolver::Auto, 0.001, 999.0);
        assert_eq!((solver.to_string().as_str(), times), ("dpmpp2m", 2));
        assert_eq!(on(TeacherSolver::Of(Solver::Heun), 0.001, 999.0), (Solver::Heun, 1));
        let gits = |solver: TeacherSolver, high| {
            GitsSettings { solver, ..GitsSettings::default() }.solver_on(&Levels::between(0.001, high)).to_string()
        };
        assert_eq!(gits(TeacherSolver::Auto, 80.0), "ipndm4");
        assert_eq!(gits(TeacherSolver::Auto, 999.0), "dpmpp2m");
        assert_eq!(gits(TeacherSolver::Of(Solver::Heun), 80.0), "heun");
        let endless = TeacherSettings { substeps: usize::MAX, ..TeacherSettings::default() };
        assert_eq!(endless.steps_on(&Levels::between(0.001, 999.0)).1, usize::MAX);
        for name in ["auto", "heun", "dpmpp3m"] {
            let solver = TeacherSolver::try_from(name.to_owned()).unwrap();
            assert_eq!(String::from(solver), name);
        }
        assert!(TeacherSolver::try_from("hein".to_owned()).is_err());
    }
}
