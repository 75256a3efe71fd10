//! The demo's table and report.

use fewstep_core::schedule::Schedule;
use fewstep_io::RunFolder;
use fewstep_report::{Block, Cell, Column, Format, LabeledImage, Page, Plot, Section, Table};

use super::{BASELINE, DemoResults, DemoRow, DemoTask, LEVELS, OURS};
use crate::error::Result;
use crate::figures;
use crate::runs::{RunFile, read_image};

/// The results as a table, a group for each number of steps, best values marked.
pub fn table(rows: &[DemoRow]) -> Table {
    let measured = is_measured(rows);
    let mut columns = vec![
        Column::number("steps", Format::Integer),
        Column::text("method"),
        Column::number("evaluations", Format::Integer),
    ];
    let guided = rows.iter().any(|row| row.calls > row.nfe);
    columns.extend(guided.then(|| Column::number("network calls", Format::Integer)));
    columns.extend(measured.then(|| Column::number(FRECHET, Format::Significant(4)).lowest()));
    columns.push(Column::number(ROLLOUT, Format::Significant(4)).lowest());
    let mut table = Table::new(columns);
    let mut group = None;
    for row in rows {
        if group != Some(row.steps) {
            table.start_group();
            group = Some(row.steps);
        }
        let number = |value: Option<f64>| value.map_or(Cell::Missing, Cell::from);
        let mut cells = vec![Cell::from(row.steps as f64), row.method.as_str().into(), Cell::from(row.nfe as f64)];
        cells.extend(guided.then(|| Cell::from(row.calls as f64)));
        cells.extend(measured.then(|| number(row.frechet)));
        cells.push(number(row.rollout_error));
        table.push(cells);
    }
    table
}

const FRECHET: &str = "Frechet distance";
const ROLLOUT: &str = "rollout error";

/// Whether images were measured.
fn is_measured(rows: &[DemoRow]) -> bool {
    rows.iter().any(|row| row.frechet.is_some())
}

/// What rows are compared by: its name, and its value for a row.
fn compared_by(rows: &[DemoRow]) -> (&'static str, fn(&DemoRow) -> f64) {
    match is_measured(rows) {
        true => (FRECHET, |row| row.frechet.unwrap_or(f64::NAN)),
        false => (ROLLOUT, |row| row.rollout_error.unwrap_or(f64::NAN)),
    }
}

/// The rows of each number of steps, the baseline first.
fn groups(rows: &[DemoRow]) -> impl Iterator<Item = &[DemoRow]> {
    rows.get(1..).unwrap_or_default().chunk_by(|a, b| a.steps == b.steps)
}

/// What happened, whatever it was: the best row of each number of steps, and the teacher.
pub fn headline(rows: &[DemoRow]) -> String {
    let (name, value) = compared_by(rows);
    let number = |value: f64| Format::Significant(3).write(value);
    let of_group = |group: &[DemoRow]| {
        let baseline = &group[0];
        let best = group.iter().fold(baseline, |best, row| if value(row) < value(best) { row } else { best });
        let (steps, before, after) = (baseline.steps, number(value(baseline)), number(value(best)));
        match best.method == baseline.method {
            true => format!("in {steps} steps nothing beats {before}"),
            false => format!("in {steps} steps from {before} to {after} by {}", best.method),
        }
    };
    let good: Vec<String> = groups(rows).map(of_group).collect();
    let teacher = match rows.first() {
        Some(teacher) if is_measured(rows) => {
            format!("; the teacher has {} with {} evaluations", number(value(teacher)), teacher.nfe)
        }
        Some(teacher) => format!("; it is 0 for the teacher's {} evaluations", teacher.nfe),
        None => String::new(),
    };
    format!("{}{} {}{teacher}.", name[..1].to_uppercase(), &name[1..], good.join(", "))
}

/// What did not help, if anything did not.
pub fn no_help(rows: &[DemoRow]) -> Option<String> {
    let (_, value) = compared_by(rows);
    let worse = |group: &[DemoRow]| {
        let (baseline, others) = (value(&group[0]), &group[1..]);
        let worse = others.iter().filter(|row| value(row) >= baseline);
        worse.map(|row| format!("{} at {} steps", row.method, row.steps)).collect::<Vec<_>>()
    };
    let bad: Vec<String> = groups(rows).flat_map(worse).collect();
    (!bad.is_empty()).then(|| format!("No better than the baseline in this run: {}.", bad.join("; ")))
}

/// The report.
pub fn page(results: &DemoResults, run: &RunFile<DemoTask>, folder: &RunFolder) -> Result<Page> {
    let rows = results.rows.as_slice();
    let images = rows.iter().filter_map(|row| {
        let distance = row.frechet.map_or_else(String::new, |frechet| format!("{FRECHET} {frechet:.2}, "));
        Some(read_image(folder, row.grid.as_ref()?).map(|png| LabeledImage {
            label: format!("{} steps, {}", row.steps, row.method),
            png,
            caption: format!("{distance}{} evaluations", row.nfe),
        }))
    });
    let images = images.collect::<Result<Vec<LabeledImage>>>()?;
    let tuning: Vec<_> = results.tuning.iter().map(|(name, steps)| (name.clone(), steps.as_slice())).collect();
    let no_help = no_help(rows).unwrap_or_else(|| "Every row beats the baseline.".to_owned());
    let task = &run.task;
    let mut facts = run.provenance.facts();
    facts.extend([
        ("model SHA-256".to_owned(), task.model.sha256.clone()),
        ("images a row".to_owned(), format!("{}, from seeds 0 on; the rollout error is of other latents", task.images)),
        ("time".to_owned(), format!("{:.0} s", results.seconds)),
    ]);
    let settings = serde_json::to_string_pretty(&task.settings)?;
    let mut sections = vec![Section::new("What did not help", vec![Block::Text(no_help)])];
    if !images.is_empty() {
        sections.push(Section::new("The same seeds", vec![Block::Images(images)]));
    }
    sections.push(Section::new("Noise levels", vec![Block::Plots(plots(results))]));
    if !tuning.is_empty() {
        sections.push(Section::new("Tuning the network", vec![Block::Plots(vec![figures::tuning(&tuning)])]));
    }
    sections.push(Section::new("Where the time went", vec![Block::Table(times(results))]));
    sections.push(Section::new("How to repeat it", vec![Block::Facts(facts), Block::Code(settings)]));
    let footer = match is_measured(rows) {
        true => "Frechet distances between features of a small classifier: comparable within this page only.",
        false => "The rollout error is of held-out latents, against the teacher from the same latents.",
    };
    Ok(Page {
        title: format!("fewstep demo: {} in a few steps", task.model.name),
        headline: headline(rows),
        table: Some(table(rows)),
        sections,
        footer: footer.to_owned(),
    })
}

fn times(results: &DemoResults) -> Table {
    let mut table = Table::new(vec![Column::text("part"), Column::number("seconds", Format::Fixed(1))]);
    for part in &results.parts {
        table.push(vec![part.name.as_str().into(), part.seconds.into()]);
    }
    table
}

/// Levels for every number of steps, and where the paper's phases were made the weights that theirs induce (its Figs. 3 and 4).
fn plots(results: &DemoResults) -> Vec<Plot> {
    let mut plots = Vec::new();
    for group in groups(&results.rows) {
        let steps = group[0].steps;
        let named = |method: &str| group.iter().find(|row| row.method == method);
        let learned = named(LEVELS);
        let levels = [("rho = 7", named(BASELINE)), ("learned (phase 1)", learned), ("our plan", named(OURS))];
        let levels: Vec<(&str, &[f64])> =
            levels.iter().filter_map(|(name, row)| row.map(|row| (*name, row.sigmas.as_slice()))).collect();
        plots.push(figures::schedules(format!("Noise levels, {steps} steps"), &levels));
        let learned = learned.and_then(|row| Schedule::new(row.sigmas.clone()).ok());
        if let Some((schedule, parameterisation)) = learned.zip(results.parameterisation.as_ref()) {
            plots.extend(figures::weights(steps, &schedule, parameterisation));
        }
    }
    plots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(steps: usize, method: &str, frechet: f64) -> DemoRow {
        let (method, frechet) = (method.to_owned(), Some(frechet));
        DemoRow {
            steps,
            method,
            nfe: steps,
            calls: steps,
            frechet,
            rollout_error: None,
            sigmas: Vec::new(),
            grid: None,
        }
    }

    #[test]
    fn what_helped_and_what_did_not_is_said() {
        let rows = [
            row(18, "teacher", 10.0),
            row(5, BASELINE, 80.0),
            row(5, LEVELS, 90.0),
            row(5, OURS, 20.0),
            row(8, BASELINE, 30.0),
            row(8, LEVELS, 30.0),
        ];
        assert_eq!(
            headline(&rows),
            "Frechet distance in 5 steps from 80.0 to 20.0 by our plan, in 8 steps nothing beats 30.0; the teacher has 10.0 \
             with 18 evaluations."
        );
        let bad = no_help(&rows).unwrap();
        assert_eq!(
            bad,
            "No better than the baseline in this run: phase 1: levels at 5 steps; phase 1: levels at 8 steps."
        );
        assert_eq!(no_help(&rows[..2]), None);
    }
}
