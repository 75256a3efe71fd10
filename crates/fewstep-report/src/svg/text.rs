//! Text on a picture: its element, and how much room it takes.

use super::place::Place;
use crate::escape;
use unicode_width::UnicodeWidthChar;

/// Font size of everything but titles, as in the style sheet.
pub const SIZE: f64 = 13.0;
/// From one line to the next.
pub const LINE: f64 = 20.0;
/// Font size of titles, as in the style sheet.
pub const TITLE_SIZE: f64 = 16.0;

/// One line of text at a place; `anchor` says which end of it stands there.
pub fn text(place: Place, anchor: &str, class: &str, content: &str) -> String {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\"{class}>{}</text>\n",
        place.x,
        place.y,
        escape::markup(content)
    )
}

/// About how wide `text` is at this size. Fonts differ; the layout leaves room for that.
pub fn width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '\'' | '|' | '!' => 0.29,
        'f' | 't' | 'r' | ' ' | '(' | ')' | '-' | '/' => 0.38,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.88,
        c if c.is_uppercase() => 0.68,
        c => 0.57 * UnicodeWidthChar::width(c).unwrap_or(0) as f64,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// `text`, its end replaced by an ellipsis where it is wider than `room`.
pub fn shortened(text: &str, room: f64) -> String {
    if width(text, SIZE) <= room {
        return text.to_string();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if width(&kept, SIZE) + SIZE > room {
            kept.pop();
            break;
        }
    }
    kept + "…"
}

/// `text` in lines that fit, broken at spaces.
pub fn wrapped(text: &str, room: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(word, size) + 0.38 * size <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}
