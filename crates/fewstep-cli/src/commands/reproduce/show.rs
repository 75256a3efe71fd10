//! Tables, figures and report of a reproduction.

use anyhow::Result;
use fewstep_io::{RunFolder, atomic};
use fewstep_report::{Block, Cell, Column, Format, LabeledImage, Page, Section, Table};
use serde_json::json;

use super::lab::Lab;
use super::plots::{Drawn, Levels, figures_of};
use super::rows::Experiment;
use super::{Row, Run};
use crate::fitting::{SETTLING_TEXT, baseline, settling_table};
use crate::runs::REPORT;
use crate::ui;

/// Pixels of a figure's PNG for each of the SVG's.
const PNG_SCALE: f32 = 2.0;

/// Where it stands, in the run folder.
const DRAWN: &str = "figures.json";

/// Writes tables, figures and the report.
pub fn save(rows: &[Row], lab: &Lab, run: &Run, folder: &RunFolder) -> Result<()> {
    let mut drawn = Drawn {
        precond: lab.base().config().precond.clone(),
        levels: Vec::new(),
        descents: Vec::new(),
        learning: Vec::new(),
        between: Vec::new(),
    };
    for &steps in &run.task.steps {
        drawn.between.push((steps, lab.between(steps)?));
        drawn.learning.extend(lab.learning(steps)?);
        if run.task.experiment == Experiment::Objectives {
            drawn.descents.extend(lab.objectives(steps)?);
            continue;
        }
        if !run.task.learns_levels() {
            continue;
        }
        let rho_7 = baseline(lab.base(), steps)?.levels().to_vec();
        drawn.levels.push(Levels { steps, rho_7, learned: lab.levels(steps)?.levels().to_vec() });
    }
    folder.write_json(DRAWN, &drawn)?;
    let name = run.task.experiment.name();
    if !rows.is_empty() {
        let markdown = format!("{}\n{}", table(rows, run).to_markdown(), settings(run)?);
        atomic::write_bytes(folder.file(&format!("{name}.md")), markdown.as_bytes())?;
        atomic::write_bytes(folder.file(&format!("{name}.csv")), flat(rows, run).to_csv().as_bytes())?;
        folder.write_json(&format!("{name}.json"), &json!({ "run": run, "rows": rows }))?;
    }
    let figures = figures_of(rows, run, &drawn)?;
    for (file, plot) in &figures {
        atomic::write_bytes(folder.file(&format!("{file}.svg")), plot.to_svg().as_bytes())?;
        match plot.to_png(PNG_SCALE) {
            Ok(png) => atomic::write_bytes(folder.file(&format!("{file}.png")), &png)?,
            Err(error) => ui::note(format!("{file}.png was not written: {error}")),
        }
    }
    atomic::write_bytes(folder.file(REPORT), page(rows, run, folder)?.to_html().as_bytes())?;
    Ok(())
}

/// What the terminal shows.
pub fn terminal(rows: &[Row], run: &Run, colour: bool, folder: &RunFolder) -> String {
    let table = if rows.is_empty() { String::new() } else { table(rows, run).to_terminal(colour) };
    format!("{table}{}\nfigures and report: {}", headline(rows, run), folder.path().display())
}

/// Methods down, numbers of steps across, as the paper's Table 1.
fn table(rows: &[Row], run: &Run) -> Table {
    let mut columns = vec![Column::text("method")];
    for steps in &run.task.steps {
        columns.push(Column::number(format!("{steps} steps"), Format::Significant(4)).lowest());
        columns.push(Column::number(format!("rollout error, {steps}"), Format::Significant(3)).lowest());
    }
    let mut table = Table::new(columns);
    let seeds = &run.task.settings.seeds;
    table.caption = format!(
        "Frechet distance, {} of {} images each; {}",
        if seeds.ranges == 1 {
            "one range".to_owned()
        } else {
            format!("mean and deviation of {} ranges", seeds.ranges)
        },
        seeds.images,
        rows.first().map_or_else(String::new, |teacher| format!(
            "the teacher has {} with {} evaluations",
            Format::Significant(4).write(teacher.frechet_mean()),
            teacher.nfe
        ))
    );
    for cell in run.task.cells() {
        let mut row: Vec<Cell> = vec![cell.name().into()];
        for steps in &run.task.steps {
            match rows.iter().find(|row| row.method == cell.name() && row.nfe == *steps) {
                Some(found) if found.frechet.len() > 1 => {
                    row.extend([
                        Cell::Spread(found.frechet_mean(), found.frechet_deviation()),
                        found.rollout_error.into(),
                    ]);
                }
                Some(found) => row.extend([found.frechet_mean().into(), found.rollout_error.into()]),
                None => row.extend([Cell::Missing, Cell::Missing]),
            }
        }
        table.push(row);
    }
    table
}

/// What the table depends on, as markdown.
fn settings(run: &Run) -> Result<String> {
    let mut text = String::new();
    for (what, value) in facts(run) {
        text += &format!("- {what}: {value}\n");
    }
    let settings = serde_json::to_string_pretty(&run.task.settings)?;
    Ok(format!("{text}\n```json\n{settings}\n```\n"))
}

/// Model, data and judge by name and hash, and the seeds.
fn facts(run: &Run) -> Vec<(String, String)> {
    let names = &run.task.subject;
    let mut facts = vec![
        ("model".to_owned(), format!("{}, SHA-256 {}", names.model, names.model_sha256)),
        ("data".to_owned(), format!("{}, {}", names.data, names.data_sha256)),
    ];
    if let (Some(features), Some(reference)) = (&names.features, &names.reference) {
        let hash = names.reference_sha256.as_ref().map_or_else(String::new, |hash| format!(", SHA-256 {hash}"));
        facts.push(("judge".to_owned(), format!("features {features}; reference {reference}{hash}")));
    }
    let seeds = &run.task.settings.seeds;
    let ranges = (0..seeds.ranges).map(|range| seeds.range(range));
    let ranges: Vec<String> = ranges.map(|seeds| format!("{} to {}", seeds.start, seeds.end - 1)).collect();
    facts.push(("seeds".to_owned(), ranges.join(", ")));
    facts
}

/// A row a cell and seed range, for machines.
fn flat(rows: &[Row], run: &Run) -> Table {
    let mut table = Table::new(vec![
        Column::text("method"),
        Column::number("nfe", Format::Integer),
        Column::number("first seed", Format::Integer),
        Column::number("last seed", Format::Integer),
        Column::number("frechet", Format::Significant(8)),
        Column::number("rollout error", Format::Significant(8)),
        Column::number("seconds to find", Format::Fixed(1)),
    ]);
    for row in rows {
        for (range, frechet) in (0..).zip(&row.frechet) {
            let seeds = run.task.settings.seeds.range(range);
            table.push(vec![
                row.method.as_str().into(),
                row.nfe.into(),
                (seeds.start as f64).into(),
                ((seeds.end - 1) as f64).into(),
                (*frechet).into(),
                row.rollout_error.into(),
                row.search_seconds.into(),
            ]);
        }
    }
    table
}

/// Whether the paper's ordering holds, number of steps by number of steps; where its rows lack, what those that there are have.
fn headline(rows: &[Row], run: &Run) -> String {
    if rows.is_empty() {
        let steps = run.task.steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        return format!("Levels learned for {steps} steps.");
    }
    let value = |name: &str, steps: usize| {
        rows.iter().find(|row| row.method == name && row.nfe == steps).map(Row::frechet_mean)
    };
    let sentence = |&steps: &usize| {
        let write = |distance: f64| Format::Significant(3).write(distance);
        let [base, both] = ["baseline", "both stages"].map(|name| value(name, steps));
        let (Some(base), Some(both)) = (base, both) else {
            let found = run.task.cells().into_iter().filter_map(|cell| Some((cell.name(), value(cell.name(), steps)?)));
            let found: Vec<String> = found.map(|(name, distance)| format!("{name} {}", write(distance))).collect();
            return format!("{steps} steps: {}", found.join(", "));
        };
        let single = ["stage 1: levels", "stage 2: network"].map(|name| value(name, steps));
        let order = match single {
            [Some(first), Some(second)] => {
                let ones = first.min(second);
                let holds = both <= ones && first.max(second) <= base;
                format!(
                    ", the better stage alone {}: the paper's order {}",
                    write(ones),
                    if holds { "holds" } else { "does not hold" }
                )
            }
            _ => String::new(),
        };
        format!("{steps} steps: baseline {}, both stages {}{order}", write(base), write(both))
    };
    format!("{}.", run.task.steps.iter().map(sentence).collect::<Vec<_>>().join("; "))
}

/// The report of these cells, whose images and levels are in `folder`.
pub fn page(rows: &[Row], run: &Run, folder: &RunFolder) -> Result<Page> {
    let drawn: Drawn = folder.read_json(DRAWN)?;
    let mut sections = Vec::new();
    for &steps in &run.task.steps {
        let shown = rows.iter().filter(|row| row.nfe == steps || row.method == "teacher");
        let images = shown.map(|row| LabeledImage {
            label: format!("{}, {} evaluations", row.method, row.nfe),
            png: std::fs::read(folder.file(&row.grid.to_string_lossy())).unwrap_or_default(),
            caption: format!("Frechet distance {:.2}", row.frechet_mean()),
        });
        let images: Vec<LabeledImage> = images.collect();
        if !images.is_empty() {
            sections.push(Section::new(format!("{steps} steps, the same seeds"), vec![Block::Images(images)]));
        }
    }
    let plots = figures_of(rows, run, &drawn)?.into_iter().map(|(_, plot)| plot).collect();
    sections.push(Section::new("Figures", vec![Block::Plots(plots)]));
    if let Some(table) = settling_table(drawn.between.iter().map(|(steps, looks)| (*steps, 1, looks.as_slice()))) {
        let blocks = vec![Block::Text(SETTLING_TEXT.to_owned()), Block::Table(table)];
        sections.push(Section::new("On the way to the tuned network", blocks));
    }
    let mut facts = run.provenance.facts();
    facts.extend(self::facts(run));
    let settings = serde_json::to_string_pretty(&run.task.settings)?;
    sections.push(Section::new("How to repeat it", vec![Block::Facts(facts), Block::Code(settings)]));
    Ok(Page {
        title: format!("fewstep reproduce {}: {}", run.task.experiment.name(), run.task.subject.model),
        headline: headline(rows, run),
        table: (!rows.is_empty()).then(|| table(rows, run)),
        sections,
        footer:
            "Stage 1 minimises Eq. 11 and gamma times Eq. 12 by gradient, stage 2 Eq. 12's weighted denoising loss."
                .to_owned(),
    })
}
