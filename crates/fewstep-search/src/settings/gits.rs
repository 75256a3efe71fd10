//! Settings of GITS.

use fewstep_core::denoiser::Levels;
use fewstep_core::solver::Solver;
use serde::{Deserialize, Serialize};

use super::TeacherSolver;
use crate::{CostMetric, documented};

documented! {
    /// GITS (Chen et al. 2024), with its authors' defaults: it has a teacher of its own.
    ///
    /// ```
    /// # use fewstep_search::{CostMetric, settings::{GitsSettings, TeacherSolver}};
    /// let defaults = GitsSettings {
    ///     metric: CostMetric::Deviation,
    ///     coefficients: vec![1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3], // at least one, each above 0
    ///     samples: 256,                // latents, at least 1
    ///     grid: 61,                    // noise levels, from 2 to 1,000
    ///     solver: TeacherSolver::Auto, // or any
    /// };
    /// # assert_eq!(defaults, GitsSettings::default());
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct GitsSettings {
        /// What a step costs: l1, l2, or the deviation from the line between the teacher's ends.
        pub metric: CostMetric,
        /// Coefficients to choose from by the rollout error, where the method's name has none.
        pub coefficients: Vec<f64>,
        /// Latents that its own teacher is solved from.
        pub samples: usize,
        /// Noise levels that its plans choose from, all of them at most: rho = 7 over the denoiser's range.
        pub grid: usize,
        /// The solver of its teacher, a step from level to level; auto: ipndm4, or where levels span more than five decades dpmpp2m.
        pub solver: TeacherSolver,
    }
}

impl Default for GitsSettings {
    fn default() -> Self {
        Self {
            metric: CostMetric::default(),
            coefficients: vec![1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3],
            samples: 256,
            grid: 61,
            solver: TeacherSolver::Auto,
        }
    }
}

impl GitsSettings {
    /// The solver of its teacher on these levels.
    pub fn solver_on(&self, levels: &Levels) -> Solver {
        match (self.solver, self.solver.on(levels).0) {
            (TeacherSolver::Auto, Solver::Heun) => Solver::Ipndm { order: 4 },
            (_, solver) => solver,
        }
    }
}
