//! The default plans of `fewstep plan`, from Rust: `cargo run --release -p fewstep --example few_steps -- [MODEL]`

use fewstep::core::observe::Silent;
use fewstep::models::{BUILT_IN, ModelOptions, open_model};
use fewstep::search::{Found, Method, SearchSettings, find_plans};

/// The plans of these numbers of evaluations.
pub fn plans(model: &str, steps: &[usize]) -> Result<Found, Box<dyn std::error::Error>> {
    let opened = open_model(model, &ModelOptions::default())?;
    Ok(find_plans(&opened.denoiser(), &Method::BEST, steps, &SearchSettings::default(), &Silent)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or_else(|| BUILT_IN.to_owned());
    for (evaluations, plan) in &plans(&model, &[5, 8])?.plans {
        std::fs::write(format!("plan-{evaluations}.json"), plan.to_json()?)?;
        println!("plan-{evaluations}.json: {:?}", plan.sigmas());
    }
    Ok(())
}
