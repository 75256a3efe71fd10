//! A table in a terminal: columns lined up by what a terminal shows, not by bytes.

use super::{Align, Table};
use crate::escape;
use unicode_width::UnicodeWidthStr;

const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// Writes `table` with two spaces between columns and lines above, below and between groups.
pub fn write(table: &Table, colour: bool) -> String {
    let heads: Vec<String> = table.columns.iter().map(|column| escape::terminal(&column.head())).collect();
    let mut groups = table.shown();
    groups.iter_mut().flatten().flatten().for_each(|cell| cell.text = escape::terminal(&cell.text));
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(at, head)| groups.iter().flatten().map(|row| row[at].text.width()).fold(head.width(), usize::max))
        .collect();
    let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    let rule = "─".repeat(total) + "\n";
    let line = |cells: Vec<(&str, bool)>| {
        let padded = cells.iter().enumerate().map(|(at, (text, bold))| {
            let room = " ".repeat(widths[at].saturating_sub(text.width()));
            let text = if *bold && colour { format!("{BOLD}{text}{PLAIN}") } else { text.to_string() };
            if table.columns[at].align == Align::Right { room + &text } else { text + &room }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    let mut out = String::new();
    if !table.caption.is_empty() {
        out.push_str(&escape::terminal(&table.caption));
        out.push('\n');
    }
    out.push_str(&line(heads.iter().map(|head| (head.as_str(), true)).collect()));
    for group in groups.iter().filter(|group| !group.is_empty()) {
        out.push_str(&rule);
        for row in group {
            out.push_str(&line(row.iter().map(|cell| (cell.text.as_str(), cell.is_best)).collect()));
        }
    }
    out
}
