//! The legend: rows of names, each beside the line or marker that it names.

use super::place::Place;
use super::series::{colour, group};
use super::text::{LINE, SIZE, shortened, text, width};
use super::{Plot, Style};

/// Room for the line or marker before a name, and between a name and the next entry.
const SWATCH: f64 = 30.0;
const GAP: f64 = 18.0;

/// What one entry names.
enum Names {
    Series(usize),
    Reference,
}

struct Entry {
    place: Place,
    text: String,
    names: Names,
}

/// Entries at their places.
pub struct Legend {
    entries: Vec<Entry>,
    height: f64,
}

impl Legend {
    /// Sets the entries in rows from `start` (the first row's baseline) to `right`. Faint and nameless series have none.
    pub fn new(plot: &Plot, start: Place, right: f64) -> Legend {
        let is_named = |at: &usize| plot.series[*at].style != Style::Faint && !plot.series[*at].name.is_empty();
        let series = (0..plot.series.len()).filter(is_named).map(|at| (&plot.series[at].name, Names::Series(at)));
        let shown =
            plot.references.iter().filter(|reference| plot.y.can_show(reference.y) && !reference.name.is_empty());
        let references = shown.map(|reference| (&reference.name, Names::Reference));
        let (mut entries, mut at) = (Vec::new(), start);
        for (name, names) in series.chain(references) {
            let text = shortened(name, right - start.x - SWATCH);
            let wide = SWATCH + width(&text, SIZE);
            if at.x + wide > right && at.x > start.x {
                at = Place { x: start.x, y: at.y + LINE };
            }
            entries.push(Entry { place: at, text, names });
            at.x += wide + GAP;
        }
        let height = if entries.is_empty() { 0.0 } else { at.y - start.y + LINE };
        Legend { entries, height }
    }

    /// How much room the rows take.
    pub fn height(&self) -> f64 {
        self.height
    }

    /// The elements of all entries.
    pub fn draw(&self, plot: &Plot) -> String {
        self.entries.iter().map(|entry| entry.draw(plot)).collect()
    }
}

impl Entry {
    fn draw(&self, plot: &Plot) -> String {
        let Place { x, y } = self.place;
        let swatch = match self.names {
            Names::Series(at) => {
                let colour = colour(plot, at);
                let middle = Place { x: x + 0.5 * SWATCH - 3.0, y: y - 4.5 };
                format!("{}{}</g>\n", group(colour), plot.series[at].swatch(middle, colour))
            }
            Names::Reference => {
                format!(
                    "<path class=\"reference\" d=\"M{:.1} {:.1}h22\" fill=\"none\" stroke-dasharray=\"3 4\"/>\n",
                    x + 1.0,
                    y - 4.5
                )
            }
        };
        swatch + &text(Place { x: x + SWATCH, y }, "start", "", &self.text)
    }
}
