//! Names of methods, written and read.

use std::fmt;
use std::str::FromStr;

use fewstep_core::solver::{Solver, SolverError};

use super::{Method, MethodError, MomentsOf, Refinement, SCHEDULES, Source};
use crate::suggest::nearest;

/// Sources by name, those that are no schedule.
const SEARCHES: [&str; 4] = ["gits", "oss", "bound", "least-squares"];

/// Ends the name of a method that chooses by training data.
const NEAREST: &str = "+nearest";

/// A solver by name; an unknown one is answered with the nearest.
///
/// # Errors
/// If there is none of that name.
pub fn parse_solver(name: &str) -> Result<Solver, MethodError> {
    name.parse().map_err(|error: SolverError| {
        let known: Vec<String> = Solver::all().iter().map(Solver::to_string).collect();
        match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => MethodError::DidYouMean { what: "solver", name: name.to_owned(), near: near.to_owned() },
            None => error.into(),
        }
    })
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Fixed(name, _) => write!(f, "{name}")?,
            Source::Gits(None) => write!(f, "gits")?,
            Source::Gits(Some(coefficient)) => write!(f, "gits@{coefficient}")?,
            Source::Oss => write!(f, "oss")?,
            Source::Bound => write!(f, "bound")?,
            Source::LeastSquares => write!(f, "least-squares")?,
        }
        if let Some(solver) = self.solver {
            write!(f, "/{solver}")?;
        }
        f.write_str(self.refinement.map_or("", Refinement::suffix))?;
        f.write_str(self.moments.map_or("", MomentsOf::suffix))?;
        f.write_str(if self.nearest { NEAREST } else { "" })
    }
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let own = text.strip_suffix(NEAREST);
        let (own, nearest_to_data) = (own.unwrap_or(text), own.is_some());
        let of = |of: MomentsOf| Some((own.strip_suffix(of.suffix())?, Some(of)));
        let (refined, moments) = MomentsOf::ALL.into_iter().find_map(of).unwrap_or((own, None));
        if nearest_to_data && moments != Some(MomentsOf::Data) {
            return Err(MethodError::NotOfData(own.to_owned()));
        }
        let by = |how: Refinement| Some((refined.strip_suffix(how.suffix())?, Some(how)));
        let (plain, refinement) = Refinement::ALL.into_iter().find_map(by).unwrap_or((refined, None));
        let (source, solver) = match plain.split_once('/') {
            Some((source, solver)) => (source, Some(parse_solver(solver)?)),
            None => (plain, None),
        };
        let (name, option) = match source.split_once('@') {
            Some((name, option)) => (name, Some(option)),
            None => (source, None),
        };
        let fixed = SCHEDULES.iter().find(|(schedule, _)| *schedule == name);
        let source = match (name, fixed) {
            (_, Some((name, family))) => Source::Fixed(name, family.clone()),
            ("gits" | "local", _) => {
                let number = |text: &str| {
                    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
                    number.ok_or_else(|| MethodError::Coefficient {
                        coefficient: text.to_owned(),
                        method: format!("{name}@{text}"),
                    })
                };
                Source::Gits(option.map(number).transpose()?)
            }
            ("oss" | "reachable", _) => Source::Oss,
            ("bound", _) => Source::Bound,
            ("least-squares", _) => Source::LeastSquares,
            _ => {
                let known = SCHEDULES.iter().map(|(name, _)| *name).chain(SEARCHES);
                return Err(match nearest(name, known) {
                    Some(near) => MethodError::DidYouMean {
                        what: "method",
                        name: text.to_owned(),
                        near: text.replacen(name, near, 1),
                    },
                    None => MethodError::Unknown(text.to_owned()),
                });
            }
        };
        if option.is_some() && !matches!(source, Source::Gits(_)) {
            return Err(MethodError::NoCoefficient { source_name: name.to_owned(), method: text.to_owned() });
        }
        let solver = match (&source, solver) {
            (Source::LeastSquares, Some(_)) => return Err(MethodError::OwnSolver),
            (Source::LeastSquares, None) => None,
            (_, None) => Some(Solver::Euler),
            (_, solver) => solver,
        };
        if solver.is_none() && refinement == Some(Refinement::Levels) {
            return Err(MethodError::NoFormula);
        }
        Ok(Self { source, solver, refinement, moments, nearest: nearest_to_data })
    }
}

impl TryFrom<String> for Method {
    type Error = MethodError;

    fn try_from(text: String) -> Result<Self, MethodError> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.to_string()
    }
}
