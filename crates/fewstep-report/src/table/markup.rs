//! A table in markdown and HTML.

use super::{Align, Table};
use crate::escape;

/// GitHub-flavoured markdown. It knows no groups, so they follow each other.
pub fn markdown(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = String::new();
    if !table.caption.is_empty() {
        out.push_str(&format!("{}\n\n", escape::markdown(&table.caption)));
    }
    out.push_str(&line(table.columns.iter().map(|column| escape::markdown(&column.head())).collect()));
    let rule = |align| if align == Align::Right { "---:" } else { "---" };
    out.push_str(&line(table.columns.iter().map(|column| rule(column.align).to_string()).collect()));
    for row in table.shown().iter().flatten() {
        let cells = row.iter().map(|cell| {
            let text = escape::markdown(&cell.text);
            if cell.is_best { format!("**{text}**") } else { text }
        });
        out.push_str(&line(cells.collect()));
    }
    out
}

/// One `<table>`, a `<tbody>` for each group, in a box that scrolls sideways on a narrow screen.
pub fn html(table: &Table) -> String {
    let class = |align| {
        if align == Align::Right { " class=\"number\"" } else { "" }
    };
    let mut out = String::new();
    // outside the box, so that it stays where a narrow screen scrolls the table
    if !table.caption.is_empty() {
        out.push_str(&format!("<p class=\"caption\">{}</p>\n", escape::markup(&table.caption)));
    }
    out.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for column in &table.columns {
        out.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(column.align), escape::markup(&column.head())));
    }
    out.push_str("</tr></thead>\n");
    for group in table.shown().iter().filter(|group| !group.is_empty()) {
        out.push_str("<tbody>\n");
        for row in group {
            out.push_str("<tr>");
            for (cell, column) in row.iter().zip(&table.columns) {
                let text = escape::markup(&cell.text);
                let text = if cell.is_best { format!("<strong>{text}</strong>") } else { text };
                out.push_str(&format!("<td{}>{text}</td>", class(column.align)));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n");
    }
    out + "</table></div>\n"
}
