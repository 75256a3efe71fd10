//! The forms that hold any plan.

use fewstep_core::plan::{Plan, Source};
use serde_json::json;

use super::error::{Error, Result};
use super::levels::joined;

/// A Python file that runs plans.
const PLAN_SAMPLER: &str = include_str!("../../assets/plan_sampler.py");

/// A form that holds any plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    Python,
    Json,
    Csv,
}

impl Whole {
    /// What messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Json => "JSON",
            Self::Csv => "CSV",
        }
    }

    /// The export, and what its reader has to know besides.
    ///
    /// # Errors
    /// If it is a table of too many evaluations.
    pub fn write(self, plan: &Plan) -> Result<(String, Option<String>)> {
        let whole = |text: String| (text, None);
        Ok(match self {
            Self::Python => whole(PLAN_SAMPLER.to_owned()),
            Self::Json => json(plan)?,
            Self::Csv => whole(table(plan)?),
        })
    }
}

/// Evaluations whose coefficients are written for every pair, at most: for many more they fill the memory.
const MOST_UNROLLED: usize = 1000;

fn json(plan: &Plan) -> Result<(String, Option<String>)> {
    let unrolled = (plan.nfe() <= MOST_UNROLLED).then(|| plan.unrolled());
    let note = unrolled.is_none().then(|| {
        format!(
            "the plan of {} evaluations is written as it is alone: its states in the latent and the outputs \
             (\"unrolled\") are written of plans of {MOST_UNROLLED} at most",
            plan.nfe()
        )
    });
    let mut value = json!({ "sigmas": plan.sigmas(), "nfe": plan.nfe(), "plan": plan });
    if let Some(unrolled) = unrolled {
        value["unrolled"] = json!(unrolled);
    }
    Ok((serde_json::to_string_pretty(&value)?, note))
}

/// Comma-separated values: a row a state, last the image.
fn table(plan: &Plan) -> Result<String> {
    if plan.nfe() > MOST_UNROLLED {
        return Err(Error::TooWide { evaluations: plan.nfe(), most: MOST_UNROLLED });
    }
    let unrolled = plan.unrolled();
    let constants = usize::from(plan.constant.is_some());
    let column = |source: Source| match source {
        Source::Latent => Some(0),
        Source::Constant => Some(1),
        Source::Output(k) => Some(1 + constants + k),
        // an unrolled plan has none
        Source::Input(_) => None,
    };
    let mut sources = vec![Source::Latent];
    sources.extend(plan.constant.as_ref().map(|_| Source::Constant));
    sources.extend((0..plan.nfe()).map(Source::Output));
    let names = sources.iter().map(Source::to_string);
    let mut text = joined(["state".to_owned(), "sigma".to_owned()].into_iter().chain(names), ",") + "\n";
    let states = unrolled.stages.iter().enumerate().map(|(k, stage)| {
        let sigma = stage.sigma.to_string();
        (format!("x{k}"), sigma, &stage.input)
    });
    for (name, sigma, state) in states.chain([("image".to_owned(), String::new(), &unrolled.output)]) {
        let mut row = vec![0.0; sources.len()];
        for (source, c) in state.terms() {
            if let Some(cell) = column(source).and_then(|column| row.get_mut(column)) {
                *cell += c; // to 0, so that no cell is -0
            }
        }
        text += &(joined([name, sigma].into_iter().chain(row.iter().map(f64::to_string)), ",") + "\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use fewstep_core::plan::{Combination, Constant, MOST_STAGES};
    use fewstep_core::schedule::Schedule;
    use fewstep_core::solver::{Solver, SolverOptions};

    use super::*;

    fn plan(levels: usize) -> Plan {
        let levels = (0..levels).map(|i| (levels - i) as f64).collect();
        Solver::Euler.plan(&Schedule::new(levels).unwrap(), &SolverOptions::default()).unwrap()
    }

    #[test]
    fn a_table_has_every_coefficient_in_its_column() {
        let mut plan = plan(3);
        let (text, note) = Whole::Csv.write(&plan).unwrap();
        assert_eq!((text.lines().next(), note), (Some("state,sigma,latent,d0,d1,d2"), None));
        plan.constant = Some(Constant { sigma: 3.0, shape: vec![1], samples: vec![vec![0.5]] });
        plan.stages[0].input = Combination::new(vec![(Source::Latent, 2.0), (Source::Constant, -0.5)]);
        let unrolled = plan.unrolled();
        let (text, _) = Whole::Csv.write(&plan).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("state,sigma,latent,constant,d0,d1,d2"));
        let states = unrolled.stages.iter().map(|stage| &stage.input).chain([&unrolled.output]);
        for (line, state) in lines.by_ref().zip(states) {
            let outputs = (0..3).map(Source::Output);
            let sources = [Source::Latent, Source::Constant].into_iter().chain(outputs);
            let expected: Vec<f64> = sources.map(|source| state.coefficient(source) + 0.0).collect();
            let cells: Vec<f64> = line.split(',').skip(2).map(|cell| cell.parse().unwrap()).collect();
            assert_eq!(cells, expected, "{line}");
            assert!(!line.contains("-0,"), "{line}");
        }
        assert_eq!(lines.next(), None);
    }

    /// Its unrolled form would have two hundred million terms.
    #[test]
    fn long_plans_are_exported_without_unrolling_them() {
        let long = plan(MOST_STAGES);
        let (text, note) = Whole::Json.write(&long).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((value["nfe"].as_u64(), value.get("unrolled")), (Some(MOST_STAGES as u64), None));
        assert!(note.unwrap().contains("1000 at most"));
        let error = Whole::Csv.write(&long).unwrap_err().to_string();
        assert!(error.contains("the plan has 20000") && error.contains("json"), "{error}");
        // up to the limit nothing is left out
        let (text, note) = Whole::Json.write(&plan(40)).unwrap();
        assert!(text.contains("\"unrolled\"") && note.is_none());
    }
}
