//! Plans, with every state and the image written in the latent and the network outputs (Eq. 8).

use fewstep_core::plan::{Plan, Source};
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
    // all that a wide table has are sums, which take no unrolling: that of a long plan would not fit into memory
    let unrolled = (plan.nfe() <= WIDEST).then(|| plan.unrolled());
    let states = unrolled
        .as_ref()
        .map(|plan| plan.stages.iter().map(|stage| &stage.input).chain([&plan.output]).collect::<Vec<_>>());
    let shown = if unrolled.is_some() { plan.nfe() } else { 0 };
    let number = |name: &str| Column::number(name, Format::Significant(4));
    let mut columns = vec![Column::text("input of"), number("sigma"), number("latent")];
    let constant = plan.constant.as_ref().map(|_| Source::Constant);
    columns.extend(constant.map(|source| number(&source.to_string())));
    columns.extend((0..shown).map(|k| number(&Source::Output(k).to_string())));
    columns.push(number("sum of outputs"));
    let mut table = Table::new(columns);
    table.caption = "States in the latent and the network outputs d0, d1, ... (Eq. 8)".to_owned();
    let of = |wanted: Source| plan.sums(|source| f64::from(source == wanted));
    let latents = of(Source::Latent);
    let constants = constant.map(of);
    let outputs = plan.sums(|source| f64::from(source.is_image()));
    let stages = plan.stages.iter().map(Some).chain([None]);
    for (k, ((stage, latent), outputs)) in stages.zip(latents).zip(outputs).enumerate() {
        let name = stage.map_or_else(|| "image".to_owned(), |_| Source::Output(k).to_string());
        let sigma = stage.map_or(Cell::Missing, |stage| Cell::from(stage.sigma));
        let mut row = vec![Cell::from(name), sigma, Cell::from(latent)];
        row.extend(constants.iter().map(|constants| Cell::from(constants[k])));
        if let Some(states) = &states {
            // no cell where the state has no such term
            let term = |j: usize| states[k].terms().find(|(source, _)| *source == Source::Output(j)).map(|(_, c)| c);
            row.extend((0..shown).map(|j| Cell::from(term(j))));
        }
        row.push(Cell::from(outputs));
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use fewstep_core::plan::MOST_STAGES;
    use fewstep_core::{Schedule, Solver, SolverOptions};

    use super::*;

    /// Its unrolled form would have two hundred million terms.
    #[test]
    fn the_longest_plan_is_described_without_unrolling_it() {
        let levels = (0..MOST_STAGES).map(|i| (MOST_STAGES - i) as f64).collect();
        let plan = Solver::Euler.plan(&Schedule::new(levels).unwrap(), &SolverOptions::default()).unwrap();
        let rows = table(&plan).to_json();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), MOST_STAGES + 1);
        assert_eq!(rows[MOST_STAGES]["input of"], "image");
        assert_eq!(rows[0]["latent"], MOST_STAGES as f64);
    }

    /// The columns of a narrow table are one form of the plan, its sums another: they agree.
    #[test]
    fn sums_are_those_of_the_columns() {
        let plan = Solver::Heun.plan(&Schedule::new(vec![80.0, 2.0, 0.5]).unwrap(), &SolverOptions::default()).unwrap();
        let rows = table(&plan).to_json();
        for row in rows.as_array().unwrap() {
            let columns = (0..plan.nfe()).filter_map(|k| row[Source::Output(k).to_string()].as_f64());
            let (found, expected) = (columns.sum::<f64>(), row["sum of outputs"].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-12, "{row}");
        }
    }
}
