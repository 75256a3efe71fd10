//! A comparison's table, files and report.

use anyhow::Result;
use fewstep_io::{RunFolder, atomic};
use fewstep_report::{
    Axis, Block, Cell, Column, Format, LabeledImage, Page, Plot, Reference, Section, Series, Style, Table,
};

use super::{Run, Task};
use crate::gallery::Row;
use crate::runs::REPORT;

/// Where the cells stand, in the run folder.
pub const ROWS: &str = "compare.json";

/// Writes `compare.json`, `compare.csv` and `report.html` of the cells measured so far.
pub fn save(rows: &[Row], run: &Run, folder: &RunFolder) -> Result<()> {
    folder.write_json(ROWS, rows)?;
    atomic::write_bytes(folder.file("compare.csv"), table(rows).to_csv().as_bytes())?;
    atomic::write_bytes(folder.file(REPORT), page(rows, run, folder)?.to_html().as_bytes())?;
    Ok(())
}

/// What the terminal shows: a table of distances a model, methods down and evaluations across, then one of rollout errors.
pub fn terminal(rows: &[Row], task: &Task, colour: bool, folder: &RunFolder) -> String {
    let mut text = Vec::new();
    for model in &task.models {
        for measure in [Measure::Frechet, Measure::Rollout] {
            text.push(wide(rows, task, &model.name, measure).to_terminal(colour));
        }
        text.push(headline(rows, &model.name));
    }
    text.push(format!("report: {}", folder.file(REPORT).display()));
    text.join("\n")
}

/// What a wide table shows.
#[derive(Clone, Copy)]
enum Measure {
    Frechet,
    Rollout,
    /// The rollout error on the latents that the search looked at.
    Seen,
}

fn of<'a>(rows: &'a [Row], model: &'a str) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| row.model == model)
}

/// One table for reading: a row a method, a column a number of evaluations.
fn wide(rows: &[Row], task: &Task, model: &str, measure: Measure) -> Table {
    let mut columns = vec![Column::text("method")];
    let column = |steps: &usize| Column::number(format!("{steps}"), Format::Significant(4)).lowest();
    let numbers = task.columns();
    columns.extend(numbers.iter().map(column));
    if matches!(measure, Measure::Frechet) {
        columns.push(Column::number("search evaluations", Format::Integer));
        columns.push(Column::number("seconds", Format::Fixed(1)));
        columns.push(Column::number("ms an image, longest", Format::Significant(3)));
    }
    let mut table = Table::new(columns);
    let teacher = of(rows, model).find(|row| row.method == "teacher");
    table.caption = match (measure, teacher) {
        (Measure::Frechet, Some(row)) => format!(
            "{model}: Frechet distance at these numbers of evaluations ({} images); the teacher has {} with {}",
            task.settings.images * task.settings.seed_ranges,
            Format::Significant(4).write(row.frechet_mean()),
            row.nfe
        ),
        (Measure::Frechet, None) => format!("{model}: Frechet distance"),
        (Measure::Rollout, _) => format!("{model}: rollout error on {} held-out latents", task.settings.held_out),
        (Measure::Seen, _) => {
            format!("{model}: rollout error on the {} latents of the searches", task.settings.search.teacher.samples)
        }
    };
    for name in task.rows() {
        let cell = |steps: &usize| {
            let row = of(rows, model).find(|row| row.method == name && row.nfe == *steps);
            row.map_or(Cell::Missing, |row| match measure {
                Measure::Frechet if row.frechet.len() > 1 => Cell::Spread(row.frechet_mean(), row.frechet_deviation()),
                Measure::Frechet => Cell::Number(row.frechet_mean()),
                Measure::Rollout => Cell::Number(row.rollout_error),
                Measure::Seen => row.seen_error.map_or(Cell::Missing, Cell::Number),
            })
        };
        let cells: Vec<Cell> = numbers.iter().map(cell).collect();
        if cells.iter().all(|cell| *cell == Cell::Missing) {
            continue;
        }
        let mut row: Vec<Cell> = vec![name.as_str().into()];
        row.extend(cells);
        if let (Measure::Frechet, Some(first)) = (measure, of(rows, model).find(|row| row.method == name)) {
            row.push(Cell::from(first.search_evaluations as f64));
            row.push(first.search_seconds.into());
            let longest = of(rows, model).filter(|row| row.method == name).map(|row| row.seconds_per_image);
            row.push((1e3 * longest.fold(0.0, f64::max)).into());
        }
        table.push(row);
    }
    table
}

/// One table for machines: a row a cell.
fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(vec![
        Column::text("model"),
        Column::text("method"),
        Column::number("nfe", Format::Integer),
        Column::number("frechet", Format::Significant(6)),
        Column::number("frechet deviation", Format::Significant(3)),
        Column::number("rollout error", Format::Significant(6)),
        Column::number("rollout error of seen latents", Format::Significant(6)),
        Column::number("search evaluations", Format::Integer),
        Column::number("search seconds", Format::Fixed(2)),
        Column::number("seconds an image", Format::Significant(4)),
    ]);
    for row in rows {
        table.push(vec![
            row.model.as_str().into(),
            row.method.as_str().into(),
            row.nfe.into(),
            row.frechet_mean().into(),
            if row.frechet.len() > 1 { row.frechet_deviation().into() } else { Cell::Missing },
            row.rollout_error.into(),
            row.seen_error.map_or(Cell::Missing, Cell::Number),
            Cell::from(row.search_evaluations as f64),
            row.search_seconds.into(),
            row.seconds_per_image.into(),
        ]);
    }
    table
}

/// The best method at each number of evaluations, in one sentence.
fn headline(rows: &[Row], model: &str) -> String {
    let mut nfes: Vec<usize> = of(rows, model).filter(|row| row.method != "teacher").map(|row| row.nfe).collect();
    nfes.sort_unstable();
    nfes.dedup();
    let best = |nfe: usize| {
        let cells = of(rows, model).filter(|row| row.nfe == nfe && row.method != "teacher");
        cells.min_by(|a, b| a.frechet_mean().total_cmp(&b.frechet_mean()))
    };
    let parts: Vec<String> = nfes
        .into_iter()
        .filter_map(best)
        .map(|row| {
            format!("{} at {} evaluations ({})", Format::Significant(3).write(row.frechet_mean()), row.nfe, row.method)
        })
        .collect();
    let teacher = of(rows, model).find(|row| row.method == "teacher").map_or(String::new(), |row| {
        format!("; the teacher has {} with {}", Format::Significant(3).write(row.frechet_mean()), row.nfe)
    });
    format!("{model}: least Frechet distance {}{teacher}.", parts.join(", "))
}

/// The report of these cells, whose images are in `folder`.
pub fn page(rows: &[Row], run: &Run, folder: &RunFolder) -> Result<Page> {
    let task = &run.task;
    let mut sections = Vec::new();
    for model in &task.models {
        let name = &model.name;
        let heading = |what: &str| match task.models.len() {
            1 => what.to_owned(),
            _ => format!("{name}: {what}"),
        };
        let seen = of(rows, name).any(|row| row.seen_error.is_some()).then_some(Measure::Seen);
        let measures = [Measure::Frechet, Measure::Rollout].into_iter().chain(seen);
        let tables: Vec<Block> = measures.map(|measure| Block::Table(wide(rows, task, name, measure))).collect();
        sections.push(Section::new(heading("Distances"), tables));
        sections.push(Section::new(
            heading("Against the number of evaluations"),
            vec![Block::Plots(curves(rows, task, name))],
        ));
        sections.push(Section::new(heading("Plans"), vec![Block::Plots(plans(rows, task, name))]));
        for steps in task.columns() {
            let mut images = Vec::new();
            for row in of(rows, name).filter(|row| row.nfe == steps || row.method == "teacher") {
                images.push(LabeledImage {
                    label: format!("{}, {} evaluations", row.method, row.nfe),
                    png: std::fs::read(folder.file(&row.grid.to_string_lossy())).unwrap_or_default(),
                    caption: format!("Frechet distance {:.2}", row.frechet_mean()),
                });
            }
            if images.len() > 1 {
                sections.push(Section::new(
                    heading(&format!("{steps} evaluations, the same seeds")),
                    vec![Block::Images(images)],
                ));
            }
        }
    }
    let facts = task.models.iter().map(|model| {
        (
            model.name.clone(),
            format!("SHA-256 {}; features {}; reference {}", model.sha256, model.features, model.reference),
        )
    });
    sections.push(Section::new(
        "How to repeat it",
        vec![
            Block::Facts(run.provenance.facts().into_iter().chain(facts).collect()),
            Block::Code(serde_json::to_string_pretty(&task.settings)?),
        ],
    ));
    Ok(Page {
        title: "fewstep compare".to_owned(),
        headline: task.models.iter().map(|model| headline(rows, &model.name)).collect::<Vec<_>>().join(" "),
        table: None,
        sections,
        footer: "Distances of different feature networks cannot be compared with each other.".to_owned(),
    })
}

fn curves(rows: &[Row], task: &Task, model: &str) -> Vec<Plot> {
    let series = |value: &dyn Fn(&Row) -> f64| -> Vec<Series> {
        let lines = task.rows().into_iter().map(|name| {
            let points = of(rows, model).filter(|row| row.method == name).map(|row| (row.nfe as f64, value(row)));
            Series::new(name.clone(), points.collect(), Style::LineMarkers)
        });
        lines.collect()
    };
    let teacher = of(rows, model).find(|row| row.method == "teacher");
    let references =
        teacher.map(|row| Reference { y: row.frechet_mean(), name: format!("teacher, {} evaluations", row.nfe) });
    vec![
        Plot {
            title: "Frechet distance".to_owned(),
            x: Axis::linear("evaluations"),
            y: Axis::log("Frechet distance"),
            series: series(&Row::frechet_mean),
            references: references.into_iter().collect(),
            ..Plot::default()
        },
        Plot {
            title: "Rollout error on held-out latents".to_owned(),
            x: Axis::linear("evaluations"),
            y: Axis::log("mean squared difference of a pixel"),
            series: series(&|row| row.rollout_error),
            ..Plot::default()
        },
    ]
}

/// For every number of evaluations the noise levels, and what the outputs weigh in the image.
fn plans(rows: &[Row], task: &Task, model: &str) -> Vec<Plot> {
    let plot = |steps: usize, title: &str, y: Axis, values: fn(&Row) -> &[f64]| {
        let lines = of(rows, model).filter(|row| row.nfe == steps && row.method != "teacher").map(|row| {
            let points = values(row).iter().enumerate().map(|(k, &value)| (k as f64, value)).collect();
            Series::new(row.method.clone(), points, Style::LineMarkers)
        });
        let title = format!("{title}, {steps} evaluations");
        Plot { title, x: Axis::linear("evaluation"), y, series: lines.collect(), ..Plot::default() }
    };
    let both = |&steps: &usize| {
        let levels = plot(steps, "Noise levels", Axis::log("noise level sigma"), |row| &row.sigmas);
        let weights =
            plot(steps, "Coefficients of the image", Axis::linear("weight of the output"), |row| &row.weights);
        [levels, weights]
    };
    task.columns().iter().flat_map(both).collect()
}
