//! Settings of searches, as `run.json` keeps them.

use fewstep_core::search::CostMetric;
use fewstep_core::solver::Solver;
use fewstep_nn::distance::Distance;
use serde::{Deserialize, Serialize};

use super::method::MomentsOf;
use super::moments::CONTROL_EVALUATIONS;
use super::{GaussNewtonSettings, Method, MomentsSettings, Refinement, RolloutSettings, Search};

/// How plans are searched, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchSettings {
    /// The teacher.
    pub teacher: TeacherSettings,
    /// What the local search counts.
    pub metric: CostMetric,
    /// Latents that fits see, the first of the teacher's.
    #[serde(default = "all")]
    pub fit_samples: usize,
    /// Outputs before the newest that a fitted step may use.
    pub history: usize,
    /// Strength of the ridge towards Euler's step.
    pub ridge: f64,
    /// States kept at every level and number of steps.
    pub beam: usize,
    /// Sweeps over the levels that the program chose for a fitted plan of many evaluations, at most.
    #[serde(default)]
    pub sweeps: usize,
    /// Fewest evaluations of the plans that are swept.
    #[serde(default = "all")]
    pub sweeps_from: usize,
    /// Latents that say where those levels might go, the first of those that fits see.
    #[serde(default = "all")]
    pub sweep_samples: usize,
    /// What fitted steps make small.
    pub view: View,
    /// Whether fitted images are stretched until their variance is the teacher's.
    pub calibrated: bool,
    /// Whether the state's own coefficient is fitted, too.
    pub free: bool,
    /// Whether fits make the pseudo-Huber distance small, not the squared error.
    pub robust: bool,
    /// Whether fitted plans may hold a constant image in place of a first evaluation.
    pub constant: bool,
    /// Refinement of plans by their gradient.
    pub rollout: RolloutSettings,
    /// Refinement of plans by Gauss-Newton steps.
    pub gauss_newton: GaussNewtonSettings,
    /// Matching of the images' moments.
    pub moments: MomentsSettings,
    /// Images at once.
    pub batch: usize,
}

/// What runs of versions without the setting did.
fn all() -> usize {
    usize::MAX
}

/// How errors of images are seen: as they are, as differences of neighbouring pixels with a tenth of the image, or both at full
/// weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum View {
    Pixels,
    Gradients,
    Both,
}

/// Everything that a teacher's trajectories depend on beside the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherSettings {
    /// Latents.
    pub samples: usize,
    /// Levels that plans may evaluate at: rho = 7 over the network's range.
    pub grid: usize,
    /// The solver.
    pub solver: Solver,
    /// Its steps from one level of the grid to the next.
    pub parts: usize,
}

impl SearchSettings {
    /// What of these settings the plans of `method` depend on, beside the teacher: with other settings changed, its plans are
    /// the same.
    pub fn looked_at_by(&self, method: &Method) -> serde_json::Result<serde_json::Value> {
        let mut names = match method.search {
            Search::Fixed(..) | Search::Bound => vec![],
            Search::Local(_) => vec!["metric"],
            Search::Reachable => vec!["beam"],
            Search::LeastSquares => {
                let fit = ["fit_samples", "history", "ridge", "view", "calibrated", "free", "robust", "constant"];
                [&fit[..], &["beam", "sweeps", "sweeps_from", "sweep_samples"]].concat()
            }
        };
        names.extend(match method.refinement {
            None => &[][..],
            Some(Refinement::Rollout) => &["rollout"],
            Some(Refinement::GaussNewton) => &["gauss_newton", "view", "calibrated", "robust"],
        });
        let all = serde_json::to_value(self)?;
        let mut looked_at: serde_json::Map<_, _> =
            names.into_iter().map(|name| (name.to_owned(), all[name].clone())).collect();
        match method.moments {
            None => {}
            Some(MomentsOf::Teacher) => {
                looked_at.insert("error_weight".to_owned(), self.moments.error_weight.into());
            }
            Some(MomentsOf::Data) => {
                looked_at.insert("error_weight".to_owned(), self.moments.data_error_weight.into());
                looked_at.insert("hardly_matters".to_owned(), self.moments.hardly_matters.into());
                looked_at.insert("control".to_owned(), self.moments.control.into());
                looked_at.insert("control_evaluations".to_owned(), CONTROL_EVALUATIONS.into());
            }
        }
        Ok(looked_at.into())
    }
}

/// What `fit` and `compare` search with where nothing else is typed.
impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            teacher: TeacherSettings { samples: 64, grid: 21, solver: Solver::Heun, parts: 1 },
            metric: CostMetric::default(),
            fit_samples: 64,
            history: 3,
            ridge: 1e-6,
            beam: 2,
            sweeps: 1,
            sweeps_from: 7,
            sweep_samples: 16,
            view: View::Both,
            calibrated: true,
            free: true,
            robust: false,
            constant: true,
            rollout: RolloutSettings { steps: 40, learning_rate: 1e-3, loss: Distance::Squared },
            gauss_newton: GaussNewtonSettings { rounds: 1, most: 10, samples: 32 },
            moments: MomentsSettings { error_weight: 0.15, data_error_weight: 0.8, control: 1024, hardly_matters: 3.0 },
            batch: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::searching::SearchArgs;
    use clap::{Args, FromArgMatches};

    #[test]
    fn the_defaults_are_those_of_the_options() {
        let command = SearchArgs::augment_args(clap::Command::new("search"));
        let typed = SearchArgs::from_arg_matches(&command.get_matches_from(["search"])).unwrap();
        assert_eq!(typed.settings(64).unwrap(), SearchSettings::default());
    }

    #[test]
    fn methods_depend_on_what_they_look_at() {
        let settings = SearchSettings::default();
        let changed = |change: fn(&mut SearchSettings)| {
            let mut other = settings.clone();
            change(&mut other);
            let differs = |name: &&str| {
                let method = name.parse().unwrap();
                let [before, after] = [&settings, &other].map(|settings| settings.looked_at_by(&method).unwrap());
                assert!(before.as_object().unwrap().values().all(|value| !value.is_null()), "{name}: {before}");
                before != after
            };
            let names = [
                "karras/euler",
                "local/ipndm4",
                "reachable/ipndm4",
                "least-squares",
                "least-squares+gauss-newton",
                "least-squares+gauss-newton+moments",
                "karras/euler+rollout",
                "karras/euler+data-moments",
            ];
            names.iter().copied().filter(differs).collect::<Vec<_>>()
        };
        let fitted = ["least-squares", "least-squares+gauss-newton", "least-squares+gauss-newton+moments"];
        assert_eq!(changed(|s| s.ridge = 1.0), fitted);
        assert_eq!(changed(|s| s.fit_samples = 8), fitted);
        assert_eq!(changed(|s| s.sweeps = 9), fitted);
        assert_eq!(changed(|s| s.sweeps_from = 9), fitted);
        assert_eq!(changed(|s| s.sweep_samples = 9), fitted);
        assert_eq!(changed(|s| s.beam = 1), [&["reachable/ipndm4"][..], &fitted].concat());
        assert_eq!(changed(|s| s.metric = CostMetric::L1), ["local/ipndm4"]);
        assert_eq!(changed(|s| s.gauss_newton.rounds = 9), fitted[1..]);
        assert_eq!(changed(|s| s.moments.control = 9), ["karras/euler+data-moments"]);
        assert_eq!(changed(|s| s.moments.hardly_matters = 9.0), ["karras/euler+data-moments"]);
        assert_eq!(changed(|s| s.moments.error_weight = 9.0), ["least-squares+gauss-newton+moments"]);
        assert_eq!(changed(|s| s.moments.data_error_weight = 9.0), ["karras/euler+data-moments"]);
        assert_eq!(changed(|s| s.rollout.steps = 9), ["karras/euler+rollout"]);
    }
}
