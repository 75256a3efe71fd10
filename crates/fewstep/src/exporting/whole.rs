//! The forms that hold any plan.

use fewstep_core::plan::{Plan, Source};
use fewstep_report::{Cell, Column, Format, Table};
use serde_json::json;

use super::error::Result;

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

    /// The export.
    pub fn write(self, plan: &Plan) -> Result<String> {
        Ok(match self {
            Self::Python => PLAN_SAMPLER.to_owned(),
            Self::Json => serde_json::to_string_pretty(&json!({
                "sigmas": plan.sigmas(),
                "nfe": plan.nfe(),
                "plan": plan,
                "unrolled": plan.unrolled(),
            }))?,
            Self::Csv => table(plan).to_csv(),
        })
    }
}

/// A row a state, last the image.
fn table(plan: &Plan) -> Table {
    let unrolled = plan.unrolled();
    let number = |name: String| Column::number(name, Format::Significant(9));
    let mut sources = vec![Source::Latent];
    sources.extend(plan.constant.as_ref().map(|_| Source::Constant));
    sources.extend((0..plan.nfe()).map(Source::Output));
    let mut columns = vec![Column::text("state"), number("sigma".to_owned())];
    columns.extend(sources.iter().map(|source| number(source.to_string())));
    let mut table = Table::new(columns);
    let states =
        unrolled.stages.iter().enumerate().map(|(k, stage)| (format!("x{k}"), Some(stage.sigma), &stage.input));
    for (name, sigma, state) in states.chain([("image".to_owned(), None, &unrolled.output)]) {
        let mut row = vec![Cell::from(name), Cell::from(sigma)];
        row.extend(sources.iter().map(|source| Cell::from(state.coefficient(*source))));
        table.push(row);
    }
    table
}
