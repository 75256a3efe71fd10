//! Plans, with every state and the image written in the latent and the network outputs (Eq. 8).

use fewstep_core::plan::{Combination, Plan, Source};
use fewstep_report::{Cell, Column, Format, Table};
use serde_json::{Value, json};

use super::{Description, by, of_shape};

/// Plans of more evaluations show sums alone; data has every coefficient.
const WIDEST: usize = 8;

/// A plan's evaluations and coefficients.
pub fn describe(plan: &Plan) -> Description {
    let metadata = &plan.metadata;
    // guidance evaluates two networks, or one twice
    let calls = plan.nfe() * if metadata.guidance.is_some() { 2 } else { 1 };
    let evaluations = format!("{} network evaluations", plan.nfe());
    let nfe = if calls > plan.nfe() { format!("{evaluations}, {calls} network calls") } else { evaluations };
    let mut info = Description::new("plan")
        .fact("solver", plan.solver.as_str())
        .told("nfe", plan.nfe(), nfe)
        .silent("calls", calls);
    if let Some(schedule) = &plan.schedule {
        let levels: Vec<String> = schedule.levels().iter().map(|sigma| Format::Significant(4).write(*sigma)).collect();
        info = info.told("schedule", json!(schedule), levels.join(", "));
    }
    if let Some(model) = &metadata.model {
        info = info.fact("model", model.as_str());
    }
    if let Some(parameterisation) = &metadata.parameterisation {
        info = info.fact("parameterisation", parameterisation.as_str());
    }
    if let Some(guidance) = &metadata.guidance {
        let words = format!("weight {}, against the network {}", guidance.weight, guidance.reference);
        info = info.told("guidance", json!(guidance), words);
    }
    if let Some(constant) = &plan.constant {
        let shape = by(&constant.shape);
        let samples = match constant.samples.len() {
            1 => format!("one {shape} sample"),
            classes => format!("a {shape} sample for each of {classes} classes"),
        };
        let words = format!("{samples}, in place of an evaluation at sigma {}", constant.sigma);
        let value = json!({ "sigma": constant.sigma, "samples": constant.samples.len(), "shape": constant.shape });
        info = info.told("constant", value, words);
    }
    if let Some(shape) = &metadata.sample_shape {
        info = of_shape(info, shape);
    }
    for (key, value) in &metadata.found_by {
        info = info.told(key, value.clone(), in_words(value));
    }
    for (key, score) in &metadata.scores {
        info = info.fact(key, *score);
    }
    info.table("states", table(plan))
}

/// What the search says of itself: names and values, those inside others one after the other.
fn in_words(value: &Value) -> String {
    match value {
        Value::Object(parts) => {
            let part = |(name, value): (&String, &Value)| format!("{} {}", name.replace('_', " "), in_words(value));
            parts.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        Value::Array(values) => values.iter().map(in_words).collect::<Vec<_>>().join(" "),
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_u64() => {
            number.as_f64().map_or_else(|| number.to_string(), |number| Format::Significant(4).write(number))
        }
        other => other.to_string(),
    }
}

/// One row a state, last the image. Sums tell whether a solver is consistent: on data that is a single point, the latent's
/// coefficient is the noise level and the outputs' sum, the constant among them, is 1 - sigma / sigma_max.
fn table(plan: &Plan) -> Table {
    let unrolled = plan.unrolled();
    let shown = if plan.nfe() <= WIDEST { plan.nfe() } else { 0 };
    let number = |name: &str| Column::number(name, Format::Significant(4));
    let mut columns = vec![Column::text("input of"), number("sigma"), number("latent")];
    let constant = plan.constant.as_ref().map(|_| Source::Constant);
    columns.extend(constant.map(|source| number(&source.to_string())));
    columns.extend((0..shown).map(|k| number(&Source::Output(k).to_string())));
    columns.push(number("sum of outputs"));
    let mut table = Table::new(columns);
    table.caption = "States in the latent and the network outputs d0, d1, ... (Eq. 8)".to_owned();
    let row = |name: String, sigma: f64, state: &Combination| {
        let outputs =
            |state: &Combination| state.terms().filter(|(source, _)| source.is_image()).map(|(_, c)| c).sum::<f64>();
        let term = |k: usize| state.terms().find(|(source, _)| *source == Source::Output(k)).map(|(_, c)| c);
        let mut row = vec![Cell::from(name), Cell::from(sigma), Cell::from(state.coefficient(Source::Latent))];
        row.extend(constant.map(|source| Cell::from(state.coefficient(source))));
        row.extend((0..shown).map(|k| Cell::from(term(k))));
        row.push(Cell::from(outputs(state)));
        row
    };
    for (k, stage) in unrolled.stages.iter().enumerate() {
        table.push(row(Source::Output(k).to_string(), stage.sigma, &stage.input));
    }
    let mut image = row("image".to_owned(), 0.0, &unrolled.output);
    image[1] = Cell::Missing;
    table.push(image);
    table
}
