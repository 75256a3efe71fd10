//! The forms that hold any plan.

use fewstep_core::plan::{Plan, Source};
use serde_json::json;

use super::error::Result;
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
            Self::Csv => table(plan),
        })
    }
}

/// Comma-separated values: a row a state, last the image.
fn table(plan: &Plan) -> String {
    let unrolled = plan.unrolled();
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
        let coefficients = sources.iter().map(|source| (state.coefficient(*source) + 0.0).to_string());
        text += &(joined([name, sigma].into_iter().chain(coefficients), ",") + "\n");
    }
    text
}
