//! Text made safe for where it goes.

/// Whether a character does something to the text around it instead of being seen: it controls a terminal, or turns the direction of what
/// follows, so that a name reads as another.
pub fn is_control(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// `text` as the content or a quoted attribute of HTML and XML.
///
/// Characters that XML 1.0 does not allow at all become U+FFFD, so that an SVG file stays well-formed.
pub fn markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push(c),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c if is_control(c) => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// `text` on one line of a terminal: a name cannot move the cursor, set colours or break the table.
pub fn terminal(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { '\u{fffd}' } else { c }).collect()
}

/// `text` in a cell of a markdown table.
pub fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '~' => safe.extend(['\\', c]),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '\n' | '\r' => safe.push(' '),
            c if is_control(c) => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// `text` as a field of a CSV file (RFC 4180).
pub fn csv(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own_escapes() {
        let name = "<b>\"A&B|*\"\u{1b}[31m,\n'";
        assert_eq!(markup(name), "&lt;b&gt;&quot;A&amp;B|*&quot;\u{fffd}[31m,\n&#39;");
        assert_eq!(terminal(name), "<b>\"A&B|*\"\u{fffd}[31m,\u{fffd}'");
        assert_eq!(markdown(name), "&lt;b>\"A&amp;B\\|\\*\"\u{fffd}\\[31m, '");
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv("plain"), "plain");
        // what would show as a.exe.png
        let turned = "a\u{202e}gnp\u{2069}.exe";
        for safe in [markup(turned), terminal(turned), markdown(turned)] {
            assert_eq!(safe, "a\u{fffd}gnp\u{fffd}.exe");
        }
    }
}
