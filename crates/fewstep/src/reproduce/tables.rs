//! Tables of an experiment.

use fewstep_report::{Cell, Column, Format, Table};

use super::ReproduceTask;
use crate::cells::{Row, Scores, mean, spread};
use crate::error::Result;

/// What rows are compared by.
pub(super) enum Measure<'a> {
    /// The Frechet distance under one of the feature networks, named where there are others.
    Frechet { network: usize, name: Option<&'a str> },
    /// The rollout error, where no images were scored.
    RolloutError,
}

/// All that rows are compared by, the first feature network's before the others'; nothing where there are no rows.
pub(super) fn measures(rows: &[Row]) -> Vec<Measure<'_>> {
    let networks = networks(rows);
    if networks.is_empty() {
        return if rows.is_empty() { Vec::new() } else { vec![Measure::RolloutError] };
    }
    let several = networks.len() > 1;
    let of = |(network, name)| Measure::Frechet { network, name: Some(name).filter(|_| several) };
    networks.into_iter().enumerate().map(of).collect()
}

impl Measure<'_> {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Frechet { name: Some(name), .. } => format!("Frechet distance, {name}"),
            Self::Frechet { name: None, .. } => "Frechet distance".to_owned(),
            Self::RolloutError => "Rollout error".to_owned(),
        }
    }

    /// Of one of the rows; infinite for one that diverges.
    pub(super) fn of(&self, row: &Row) -> f64 {
        match self {
            Self::RolloutError => row.rollout_error,
            Self::Frechet { network, .. } => match row.frechet(*network) {
                [] => f64::INFINITY,
                distances => mean(distances),
            },
        }
    }
}

/// The feature networks that scored images (of some rows: those that diverge have no scores).
fn networks(rows: &[Row]) -> Vec<&str> {
    let scored = rows.iter().map(|row| &row.scores).find(|scores| !scores.is_empty());
    scored.into_iter().flatten().map(|scores| scores.features.as_str()).collect()
}

/// Rows down, numbers of steps across, as the paper's Table 1: distances to data and to the teacher's images of other seeds by every
/// feature network, and the rollout error.
pub(super) fn table(rows: &[Row], task: &ReproduceTask) -> Table {
    let networks = networks(rows);
    let by = |network: &str| if networks.len() > 1 { format!(", {network}") } else { String::new() };
    let has_data = rows.iter().any(|row| row.scores.iter().any(|scores| !scores.data.frechet.is_empty()));
    let mut columns = vec![Column::text("method")];
    let number = |name: String, digits: usize| Column::number(name, Format::Significant(digits)).lowest();
    for steps in &task.steps {
        for network in &networks {
            columns.extend(has_data.then(|| number(format!("{steps} steps{}", by(network)), 4)));
            columns.push(number(format!("KID to the teacher, {steps}{}", by(network)), 3));
        }
        columns.push(number(format!("rollout error, {steps}"), 3));
    }
    let mut table = Table::new(columns);
    table.caption = caption(rows, task);
    for kind in task.rows() {
        let mut cells: Vec<Cell> = vec![kind.name().into()];
        for steps in &task.steps {
            let found = rows.iter().find(|row| row.method == kind.name() && row.nfe == *steps);
            for network in 0..networks.len() {
                let scores = found.and_then(|row| row.scores.get(network));
                let of = |values: Option<&Vec<f64>>| values.map_or(Cell::Missing, |values| spread(values));
                cells.extend(has_data.then(|| of(scores.map(|scores| &scores.data.frechet))));
                cells.push(of(scores.map(|scores| &scores.teacher.kid)));
            }
            cells.push(found.map_or(Cell::Missing, |row| row.rollout_error.into()));
        }
        table.push(cells);
    }
    table
}

fn caption(rows: &[Row], task: &ReproduceTask) -> String {
    let seeds = &task.settings.seeds;
    let ranges = match seeds.ranges {
        1 => "one range".to_owned(),
        ranges => format!("mean and deviation of {ranges} ranges"),
    };
    let measures = measures(rows);
    let images = match measures.first() {
        Some(Measure::Frechet { .. }) => format!("Frechet distance, {ranges} of {} images each; ", seeds.images),
        _ => String::new(),
    };
    let Some(teacher) = rows.first() else { return images };
    let calls = match teacher.calls.checked_div(teacher.nfe) {
        Some(calls) if calls > 1 => format!(", {calls} network calls each"),
        _ => String::new(),
    };
    let write = |measure: &Measure| match measure {
        Measure::Frechet { .. } => Some(Format::Significant(4).write(measure.of(teacher))),
        Measure::RolloutError => None,
    };
    let distances: Vec<String> = measures.iter().filter_map(write).collect();
    let distance = if distances.is_empty() { String::new() } else { format!(" {} with", distances.join(", ")) };
    format!("{images}the teacher has{distance} {} evaluations{calls}", teacher.nfe)
}

/// The table and what it depends on.
pub(super) fn markdown(rows: &[Row], task: &ReproduceTask) -> Result<String> {
    let mut text = format!("{}\n", table(rows, task).to_markdown());
    for (what, value) in facts(task) {
        text += &format!("- {what}: {value}\n");
    }
    let settings = serde_json::to_string_pretty(&task.settings)?;
    Ok(format!("{text}\n```json\n{settings}\n```\n"))
}

/// Model, data and reference by name and hash, and the seeds.
pub(super) fn facts(task: &ReproduceTask) -> Vec<(String, String)> {
    let model = &task.model;
    let mut facts = vec![("model".to_owned(), format!("{}, SHA-256 {}", model.name, model.sha256))];
    if let Some(guidance) = &model.guidance {
        facts.push(("guidance".to_owned(), guidance.weight.to_string()));
    }
    if let Some(data) = &task.data {
        facts.push(("data".to_owned(), format!("{}, SHA-256 {}", data.name, data.sha256)));
    }
    for reference in &task.references {
        let hash = reference.reference_sha256.as_ref().map_or_else(String::new, |hash| format!(", {hash}"));
        let text = format!("features {}; reference {}{hash}", reference.features, reference.reference);
        facts.push(("image scores".to_owned(), text));
    }
    let seeds = &task.settings.seeds;
    let ranges = (0..seeds.ranges).map(|range| seeds.range(range));
    let ranges: Vec<String> = ranges.map(|seeds| format!("{} to {}", seeds.start, seeds.end - 1)).collect();
    facts.push(("seeds".to_owned(), ranges.join(", ")));
    facts
}

/// A line a row, feature network and seed range, for machines.
pub(super) fn flat(rows: &[Row], task: &ReproduceTask) -> Table {
    let distance = |name: &str| Column::number(name, Format::Significant(8));
    let mut table = Table::new(vec![
        Column::text("method"),
        Column::number("nfe", Format::Integer),
        Column::number("network calls", Format::Integer),
        Column::number("first seed", Format::Integer),
        Column::number("last seed", Format::Integer),
        Column::text("features"),
        distance("frechet"),
        distance("kid"),
        distance("frechet to teacher"),
        distance("kid to teacher"),
        distance("rollout error"),
        Column::number("seconds to find", Format::Fixed(1)),
    ]);
    let at = |values: &[f64], range: usize| values.get(range).map_or(Cell::Missing, |value| Cell::from(*value));
    for row in rows {
        let mut lines: Vec<Vec<Cell>> = Vec::new();
        for Scores { features, data, teacher } in &row.scores {
            for range in 0..data.frechet.len().max(teacher.frechet.len()) {
                let seeds = task.settings.seeds.range(range as u64);
                let mut line = vec![Cell::from(seeds.start as f64), Cell::from((seeds.end - 1) as f64)];
                line.push(features.as_str().into());
                let all = [&data.frechet, &data.kid, &teacher.frechet, &teacher.kid];
                line.extend(all.map(|values| at(values, range)));
                lines.push(line);
            }
        }
        if lines.is_empty() {
            lines.push(vec![Cell::Missing; 7]);
        }
        for line in lines {
            let mut cells: Vec<Cell> = vec![row.method.as_str().into(), row.nfe.into(), row.calls.into()];
            cells.extend(line);
            cells.extend([row.rollout_error.into(), row.search_seconds.into()]);
            table.push(cells);
        }
    }
    table
}

/// Whether the paper's ordering holds, number of steps by number of steps, under each feature network; where its rows lack, what those that
/// there are have.
pub(super) fn headline(rows: &[Row], task: &ReproduceTask) -> String {
    if rows.is_empty() {
        let steps = task.steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        return format!("Levels learned for {steps} steps.");
    }
    let under = |measure: &Measure| match measure {
        Measure::Frechet { name: Some(name), .. } => format!("Under {name}, {}.", orders(rows, task, measure)),
        _ => format!("{}.", orders(rows, task, measure)),
    };
    measures(rows).iter().map(under).collect::<Vec<_>>().join(" ")
}

/// The same under one of them.
fn orders(rows: &[Row], task: &ReproduceTask, measure: &Measure) -> String {
    let value = |name: &str, steps: usize| {
        rows.iter().find(|row| row.method == name && row.nfe == steps).map(|row| measure.of(row))
    };
    let sentence = |&steps: &usize| {
        let write = |distance: f64| Format::Significant(3).write(distance);
        let [base, both] = ["baseline", "both phases"].map(|name| value(name, steps));
        let (Some(base), Some(both)) = (base, both) else {
            let found = task.rows().into_iter().filter_map(|kind| Some((kind.name(), value(kind.name(), steps)?)));
            let found: Vec<String> = found.map(|(name, distance)| format!("{name} {}", write(distance))).collect();
            return format!("{steps} steps: {}", found.join(", "));
        };
        let order = match ["phase 1: levels", "phase 2: network"].map(|name| value(name, steps)) {
            [Some(first), Some(second)] => {
                let better = first.min(second);
                let holds = if both <= better && first.max(second) <= base { "holds" } else { "does not hold" };
                format!(", the better phase alone {}: the paper's order {holds}", write(better))
            }
            _ => String::new(),
        };
        format!("{steps} steps: baseline {}, both phases {}{order}", write(base), write(both))
    };
    task.steps.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str, distances: [f64; 2]) -> Row {
        let none = || serde_json::json!({ "frechet": [], "kid": [] });
        let score = |(features, frechet)| serde_json::json!({ "features": features, "data": { "frechet": [frechet], "kid": [] }, "teacher": none() });
        let scores: Vec<_> = ["a", "b"].into_iter().zip(distances).map(score).collect();
        let value = serde_json::json!({
            "model": "m", "method": method, "nfe": 5, "rollout_error": 0.0, "search_evaluations": 0, "search_seconds": 0.0,
            "seconds_per_image": 0.1, "sigmas": [], "weights": [], "plan": "plan.json", "scores": scores,
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_order_is_that_of_one_feature_network() {
        let task = serde_json::json!({
            "experiment": "table1", "steps": [5], "model": { "name": "m", "sha256": "", "precision": "f32" },
            "settings": super::super::ReproduceSettings::default(),
        });
        let task: ReproduceTask = serde_json::from_value(task).unwrap();
        let rows = [
            row("baseline", [3.0, 3.0]),
            row("phase 1: levels", [2.0, 4.0]),
            row("phase 2: network", [2.5, 2.0]),
            row("both phases", [1.0, 1.0]),
        ];
        let sentence = headline(&rows, &task);
        let (a, b) = sentence.split_once(" Under b, ").unwrap();
        assert!(
            a.starts_with("Under a, 5 steps: baseline 3.00, both phases 1.00") && a.ends_with("order holds."),
            "{a}"
        );
        assert!(b.ends_with("order does not hold."), "{b}");
    }
}
