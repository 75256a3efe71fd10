//! A comparison in tables: for the eye, and one for programs.

use fewstep_report::{Cell, Column, Format, Table};

use super::{CompareTask, Comparison};
use crate::cells::{Distances, Row, deviation, mean, spread};

/// What a table for the eye shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// A distance of images under one feature network.
    Distance(Distance),
    /// The places of a method among all, one by each feature network.
    Ranks(From),
    /// The rollout error on held-out latents.
    RolloutError,
    /// The rollout error on the latents of the search.
    TrainingError,
}

/// A distance of images under one feature network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Distance {
    /// Which of the rows' feature networks.
    network: usize,
    from: From,
    kid: bool,
}

/// What images are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Data: the model may be far from it itself.
    Data,
    /// The teacher's images of other seeds: whether the sampler is true to its model.
    Teacher,
}

impl Distance {
    /// What feature networks rank methods by: the Frechet distance from data, KID from the teacher's images.
    fn ranked(network: usize, from: From) -> Self {
        Self { network, from, kid: from == From::Teacher }
    }

    /// One value a range of seeds; none where it was not measured.
    pub(super) fn of<'a>(&self, row: &'a Row) -> &'a [f64] {
        let Some(scores) = row.scores.get(self.network) else { return &[] };
        let Distances { frechet, kid } = match self.from {
            From::Data => &scores.data,
            From::Teacher => &scores.teacher,
        };
        if self.kid { kid } else { frechet }
    }

    /// Its name, with the feature network's where there are several.
    pub(super) fn name(&self, rows: &[Row], model: &str) -> String {
        let what = if self.kid { "KID" } else { "Frechet distance" };
        let from = match self.from {
            From::Data => "to data",
            From::Teacher => "to the teacher's images of other seeds",
        };
        let networks = networks(rows, model);
        match networks.get(self.network).filter(|_| networks.len() > 1) {
            Some(network) => format!("{what} {from}, {network}"),
            None => format!("{what} {from}"),
        }
    }
}

/// The feature networks that scored a model's images.
fn networks<'a>(rows: &'a [Row], model: &'a str) -> Vec<&'a str> {
    let scores = of(rows, model).map(|row| &row.scores).find(|scores| !scores.is_empty());
    scores.into_iter().flatten().map(|scores| scores.features.as_str()).collect()
}

impl Comparison {
    /// The tables of one model, methods down and evaluations across: distances under each feature network, where its samples are images,
    /// the ranks that they give where they are several, and rollout errors.
    pub fn tables(&self, model: &str) -> Vec<Table> {
        let for_the_eye = |measure: &Measure| match measure {
            Measure::Distance(distance) => *distance == Distance::ranked(distance.network, distance.from),
            Measure::Ranks(_) | Measure::RolloutError => true,
            Measure::TrainingError => false,
        };
        let measures = measures(&self.rows, model);
        let shown = measures.iter().filter(|measure| for_the_eye(measure));
        shown.map(|measure| table(&self.rows, &self.task, model, *measure)).collect()
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

/// All that there is of a model, in the order of its tables.
pub(super) fn measures(rows: &[Row], model: &str) -> Vec<Measure> {
    let count = networks(rows, model).len();
    let measured = |distance: &Distance| of(rows, model).any(|row| !distance.of(row).is_empty());
    let mut measures = Vec::new();
    for from in [From::Data, From::Teacher] {
        let kinds = [from == From::Teacher, from == From::Data];
        let distances = (0..count).flat_map(|network| kinds.map(|kid| Distance { network, from, kid }));
        let distances: Vec<Distance> = distances.filter(measured).collect();
        let ranks = count > 1 && distances.iter().any(|distance| *distance == Distance::ranked(distance.network, from));
        measures.extend(distances.into_iter().map(Measure::Distance));
        measures.extend(ranks.then_some(Measure::Ranks(from)));
    }
    measures.push(Measure::RolloutError);
    measures.extend(of(rows, model).any(|row| row.training_error.is_some()).then_some(Measure::TrainingError));
    measures
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
        match measure {
            Measure::Ranks(_) => Column::text(name),
            _ => Column::number(name, Format::Significant(4)).lowest(),
        }
    }));
    let with_costs = measures(rows, model).first() == Some(&measure);
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
            row.map_or(Cell::Missing, |row| value(row, measure, rows))
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

fn value(row: &Row, measure: Measure, rows: &[Row]) -> Cell {
    match measure {
        Measure::Distance(distance) => spread(distance.of(row)),
        Measure::Ranks(from) => ranks(row, from, rows),
        Measure::RolloutError => Cell::Number(row.rollout_error),
        Measure::TrainingError => row.training_error.map_or(Cell::Missing, Cell::Number),
    }
}

/// The row's place among those of as many evaluations, by each feature network.
fn ranks(row: &Row, from: From, rows: &[Row]) -> Cell {
    let places = (0..row.scores.len()).map(|network| {
        let distance = Distance::ranked(network, from);
        let own = mean(distance.of(row));
        let nearer = rivals(rows, &row.model, row.nfe).filter(|other| mean(distance.of(other)) < own).count();
        if own.is_nan() { "–".to_owned() } else { (nearer + 1).to_string() }
    });
    Cell::Text(places.collect::<Vec<_>>().join(" "))
}

/// The rows of a model that make so many evaluations, but for the teacher's.
fn rivals<'a>(rows: &'a [Row], model: &'a str, nfe: usize) -> impl Iterator<Item = &'a Row> {
    of(rows, model).filter(move |row| row.method != "teacher" && row.nfe == nfe)
}

fn caption(rows: &[Row], task: &CompareTask, model: &str, measure: Measure) -> String {
    let settings = &task.settings;
    match measure {
        Measure::Distance(distance) => {
            let teacher = of(rows, model).find(|row| row.method == "teacher" && !distance.of(row).is_empty());
            let teacher = teacher.map_or(String::new(), |row| {
                let own = Format::Significant(4).write(mean(distance.of(row)));
                format!("; the teacher has {own} with {}", evaluations(row))
            });
            let (name, images) = (distance.name(rows, model), images(rows, model, settings.images));
            format!("{model}: {name}, at these numbers of evaluations ({images}){teacher}")
        }
        Measure::Ranks(from) => {
            let by = match from {
                From::Data => "Frechet distance to data",
                From::Teacher => "KID to the teacher's images",
            };
            let of_unequal = match ranges(rows, model) {
                Some((least, most)) if least < most => format!(" ({})", images(rows, model, settings.images)),
                _ => String::new(),
            };
            format!("{model}: ranks by {by}, under {}{of_unequal}", networks(rows, model).join(", "))
        }
        Measure::RolloutError => {
            format!("{model}: rollout error on {} held-out latents", settings.held_out)
        }
        Measure::TrainingError => {
            format!("{model}: rollout error on the {} latents of the searches", settings.search.teacher.samples)
        }
    }
}

/// How many images a cell has: a resumed run may have asked for further ranges of seeds of some cells alone.
fn images(rows: &[Row], model: &str, a_range: u64) -> String {
    match ranges(rows, model) {
        Some((least, most)) if least < most => format!("{least} to {most} ranges of {a_range} images"),
        all => format!("{} images", a_range * all.map_or(1, |(_, most)| most as u64)),
    }
}

/// The least and the most ranges of seeds that cells have.
fn ranges(rows: &[Row], model: &str) -> Option<(usize, usize)> {
    let ranges = || of(rows, model).map(Row::ranges).filter(|ranges| *ranges > 0);
    ranges().min().zip(ranges().max())
}

/// One table for programs: a row a cell and feature network.
pub(super) fn csv(rows: &[Row]) -> String {
    let distance = |name: &str| Column::number(name, Format::Significant(6));
    let mut table = Table::new(vec![
        Column::text("model"),
        Column::text("method"),
        Column::number("nfe", Format::Integer),
        Column::number("network calls", Format::Integer),
        Column::text("features"),
        Column::number("ranges", Format::Integer),
        distance("frechet"),
        Column::number("frechet deviation", Format::Significant(3)),
        distance("kid"),
        distance("frechet to teacher"),
        distance("kid to teacher"),
        distance("rollout error"),
        distance("rollout error on search latents"),
        Column::number("search evaluations", Format::Integer),
        Column::number("search seconds", Format::Fixed(2)),
        Column::number("seconds a sample", Format::Significant(4)),
    ]);
    let of = |values: &[f64]| if values.is_empty() { Cell::Missing } else { Cell::Number(mean(values)) };
    for row in rows {
        for network in 0..row.scores.len().max(1) {
            let get = |from, kid| Distance { network, from, kid }.of(row);
            let frechet = get(From::Data, false);
            table.push(vec![
                row.model.as_str().into(),
                row.method.as_str().into(),
                row.nfe.into(),
                row.calls.max(row.nfe).into(),
                row.scores.get(network).map_or(Cell::Missing, |scores| scores.features.as_str().into()),
                row.ranges().into(),
                of(frechet),
                if frechet.len() > 1 { deviation(frechet).into() } else { Cell::Missing },
                of(get(From::Data, true)),
                of(get(From::Teacher, false)),
                of(get(From::Teacher, true)),
                row.rollout_error.into(),
                row.training_error.map_or(Cell::Missing, Cell::Number),
                Cell::from(row.search_evaluations as f64),
                row.search_seconds.into(),
                row.seconds_per_image.into(),
            ]);
        }
    }
    table.to_csv()
}

/// The best method at each number of evaluations, in one sentence for each thing that methods are ranked by.
pub(super) fn headline(rows: &[Row], model: &str) -> String {
    let measured = |from: From| {
        let of_network = |network: usize| Distance::ranked(network, from);
        let distances = (0..networks(rows, model).len()).map(of_network);
        distances.filter(|distance| of(rows, model).any(|row| !distance.of(row).is_empty())).collect::<Vec<_>>()
    };
    let sentences = [From::Data, From::Teacher].map(|from| {
        let distances = measured(from);
        let first = distances.first()?;
        let what = Distance { network: usize::MAX, ..*first }.name(rows, model);
        let scores: Vec<Score> =
            distances.iter().map(|distance| -> Score { Box::new(|row| mean(distance.of(row))) }).collect();
        Some(sentence(rows, model, &what, &scores))
    });
    let sentences: Vec<String> = sentences.into_iter().flatten().collect();
    match sentences.is_empty() {
        true => sentence(rows, model, "rollout error", &[Box::new(|row| row.rollout_error)]),
        false => sentences.join(" "),
    }
}

/// What methods are ranked by.
type Score<'a> = Box<dyn Fn(&Row) -> f64 + 'a>;

/// The method with the least of `what`, by several scores of which none counts more.
fn sentence(rows: &[Row], model: &str, what: &str, scores: &[Score]) -> String {
    let mut nfes: Vec<usize> = of(rows, model).filter(|row| row.method != "teacher").map(|row| row.nfe).collect();
    nfes.sort_unstable();
    nfes.dedup();
    let write = |row: &Row| {
        let values: Vec<String> = scores.iter().map(|score| Format::Significant(3).write(score(row))).collect();
        values.join(", ")
    };
    let part = |nfe: &usize| {
        let best = |score: &Score| {
            // a method that diverges is the best of nothing
            let finite = rivals(rows, model, *nfe).filter(|row| score(row).is_finite());
            finite.min_by(|a, b| score(a).total_cmp(&score(b)))
        };
        let best: Vec<&Row> = scores.iter().filter_map(best).collect();
        let first = best.first()?;
        Some(match best.iter().all(|row| row.method == first.method) {
            true => format!("{} at {} ({})", write(first), evaluations(first), first.method),
            false => {
                let methods: Vec<&str> = best.iter().map(|row| row.method.as_str()).collect();
                format!("no one method at {} (by each feature network: {})", evaluations(first), methods.join(", "))
            }
        })
    };
    if nfes.is_empty() {
        return format!("{model}: no method is scored yet.");
    }
    let parts: Vec<String> = nfes.iter().filter_map(part).collect();
    let scored = |row: &&Row| row.method == "teacher" && scores.iter().all(|score| score(row).is_finite());
    let teacher = of(rows, model).find(scored).filter(|_| what != "rollout error");
    let teacher =
        teacher.map_or(String::new(), |row| format!("; the teacher has {} with {}", write(row), evaluations(row)));
    let unequal = match ranges(rows, model) {
        Some((least, most)) if least < most && what != "rollout error" => {
            format!(" (of {least} to {most} ranges of seeds)")
        }
        _ => String::new(),
    };
    match parts.is_empty() {
        true => format!("{model}: no method has a {what} that is finite{teacher}."),
        false => format!("{model}: least {what}{unequal} {}{teacher}.", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str, nfe: usize, rollout_error: f64) -> Row {
        let value = serde_json::json!({
            "model": "m", "method": method, "nfe": nfe, "rollout_error": 0.0, "search_evaluations": 0, "search_seconds": 0.0,
            "seconds_per_image": 0.1, "sigmas": [], "weights": [], "plan": "plan.json",
        });
        Row { rollout_error, ..serde_json::from_value(value).unwrap() }
    }

    #[test]
    fn a_method_that_diverges_is_the_best_of_nothing() {
        let mut rows =
            vec![row("teacher", 9, 0.01), row("a", 3, 0.5), row("b", 3, -f64::NAN), row("b", 4, f64::INFINITY)];
        assert_eq!(headline(&rows, "m"), "m: least rollout error 0.500 at 3 evaluations (a).");
        rows.remove(1);
        assert_eq!(headline(&rows, "m"), "m: no method has a rollout error that is finite.");
    }
}
