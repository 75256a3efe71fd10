//! A comparison in tables: for the eye, and one for programs.

use fewstep_report::{Cell, Column, Format, Table};

use super::{CompareTask, Comparison};
use crate::cells::Row;

/// What a table for the eye shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// The Frechet distance.
    Frechet,
    /// The rollout error on held-out latents.
    RolloutError,
    /// The rollout error on the latents of the search.
    TrainingError,
}

impl Comparison {
    /// The tables of one model, methods down and evaluations across: Frechet distances, where its samples are images, and rollout
    /// errors.
    pub fn tables(&self, model: &str) -> Vec<Table> {
        [Measure::Frechet, Measure::RolloutError]
            .into_iter()
            .filter(|measure| shows(&self.rows, model, *measure))
            .map(|measure| table(&self.rows, &self.task, model, measure))
            .collect()
    }

    /// The best method of one model at each number of evaluations, in a sentence.
    pub fn headline(&self, model: &str) -> String {
        headline(&self.rows, model)
    }
}

/// The rows of one model.
pub(super) fn of<'a>(rows: &'a [Row], model: &'a str) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| row.model == model)
}

/// Whether there is anything of this measure.
pub(super) fn shows(rows: &[Row], model: &str, measure: Measure) -> bool {
    of(rows, model).any(|row| match measure {
        Measure::Frechet => !row.frechet.is_empty(),
        Measure::RolloutError => true,
        Measure::TrainingError => row.seen_error.is_some(),
    })
}

/// Network calls that an evaluation of the model takes.
fn calls_per_evaluation(rows: &[Row], model: &str) -> usize {
    of(rows, model).map(|row| row.calls / row.nfe.max(1)).max().unwrap_or(1).max(1)
}

/// So many evaluations, with the network calls that they take where these are more.
pub(super) fn evaluations(row: &Row) -> String {
    match row.calls > row.nfe {
        true => format!("{} evaluations ({} network calls)", row.nfe, row.calls),
        false => format!("{} evaluations", row.nfe),
    }
}

/// One table for the eye: a row a method, a column a number of evaluations. The first of a model's also says what searches took.
pub(super) fn table(rows: &[Row], task: &CompareTask, model: &str, measure: Measure) -> Table {
    let calls = calls_per_evaluation(rows, model);
    let numbers = task.columns();
    let mut columns = vec![Column::text("method")];
    columns.extend(numbers.iter().map(|nfe| {
        let name = if calls > 1 { format!("{nfe} ({} calls)", nfe * calls) } else { nfe.to_string() };
        Column::number(name, Format::Significant(4)).lowest()
    }));
    let with_costs =
        measure == Measure::Frechet || (measure == Measure::RolloutError && !shows(rows, model, Measure::Frechet));
    if with_costs {
        columns.push(Column::number("search evaluations", Format::Integer));
        columns.extend((calls > 1).then(|| Column::number("search calls", Format::Integer)));
        columns.push(Column::number("seconds", Format::Fixed(1)));
        columns.push(Column::number("ms a sample, longest", Format::Significant(3)));
    }
    let mut table = Table::new(columns);
    table.caption = caption(rows, task, model, measure);
    for name in task.row_names() {
        let of_row = || of(rows, model).filter(|row| row.method == name);
        let cell = |nfe: &usize| {
            let row = of_row().find(|row| row.nfe == *nfe);
            row.map_or(Cell::Missing, |row| value(row, measure))
        };
        let cells: Vec<Cell> = numbers.iter().map(cell).collect();
        if cells.iter().all(|cell| *cell == Cell::Missing) {
            continue;
        }
        let mut line: Vec<Cell> = vec![name.as_str().into()];
        line.extend(cells);
        if let (true, Some(first)) = (with_costs, of_row().next()) {
            line.push(Cell::from(first.search_evaluations as f64));
            line.extend((calls > 1).then(|| Cell::from(first.search_evaluations as f64 * calls as f64)));
            line.push(first.search_seconds.into());
            line.push((1e3 * of_row().map(|row| row.seconds_per_image).fold(0.0, f64::max)).into());
        }
        table.push(line);
    }
    table
}

fn value(row: &Row, measure: Measure) -> Cell {
    match measure {
        Measure::Frechet if row.frechet.is_empty() => Cell::Missing,
        Measure::Frechet if row.frechet.len() > 1 => Cell::Spread(row.frechet_mean(), row.frechet_deviation()),
        Measure::Frechet => Cell::Number(row.frechet_mean()),
        Measure::RolloutError => Cell::Number(row.rollout_error),
        Measure::TrainingError => row.seen_error.map_or(Cell::Missing, Cell::Number),
    }
}

fn caption(rows: &[Row], task: &CompareTask, model: &str, measure: Measure) -> String {
    let settings = &task.settings;
    let teacher = |value: &dyn Fn(&Row) -> f64| {
        let row = of(rows, model).find(|row| row.method == "teacher");
        row.map_or(String::new(), |row| {
            format!("; the teacher has {} with {}", Format::Significant(4).write(value(row)), evaluations(row))
        })
    };
    match measure {
        Measure::Frechet => format!(
            "{model}: Frechet distance at these numbers of evaluations ({} images){}",
            settings.images * settings.ranges,
            teacher(&Row::frechet_mean)
        ),
        Measure::RolloutError => {
            format!("{model}: rollout error on {} held-out latents", settings.held_out)
        }
        Measure::TrainingError => {
            format!("{model}: rollout error on the {} latents of the searches", settings.search.teacher.samples)
        }
    }
}

/// One table for programs: a row a cell.
pub(super) fn csv(rows: &[Row]) -> String {
    let mut table = Table::new(vec![
        Column::text("model"),
        Column::text("method"),
        Column::number("nfe", Format::Integer),
        Column::number("network calls", Format::Integer),
        Column::number("frechet", Format::Significant(6)),
        Column::number("frechet deviation", Format::Significant(3)),
        Column::number("rollout error", Format::Significant(6)),
        Column::number("rollout error on search latents", Format::Significant(6)),
        Column::number("search evaluations", Format::Integer),
        Column::number("search seconds", Format::Fixed(2)),
        Column::number("seconds a sample", Format::Significant(4)),
    ]);
    for row in rows {
        let frechet = |least: usize, value: f64| if row.frechet.len() > least { value.into() } else { Cell::Missing };
        table.push(vec![
            row.model.as_str().into(),
            row.method.as_str().into(),
            row.nfe.into(),
            row.calls.max(row.nfe).into(),
            frechet(0, row.frechet_mean()),
            frechet(1, row.frechet_deviation()),
            row.rollout_error.into(),
            row.seen_error.map_or(Cell::Missing, Cell::Number),
            Cell::from(row.search_evaluations as f64),
            row.search_seconds.into(),
            row.seconds_per_image.into(),
        ]);
    }
    table.to_csv()
}

/// The best method at each number of evaluations, in one sentence.
pub(super) fn headline(rows: &[Row], model: &str) -> String {
    let images = shows(rows, model, Measure::Frechet);
    let score = |row: &Row| if images { row.frechet_mean() } else { row.rollout_error };
    let write = |row: &Row| Format::Significant(3).write(score(row));
    let methods = || of(rows, model).filter(|row| row.method != "teacher");
    let mut nfes: Vec<usize> = methods().map(|row| row.nfe).collect();
    nfes.sort_unstable();
    nfes.dedup();
    let best = |nfe: &usize| methods().filter(|row| row.nfe == *nfe).min_by(|a, b| score(a).total_cmp(&score(b)));
    let parts: Vec<String> = nfes
        .iter()
        .filter_map(best)
        .map(|row| format!("{} at {} ({})", write(row), evaluations(row), row.method))
        .collect();
    let teacher = of(rows, model).find(|row| row.method == "teacher" && images);
    let teacher =
        teacher.map_or(String::new(), |row| format!("; the teacher has {} with {}", write(row), evaluations(row)));
    let what = if images { "Frechet distance" } else { "rollout error" };
    format!("{model}: least {what} {}{teacher}.", parts.join(", "))
}
