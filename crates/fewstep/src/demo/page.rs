//! The demo's table and report.

use fewstep_core::schedule::Schedule;
use fewstep_io::RunFolder;
use fewstep_report::{Block, Cell, Column, Format, LabeledImage, Page, Plot, Section, Table};

use super::{BASELINE, DemoResults, DemoRow, DemoTask, LEVELS, OURS};
use crate::error::Result;
use crate::figures;
use crate::runs::RunFile;

/// The results as a table, a group for each number of steps, best values marked.
pub fn table(rows: &[DemoRow]) -> Table {
    let mut table = Table::new(vec![
        Column::number("steps", Format::Integer),
        Column::text("method"),
        Column::number("evaluations", Format::Integer),
        Column::number("Frechet distance", Format::Significant(4)).lowest(),
        Column::number("rollout error", Format::Significant(4)).lowest(),
    ]);
    let mut group = None;
    for row in rows {
        if group != Some(row.steps) {
            table.start_group();
            group = Some(row.steps);
        }
        table.push(vec![
            Cell::from(row.steps as f64),
            row.method.as_str().into(),
            Cell::from(row.nfe as f64),
            row.frechet.into(),
            row.rollout_error.map_or(Cell::Missing, Cell::from),
        ]);
    }
    table
}

/// The rows of each number of steps, the baseline first.
fn groups(rows: &[DemoRow]) -> impl Iterator<Item = &[DemoRow]> {
    rows.get(1..).unwrap_or_default().chunk_by(|a, b| a.steps == b.steps)
}

/// What happened, whatever it was: the best row of each number of steps, and the teacher.
pub fn headline(rows: &[DemoRow]) -> String {
    let of_group = |group: &[DemoRow]| {
        let baseline = &group[0];
        let best = group.iter().fold(baseline, |best, row| if row.frechet < best.frechet { row } else { best });
        let (steps, before, after) = (baseline.steps, baseline.frechet, best.frechet);
        match best.method == baseline.method {
            true => format!("in {steps} steps nothing beats {before:.1}"),
            false => format!("in {steps} steps from {before:.1} to {after:.1} by {}", best.method),
        }
    };
    let (distance, evaluations) = rows.first().map_or((f64::NAN, 0), |row| (row.frechet, row.nfe));
    let good: Vec<String> = groups(rows).map(of_group).collect();
    format!("Frechet distance {}; the teacher has {distance:.1} with {evaluations} evaluations.", good.join(", "))
}

/// What did not help, if anything did not.
pub fn no_help(rows: &[DemoRow]) -> Option<String> {
    let worse = |group: &[DemoRow]| {
        let (baseline, others) = (group[0].frechet, &group[1..]);
        let worse = others.iter().filter(|row| row.frechet >= baseline);
        worse.map(|row| format!("{} at {} steps", row.method, row.steps)).collect::<Vec<_>>()
    };
    let bad: Vec<String> = groups(rows).flat_map(worse).collect();
    (!bad.is_empty()).then(|| format!("No better than the baseline in this run: {}.", bad.join("; ")))
}

/// The report.
pub fn page(results: &DemoResults, run: &RunFile<DemoTask>, folder: &RunFolder) -> Result<Page> {
    let rows = results.rows.as_slice();
    let images = rows.iter().map(|row| LabeledImage {
        label: format!("{} steps, {}", row.steps, row.method),
        png: std::fs::read(folder.path().join(&row.grid)).unwrap_or_default(),
        caption: format!("Frechet distance {:.2}, {} evaluations", row.frechet, row.nfe),
    });
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
    Ok(Page {
        title: "fewstep demo: Fashion-MNIST in a few steps".to_owned(),
        headline: headline(rows),
        table: Some(table(rows)),
        sections: vec![
            Section::new("What did not help", vec![Block::Text(no_help)]),
            Section::new("The same seeds", vec![Block::Images(images.collect())]),
            Section::new("Learned noise levels and the weights they induce", vec![Block::Plots(plots(results))]),
            Section::new("Tuning the network", vec![Block::Plots(vec![figures::tuning(&tuning)])]),
            Section::new("Where the time went", vec![Block::Table(times(results))]),
            Section::new("How to repeat it", vec![Block::Facts(facts), Block::Code(settings)]),
        ],
        footer:
            "Frechet distance between features of a small classifier of Fashion-MNIST: comparable within this page \
                 only."
                .to_owned(),
    })
}

fn times(results: &DemoResults) -> Table {
    let mut table = Table::new(vec![Column::text("part"), Column::number("seconds", Format::Fixed(1))]);
    for part in &results.parts {
        table.push(vec![part.name.as_str().into(), part.seconds.into()]);
    }
    table
}

/// Figs. 3 and 4 of the paper for every number of steps, with the levels of our plan beside them.
fn plots(results: &DemoResults) -> Vec<Plot> {
    let mut plots = Vec::new();
    for learned in results.rows.iter().filter(|row| row.method == LEVELS) {
        let steps = learned.steps;
        let named = |method: &str| results.rows.iter().find(|row| row.steps == steps && row.method == method);
        let levels = [("rho = 7", named(BASELINE)), ("learned (phase 1)", Some(learned)), ("our plan", named(OURS))];
        let levels: Vec<(&str, &[f64])> =
            levels.iter().filter_map(|(name, row)| row.map(|row| (*name, row.sigmas.as_slice()))).collect();
        plots.push(figures::schedules(format!("Noise levels, {steps} steps"), &levels));
        if let Ok(schedule) = Schedule::new(learned.sigmas.clone()) {
            plots.extend(figures::weights(steps, &schedule, &results.parameterisation));
        }
    }
    plots
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn row(steps: usize, method: &str, frechet: f64) -> DemoRow {
        let (method, grid) = (method.to_owned(), PathBuf::new());
        DemoRow { steps, method, nfe: steps, frechet, rollout_error: None, sigmas: Vec::new(), grid }
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
