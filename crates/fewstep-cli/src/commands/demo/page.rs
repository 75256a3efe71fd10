//! The demo's table and report.

use std::path::Path;

use fewstep_core::precondition::Preconditioning;
use fewstep_core::schedule::Schedule;
use fewstep_report::{Block, Cell, Column, Format, LabeledImage, Page, Section, Table};

use super::{BASELINE, LEVELS, OURS, Results, Row, Run};
use crate::figures;

/// The result as a table, a group for each number of steps, best values marked.
fn table(results: &Results) -> Table {
    let mut table = Table::new(vec![
        Column::number("steps", Format::Integer),
        Column::text("method"),
        Column::number("evaluations", Format::Integer),
        Column::number("Frechet distance", Format::Significant(4)).lowest(),
        Column::number("rollout error", Format::Significant(4)).lowest(),
    ]);
    let mut group = None;
    for row in &results.rows {
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

fn times(results: &Results) -> Table {
    let mut table = Table::new(vec![Column::text("part"), Column::number("seconds", Format::Fixed(1))]);
    for part in &results.parts {
        table.push(vec![part.name.as_str().into(), part.seconds.into()]);
    }
    table
}

/// What happened, whatever it was: the best row of each number of steps, then what did not help.
fn verdict(rows: &[Row]) -> (String, Option<String>) {
    let teacher = rows.first().map_or(f64::NAN, |row| row.frechet);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut steps: Vec<usize> = rows.iter().skip(1).map(|row| row.steps).collect();
    steps.dedup();
    for steps in steps {
        let group: Vec<&Row> = rows.iter().skip(1).filter(|row| row.steps == steps).collect();
        let Some(baseline) = group.first() else { continue };
        let best = group.iter().fold(baseline, |best, row| if row.frechet < best.frechet { row } else { best });
        good.push(if best.method == baseline.method {
            format!("in {steps} steps nothing beats {:.1}", baseline.frechet)
        } else {
            format!("in {steps} steps from {:.1} to {:.1} by {}", baseline.frechet, best.frechet, best.method)
        });
        let worse = group[1..].iter().filter(|row| row.frechet >= baseline.frechet);
        bad.extend(worse.map(|row| format!("{} at {steps} steps", row.method)));
    }
    let headline = format!("Frechet distance {}; the teacher has {teacher:.1} with 35 evaluations.", good.join(", "));
    let no_help = (!bad.is_empty()).then(|| format!("No better than the baseline in this run: {}.", bad.join("; ")));
    (headline, no_help)
}

/// What the terminal shows.
pub fn terminal(results: &Results, colour: bool, report: &Path) -> String {
    let Results { training_rate, sampling_rate, seconds, .. } = results;
    let (headline, no_help) = verdict(&results.rows);
    let no_help = no_help.map_or_else(String::new, |text| format!("\n{text}"));
    format!(
        "{}\n{headline}{no_help}\n\nphase 2: {training_rate:.1} img/s with its looks at the error; network evaluations: {sampling_rate:.1}/s; {seconds:.0} s in all\nreport: {}",
        table(results).to_terminal(colour),
        report.display()
    )
}

/// The report.
pub fn build(results: &Results, run: &Run) -> Page {
    let images = results.rows.iter().zip(&results.grids).map(|(row, png)| LabeledImage {
        label: format!("{} steps, {}", row.steps, row.method),
        png: png.clone(),
        caption: format!("Frechet distance {:.2}, {} evaluations", row.frechet, row.nfe),
    });
    let tuning: Vec<_> = results.tuning.iter().map(|(name, looks)| (name.clone(), looks.as_slice())).collect();
    let (headline, no_help) = verdict(&results.rows);
    let mut facts = run.provenance.facts();
    facts.extend([
        ("model SHA-256".to_owned(), run.model_sha256.clone()),
        ("images a row".to_owned(), format!("{}, from seeds 0 on; the rollout error is of other latents", run.images)),
        ("time".to_owned(), format!("{:.0} s", results.seconds)),
    ]);
    Page {
        title: "fewstep demo: Fashion-MNIST in a few steps".to_owned(),
        headline,
        table: Some(table(results)),
        sections: vec![
            Section::new("What did not help", vec![Block::Text(no_help.unwrap_or_else(|| "Every row beats the baseline.".to_owned()))]),
            Section::new("The same seeds", vec![Block::Images(images.collect())]),
            Section::new("Learned noise levels and the weights they induce", vec![Block::Plots(plots(results, &run.precond))]),
            Section::new("Tuning the network", vec![Block::Plots(vec![figures::tuning(&tuning)])]),
            Section::new("Where the time went", vec![Block::Table(times(results))]),
            Section::new(
                "How to repeat it",
                vec![Block::Facts(facts), Block::Code(serde_json::to_string_pretty(&run.settings).unwrap_or_default())],
            ),
        ],
        footer: "Frechet distance between features of a small classifier of Fashion-MNIST: comparable within this page only.".to_owned(),
    }
}

/// Figs. 3 and 4 of the paper for every number of steps, with the levels of our plan beside them.
fn plots(results: &Results, precond: &Preconditioning) -> Vec<fewstep_report::Plot> {
    let mut plots = Vec::new();
    for learned in results.rows.iter().filter(|row| row.method == LEVELS) {
        let steps = learned.steps;
        let named = |method: &str| results.rows.iter().find(|row| row.steps == steps && row.method == method);
        let levels = [("rho = 7", named(BASELINE)), ("learned (phase 1)", Some(learned)), ("our plan", named(OURS))];
        let levels: Vec<(&str, &[f64])> =
            levels.iter().filter_map(|(name, row)| row.map(|row| (*name, row.sigmas.as_slice()))).collect();
        plots.push(figures::schedules(format!("Noise levels, {steps} steps"), &levels));
        if let Ok(schedule) = Schedule::new(learned.sigmas.clone()) {
            plots.extend(figures::weights(steps, &schedule, precond));
        }
    }
    plots
}
