//! Tables of pages and files without the columns that are times, which differ from run to run.

/// Whether a column of this name holds times.
fn is_time(name: &str) -> bool {
    name.contains("second") || name.starts_with("ms ")
}

/// Which columns stay, by the names of all.
fn kept(names: impl Iterator<Item: AsRef<str>>) -> Vec<bool> {
    names.map(|name| !is_time(name.as_ref())).collect()
}

/// The cells of the columns that stay, and any beyond.
fn cells<'a>(cells: impl Iterator<Item = &'a str>, kept: &[bool]) -> Vec<&'a str> {
    cells.enumerate().filter(|(at, _)| kept.get(*at).copied().unwrap_or(true)).map(|(_, cell)| cell).collect()
}

/// A page of ours without times, and without the command that made it.
pub fn html(page: &str) -> String {
    let (mut out, mut columns) = (Vec::new(), Vec::new());
    for line in page.lines() {
        let row = |end: &str, columns: &[bool]| cells(line.split(end), columns).join(end);
        if line.contains("<thead>") {
            columns = kept(line.split("</th>").map(|cell| cell.rsplit('>').next().unwrap_or_default()));
            out.push(row("</th>", &columns));
        } else if line.starts_with("<tr>") {
            out.push(row("</td>", &columns));
        } else if !line.starts_with("<div><dt>command</dt>") {
            out.push(line.to_owned());
        }
    }
    out.join("\n")
}

/// A markdown file of ours without times.
pub fn markdown(text: &str) -> String {
    let (mut out, mut columns) = (Vec::new(), None);
    for line in text.lines() {
        if !line.starts_with('|') {
            columns = None;
            out.push(line.to_owned());
            continue;
        }
        let of_line = || line.trim_matches(['|', ' ']).split(" | "); // a bar in a cell has a backslash before it
        let columns = columns.get_or_insert_with(|| kept(of_line()));
        out.push(cells(of_line(), columns).join(" | "));
    }
    out.join("\n")
}

/// A CSV file without times.
pub fn csv(text: &str) -> String {
    let mut lines = text.lines().map(fields);
    let Some(head) = lines.next() else { return String::new() };
    let columns = kept(head.iter());
    let line = |line: Vec<&str>| cells(line.into_iter(), &columns).join(",");
    std::iter::once(head.clone()).chain(lines).map(line).collect::<Vec<_>>().join("\n")
}

/// The fields of a line; a comma between quotes is none that divides.
fn fields(line: &str) -> Vec<&str> {
    let (mut fields, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                fields.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&line[start..]);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_times_go_and_all_else_stays() {
        let page = |command: &str, seconds: &str, error: &str| {
            format!(
                "<thead><tr><th scope=\"col\">method</th><th scope=\"col\" class=\"number\">seconds</th><th>error</th></tr></thead>\n\
                 <tr><td>a</td><td class=\"number\">{seconds}</td><td>{error}</td></tr>\n<p>3 seconds</p>\n\
                 <div><dt>command</dt><dd>{command}</dd></div>\n"
            )
        };
        assert_eq!(html(&page("a", "1", "5")), html(&page("b", "<strong>2</strong>", "5")));
        assert_ne!(html(&page("a", "1", "5")), html(&page("a", "1", "6")));
        assert!(html(&page("a", "1", "5")).contains("3 seconds"), "what is no column stays");
        let table = |seconds: &str, error: &str| {
            format!(
                "text\n\n| a | ms a sample | b |\n| --- | ---: | --- |\n| x \\| y | {seconds} | {error} |\n\n| c |\n| --- |\n| d |\n"
            )
        };
        assert_eq!(markdown(&table("1", "5")), markdown(&table("22", "5")));
        assert_ne!(markdown(&table("1", "5")), markdown(&table("1", "6")));
        let file = |seconds: &str, error: &str| format!("a,search seconds,b\n\"x, y\",{seconds},{error}\n");
        assert_eq!(csv(&file("1", "5")), "a,b\n\"x, y\",5");
        assert_ne!(csv(&file("1", "5")), csv(&file("1", "6")));
    }
}
