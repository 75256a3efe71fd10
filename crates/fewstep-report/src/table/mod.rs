//! Tables: one struct, written for a terminal, a page, a spreadsheet or a program.

mod markup;
mod terminal;

use crate::escape;
use crate::number::Format;
use serde_json::{Map, Value};

/// Columns and rows. Rows may stand in groups, between which tables for the eye have a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Stands above the table; may be empty.
    pub caption: String,
    /// From left to right.
    pub columns: Vec<Column>,
    /// Groups of rows; a row has a cell for each column. Missing ones show as `–`, cells beyond the columns not at all.
    pub groups: Vec<Vec<Vec<Cell>>>,
}

/// One column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Stands in the head.
    pub name: String,
    /// Stands after the name, in brackets; may be empty.
    pub unit: String,
    /// Where the cells stand.
    pub align: Align,
    /// How numbers are written for the eye. CSV and JSON always have them whole.
    pub format: Format,
    /// Which cell of each group stands out.
    pub best: Best,
}

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// For words.
    #[default]
    Left,
    /// For numbers.
    Right,
}

/// Which of a column's numbers is the best of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Best {
    /// None is better than another.
    #[default]
    None,
    /// The lowest: errors, distances, times.
    Lowest,
    /// The highest: speeds, accuracies.
    Highest,
}

/// What stands in a row under a column.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number, written as its column says.
    Number(f64),
    /// A mean and its standard deviation, written `mean ± deviation`.
    Spread(f64, f64),
    /// Not measured.
    #[default]
    Missing,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_string())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Cell::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Cell::Number(number as f64)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Cell::Missing, Into::into)
    }
}

impl Column {
    /// A column of words.
    pub fn text(name: impl Into<String>) -> Self {
        Column { name: name.into(), ..Column::default() }
    }

    /// A column of numbers.
    pub fn number(name: impl Into<String>, format: Format) -> Self {
        Column { name: name.into(), align: Align::Right, format, ..Column::default() }
    }

    /// The same column with a unit.
    pub fn unit(self, unit: impl Into<String>) -> Self {
        Column { unit: unit.into(), ..self }
    }

    /// The same column, its lowest numbers standing out.
    pub fn lowest(self) -> Self {
        Column { best: Best::Lowest, ..self }
    }

    /// The same column, its highest numbers standing out.
    pub fn highest(self) -> Self {
        Column { best: Best::Highest, ..self }
    }

    /// Name, unit, and an arrow to where the better numbers are.
    fn head(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" ({})", self.unit) };
        let arrow = match self.best {
            Best::None => "",
            Best::Lowest => " ↓",
            Best::Highest => " ↑",
        };
        format!("{}{unit}{arrow}", self.name)
    }

    fn write(&self, cell: &Cell) -> String {
        match cell {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => self.format.write(*number),
            Cell::Spread(mean, deviation) => {
                format!("{} ± {}", self.format.write(*mean), self.format.write(*deviation))
            }
            Cell::Missing => "–".into(),
        }
    }
}

impl Cell {
    /// The number that cells of a column are compared by.
    fn number(&self) -> Option<f64> {
        match self {
            Cell::Number(number) | Cell::Spread(number, _) => Some(*number).filter(|number| number.is_finite()),
            Cell::Text(_) | Cell::Missing => None,
        }
    }
}

/// A cell as tables for the eye show it.
struct Shown {
    text: String,
    is_best: bool,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: Vec<Column>) -> Self {
        Table { columns, ..Table::default() }
    }

    /// Adds a row to the last group.
    pub fn push(&mut self, row: Vec<Cell>) {
        match self.groups.last_mut() {
            Some(group) => group.push(row),
            None => self.groups.push(vec![row]),
        }
    }

    /// Starts a group: rows pushed from here on are compared with each other.
    pub fn start_group(&mut self) {
        if self.groups.last().is_some_and(|group| !group.is_empty()) {
            self.groups.push(Vec::new());
        }
    }

    /// A table for a terminal. With `colour`, heads and best cells are bold: leave it off for pipes and where `NO_COLOR` is set.
    pub fn to_terminal(&self, colour: bool) -> String {
        terminal::write(self, colour)
    }

    /// A table for GitHub-flavoured markdown, best cells bold.
    pub fn to_markdown(&self) -> String {
        markup::markdown(self)
    }

    /// A `<table>` for a page.
    pub fn to_html(&self) -> String {
        markup::html(self)
    }

    /// CSV with a head line, numbers whole; a spread takes two columns, the second named `<name> deviation`.
    pub fn to_csv(&self) -> String {
        let spreads: Vec<bool> = (0..self.columns.len()).map(|at| self.has_spread(at)).collect();
        let mut lines = Vec::new();
        let mut head = Vec::new();
        for (column, spread) in self.columns.iter().zip(&spreads) {
            head.push(escape::csv(&column.name));
            if *spread {
                head.push(escape::csv(&format!("{} deviation", column.name)));
            }
        }
        lines.push(head.join(","));
        for row in self.rows() {
            let mut fields = Vec::new();
            for (cell, spread) in row.zip(&spreads) {
                let (value, deviation) = match cell {
                    Cell::Text(text) => (escape::csv(text), String::new()),
                    Cell::Number(number) => (Format::Shortest.write(*number), String::new()),
                    Cell::Spread(mean, deviation) => {
                        (Format::Shortest.write(*mean), Format::Shortest.write(*deviation))
                    }
                    Cell::Missing => (String::new(), String::new()),
                };
                fields.push(value);
                if *spread {
                    fields.push(deviation);
                }
            }
            lines.push(fields.join(","));
        }
        lines.join("\n") + "\n"
    }

    /// A list of objects, one a row, keyed by column name; a spread is `{"mean", "deviation"}`, and what is missing or not
    /// finite is null.
    pub fn to_json(&self) -> Value {
        let value = |cell: &Cell| match cell {
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Number(number) => Value::from(*number),
            Cell::Spread(mean, deviation) => {
                serde_json::json!({"mean": mean, "deviation": deviation})
            }
            Cell::Missing => Value::Null,
        };
        let row = |row: &mut dyn Iterator<Item = &Cell>| -> Map<String, Value> {
            self.columns.iter().zip(row).map(|(column, cell)| (column.name.clone(), value(cell))).collect()
        };
        self.rows().map(|mut cells| Value::Object(row(&mut cells))).collect()
    }

    /// Every row, filled up or cut to the number of columns.
    fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = &Cell>> {
        self.groups.iter().flatten().map(|row| self.cells(row))
    }

    fn cells<'a>(&self, row: &'a [Cell]) -> impl Iterator<Item = &'a Cell> + use<'a> {
        row.iter().chain(std::iter::repeat(&Cell::Missing)).take(self.columns.len())
    }

    fn has_spread(&self, column: usize) -> bool {
        self.groups.iter().flatten().any(|row| matches!(row.get(column), Some(Cell::Spread(..))))
    }

    /// The groups as they are shown: texts, and which cells are the best of their group and column.
    fn shown(&self) -> Vec<Vec<Vec<Shown>>> {
        self.groups.iter().map(|group| self.shown_group(group)).collect()
    }

    fn shown_group(&self, group: &[Vec<Cell>]) -> Vec<Vec<Shown>> {
        let best: Vec<Option<f64>> = (0..self.columns.len()).map(|at| self.best_of(group, at)).collect();
        let show = |(at, cell): (usize, &Cell)| {
            let is_best = best[at].is_some() && cell.number() == best[at];
            Shown { text: self.columns[at].write(cell), is_best }
        };
        group.iter().map(|row| self.cells(row).enumerate().map(show).collect()).collect()
    }

    /// The best number of a column in a group of at least two.
    fn best_of(&self, group: &[Vec<Cell>], column: usize) -> Option<f64> {
        let numbers: Vec<f64> = group.iter().filter_map(|row| row.get(column)?.number()).collect();
        if numbers.len() < 2 {
            return None;
        }
        match self.columns[column].best {
            Best::None => None,
            Best::Lowest => numbers.into_iter().reduce(f64::min),
            Best::Highest => numbers.into_iter().reduce(f64::max),
        }
    }
}
