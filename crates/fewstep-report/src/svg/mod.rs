//! Line plots as SVG text: no scripts, text as text, light and dark by the reader's setting.

mod frame;
mod legend;
mod place;
mod png;
mod scale;
mod series;
mod text;
mod ticks;

pub use png::PngError;
pub use series::{Series, Style};

use frame::Frame;
use scale::Axes;

/// The style sheet that [`Plot::to_svg`] puts into the file, and a page with several plots only once.
pub(crate) const STYLE: &str = include_str!("style.css");

/// A plot of lines and markers over two axes.
///
/// Points that an axis cannot show (not finite; not positive on a logarithmic one) break their line and are counted in a note
/// under the plot. A plot without a single point says so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// Stands above the plot; may be empty.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Drawn in this order, coloured and marked by their place in it.
    pub series: Vec<Series>,
    /// Horizontal lines to compare with, such as a teacher's score.
    pub references: Vec<Reference>,
    /// A sentence under the plot; may be empty.
    pub note: String,
}

/// One axis: what it measures and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// Name and unit.
    pub label: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// Its two ends; without them, or where they make no axis, they follow from the data.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis over whatever the data cover.
    pub fn linear(label: impl Into<String>) -> Self {
        Axis { label: label.into(), scale: Scale::Linear, range: None }
    }

    /// A logarithmic axis over whatever the positive data cover.
    pub fn log(label: impl Into<String>) -> Self {
        Axis { label: label.into(), scale: Scale::Log, range: None }
    }

    /// The same axis from `from` to `to`; what lies beyond is cut off.
    pub fn within(self, from: f64, to: f64) -> Self {
        Axis { range: Some((from, to)), ..self }
    }
}

/// How values become distances along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart.
    Log,
}

/// A dashed horizontal line with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Stands in the legend.
    pub name: String,
    /// Where it crosses the vertical axis.
    pub y: f64,
}

impl Plot {
    /// The plot as a whole SVG file, with its own background and style sheet.
    pub fn to_svg(&self) -> String {
        self.draw(true)
    }

    /// The plot for a page that holds [`STYLE`] and has a background.
    pub(crate) fn to_inline_svg(&self) -> String {
        self.draw(false)
    }

    fn draw(&self, alone: bool) -> String {
        let axes = Axes::of(self);
        let frame = Frame::new(self, &axes);
        let mut svg = frame.open(self, alone);
        svg.push_str(&frame.grid(&axes));
        if axes.is_some() {
            svg.push_str(&frame.references(self, &axes));
            svg.push_str(&frame.data(self, &axes));
        }
        svg.push_str(&frame.labels(self, &axes));
        svg.push_str("</svg>\n");
        svg
    }
}
