//! Methods by name: where noise levels and coefficients come from, and the solver that runs on them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fewstep_core::schedule::{Family, IddpmLevels};
use fewstep_core::solver::{Solver, SolverError};
use serde::{Deserialize, Serialize};

use crate::suggest::nearest;

/// How plans are found: `karras/ipndm4`, `local@1.15/euler`, `reachable/euler`, `bound/euler`, `least-squares`; `+rollout` or
/// `+gauss-newton` after it refines what was found, and `+moments` or `+data-moments` at the end fits what makes the image to
/// the look of the teacher's, or of training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method {
    /// Where the levels come from.
    pub search: Search,
    /// What runs on them; the least-squares search fits its own.
    pub solver: Option<Solver>,
    /// How the plans are refined, if they are.
    pub refinement: Option<Refinement>,
    /// What the images' moments are matched with in the end, if they are.
    pub moments: Option<MomentsOf>,
}

/// What plans' images are to look like, all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MomentsOf {
    /// The teacher's images, which the search has anyway.
    Teacher,
    /// Training images: a teacher's images are a little unlike them, too.
    Data,
}

impl MomentsOf {
    const ALL: [Self; 2] = [Self::Teacher, Self::Data];

    /// Ends the name of a method.
    fn suffix(self) -> &'static str {
        match self {
            Self::Teacher => "+moments",
            Self::Data => "+data-moments",
        }
    }
}

/// How plans are refined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refinement {
    /// Down the gradient of the rollout error.
    Rollout,
    /// By Gauss-Newton steps, from evaluations alone.
    GaussNewton,
}

impl Refinement {
    const ALL: [Self; 2] = [Self::Rollout, Self::GaussNewton];

    /// Latents that it needs: to look at, and to judge by.
    fn least_latents(self) -> usize {
        match self {
            Self::Rollout => 4,
            Self::GaussNewton => 2,
        }
    }

    /// Ends the name of a method.
    fn suffix(self) -> &'static str {
        match self {
            Self::Rollout => "+rollout",
            Self::GaussNewton => "+gauss-newton",
        }
    }
}

/// Where noise levels come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Search {
    /// A schedule by its formula.
    Fixed(&'static str, Family),
    /// GITS; without a coefficient, the one whose plan has the least rollout error on the search's own latents.
    Local(Option<f64>),
    /// OSS: dynamic programming over the student's own states.
    Reachable,
    /// The paper's Eq. 12, exactly minimised over a table.
    Bound,
    /// Levels and coefficients together, over the student's own states.
    LeastSquares,
}

/// Schedules that need no network.
pub const SCHEDULES: [(&str, Family); 7] = [
    ("karras", Family::Karras { rho: 7.0 }),
    ("log_snr", Family::LogSnr),
    ("vp", Family::Vp { epsilon_s: 1e-3 }),
    ("ve", Family::Ve),
    ("iddpm", Family::Iddpm(IddpmLevels::DEFAULT)),
    ("cosine", Family::Cosine),
    ("time_uniform", Family::TimeUniform { rho: 1.0 }),
];

/// Searches by name, those that are no schedule.
const SEARCHES: [&str; 4] = ["local", "reachable", "bound", "least-squares"];

fn searches() -> impl Iterator<Item = &'static str> {
    SCHEDULES.iter().map(|(name, _)| *name).chain(SEARCHES)
}

/// A solver by name; an unknown one is answered with the nearest.
pub fn parse_solver(name: &str) -> Result<Solver> {
    name.parse().map_err(|error: SolverError| {
        let known: Vec<String> = Solver::all().iter().map(Solver::to_string).collect();
        match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => anyhow!("there is no solver named '{name}'; did you mean '{near}'?"),
            None => error.into(),
        }
    })
}

impl Method {
    /// Our search, refined.
    pub const LEAST_SQUARES: Self =
        Self { search: Search::LeastSquares, solver: None, refinement: Some(Refinement::GaussNewton), moments: None };

    /// The search that wins our comparisons of those that need no data (docs/choosing.md).
    pub const BEST: Self = Self { moments: Some(MomentsOf::Teacher), ..Self::LEAST_SQUARES };

    /// Whether it looks at training images.
    pub fn needs_images(&self) -> bool {
        self.search == Search::Bound || self.moments == Some(MomentsOf::Data)
    }

    /// Whether it looks at a teacher's trajectories.
    pub fn needs_teacher(&self) -> bool {
        let plain = matches!(self.search, Search::Fixed(..) | Search::Bound);
        !plain || self.before_last().is_some()
    }

    /// Latents that it needs.
    pub fn least_latents(&self) -> usize {
        // one image has no covariance
        self.refinement.map_or(1, Refinement::least_latents).max(if self.moments.is_some() { 2 } else { 1 })
    }

    /// Refuses numbers of evaluations that its solver cannot make: one of two evaluations a step makes 2 n - 1.
    pub fn check_evaluations(&self, nfes: &[usize]) -> Result<()> {
        let Some(solver) = self.solver.filter(|solver| solver.evaluations_per_step() == 2) else { return Ok(()) };
        match nfes.iter().find(|nfe| *nfe % 2 == 0) {
            Some(nfe) => bail!("{self}: {solver} makes odd numbers of evaluations, and --steps asks for {nfe}"),
            None => Ok(()),
        }
    }

    /// The same without the last of what comes after the search, if anything does.
    pub fn before_last(&self) -> Option<Self> {
        match (self.moments, self.refinement) {
            (Some(_), _) => Some(Self { moments: None, ..self.clone() }),
            (None, Some(_)) => Some(Self { refinement: None, ..self.clone() }),
            (None, None) => None,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.search {
            Search::Fixed(name, _) => write!(f, "{name}")?,
            Search::Local(None) => write!(f, "local")?,
            Search::Local(Some(coefficient)) => write!(f, "local@{coefficient}")?,
            Search::Reachable => write!(f, "reachable")?,
            Search::Bound => write!(f, "bound")?,
            Search::LeastSquares => write!(f, "least-squares")?,
        }
        if let Some(solver) = self.solver {
            write!(f, "/{solver}")?;
        }
        f.write_str(self.refinement.map_or("", Refinement::suffix))?;
        f.write_str(self.moments.map_or("", MomentsOf::suffix))
    }
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let like = |of: MomentsOf| Some((text.strip_suffix(of.suffix())?, Some(of)));
        let (refined, moments) = MomentsOf::ALL.into_iter().find_map(like).unwrap_or((text, None));
        let by = |how: Refinement| Some((refined.strip_suffix(how.suffix())?, Some(how)));
        let (plain, refinement) = Refinement::ALL.into_iter().find_map(by).unwrap_or((refined, None));
        let (search, solver) = match plain.split_once('/') {
            Some((search, solver)) => (search, Some(parse_solver(solver)?)),
            None => (plain, None),
        };
        let (name, option) = match search.split_once('@') {
            Some((name, option)) => (name, Some(option)),
            None => (search, None),
        };
        let fixed = SCHEDULES.iter().find(|(schedule, _)| *schedule == name);
        let search = match (name, fixed) {
            (_, Some((name, family))) => Search::Fixed(name, family.clone()),
            ("local", _) => {
                let number =
                    |text: &str| text.parse::<f64>().with_context(|| format!("'{text}' in {name}@{text} is no number"));
                Search::Local(option.map(number).transpose()?)
            }
            ("reachable", _) => Search::Reachable,
            ("bound", _) => Search::Bound,
            ("least-squares", _) => Search::LeastSquares,
            _ => match nearest(name, searches()) {
                Some(near) => bail!("there is no method '{text}'; did you mean '{}'?", text.replacen(name, near, 1)),
                None => bail!(
                    "there is no method '{text}'; write SEARCH/SOLVER, such as karras/ipndm4, local/euler (local@1.15/euler with a \
                     coefficient of your own), reachable/euler or bound/euler, or least-squares, \
                     and +rollout or +gauss-newton after any of them to refine what it finds, and +moments or +data-moments at the end"
                ),
            },
        };
        ensure!(option.is_none() || matches!(search, Search::Local(_)), "'{name}' in {text} takes no coefficient");
        let solver = match (&search, solver) {
            (Search::LeastSquares, Some(_)) => bail!("least-squares fits a solver of its own: write it without '/'"),
            (Search::LeastSquares, None) => None,
            (_, None) => Some(Solver::Euler),
            (_, solver) => solver,
        };
        Ok(Self { search, solver, refinement, moments })
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: anyhow::Error| error.to_string())
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_methods() {
        for name in [
            "karras/ipndm4",
            "local/euler",
            "local@1.15/dpmpp3m",
            "reachable/euler",
            "bound/euler",
            "least-squares",
            "vp/deis_tab3+rollout",
            "least-squares+rollout",
            "least-squares+gauss-newton",
            "least-squares+gauss-newton+moments",
            "reachable/ipndm4+moments",
            "least-squares+gauss-newton+data-moments",
        ] {
            assert_eq!(name.parse::<Method>().unwrap().to_string(), name);
        }
        assert_eq!("vp".parse::<Method>().unwrap().to_string(), "vp/euler");
        for (bad, says) in [
            ("gits/euler", "no method 'gits/euler'"),
            ("local@x/euler", "no number"),
            ("karras@2/euler", "takes no coefficient"),
            ("least-squares/euler", "solver of its own"),
            ("karras/rk4", "no solver named"),
            ("karas/euler", "did you mean 'karras/euler'?"),
            ("least_squares", "did you mean 'least-squares'?"),
            ("karras/ipndm", "did you mean 'ipndm4'?"),
        ] {
            let error = format!("{:#}", bad.parse::<Method>().unwrap_err());
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
