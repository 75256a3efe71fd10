//! The default plans of `fewstep plan`, from Rust: `cargo run --release -p fewstep --example few_steps -- [MODEL]`

use fewstep::core::observe::Silent;
use fewstep::models::{BUILT_IN, ModelOptions, open_model};
use fewstep::search::{Method, SearchSettings, find_plans};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or_else(|| BUILT_IN.to_owned());
    let opened = open_model(&model, &ModelOptions::default())?;
    let found = find_plans(&opened.denoiser(), &Method::BEST, &[5, 8], &SearchSettings::default(), &Silent)?;
    for (evaluations, plan) in &found.plans {
        std::fs::write(format!("plan-{evaluations}.json"), plan.to_json()?)?;
        println!("plan-{evaluations}.json: {:?}", plan.sigmas());
    }
    Ok(())
}
