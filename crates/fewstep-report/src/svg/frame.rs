//! Everything around the data: title, legend, axes, grid, notes; and where on the picture each thing goes.

use super::legend::Legend;
use super::place::Place;
use super::scale::{Axes, Worked};
use super::series::{colour, group};
use super::text::{LINE, SIZE, TITLE_SIZE, shortened, text, width, wrapped};
use super::ticks;
use super::{Plot, STYLE};
use crate::escape;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 370.0;
/// The data area is never lower than this; a long legend makes the picture higher instead.
const LEAST_DATA_HEIGHT: f64 = 210.0;
const RIGHT: f64 = 18.0;

/// The layout of one plot.
pub struct Frame {
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    title: Vec<String>,
    notes: Vec<String>,
    legend: Legend,
    x_labels: Vec<String>,
    y_labels: Vec<String>,
}

impl Frame {
    /// Finds room for everything the plot has to say.
    pub fn new(plot: &Plot, axes: &Axes) -> Frame {
        let labels = |axis: &Worked| ticks::labels(&axis.ticks.major);
        let (x_labels, y_labels) = axes.both().map(|(x, y)| (labels(x), labels(y))).unwrap_or_default();
        let widest = y_labels.iter().map(|label| width(label, SIZE)).fold(0.0, f64::max);
        let left = (if plot.y.label.is_empty() { 14.0 } else { 34.0 }) + widest + 10.0;
        let title = wrapped(&plot.title, WIDTH - 32.0, TITLE_SIZE);
        let notes = wrapped(&notes(plot), WIDTH - 32.0, SIZE);
        let start = 12.0 + LINE * title.len() as f64;
        let legend = Legend::new(plot, Place { x: left, y: start + 16.0 }, WIDTH - RIGHT);
        let top = start + legend.height() + 12.0;
        let below = 24.0 + if plot.x.label.is_empty() { 0.0 } else { LINE } + 17.0 * notes.len() as f64 + 8.0;
        let height = HEIGHT.max(top + LEAST_DATA_HEIGHT + below);
        Frame {
            height,
            left,
            right: WIDTH - RIGHT,
            top,
            bottom: height - below,
            title,
            notes,
            legend,
            x_labels,
            y_labels,
        }
    }

    /// The opening tag, what screen readers say, and for a file of its own the style sheet and background.
    pub fn open(&self, plot: &Plot, alone: bool) -> String {
        let name = escape::markup(if plot.title.is_empty() { "plot" } else { &plot.title });
        let head = if alone {
            format!("<style>\n{STYLE}</style>\n<rect class=\"back\" width=\"{WIDTH}\" height=\"{}\"/>\n", self.height)
        } else {
            String::new()
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"fewstep-plot\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{name}\" \
             font-family=\"sans-serif\" font-size=\"{SIZE}\">\n{head}",
            self.height
        )
    }

    /// Grid lines, the two axes, and their tick labels.
    pub fn grid(&self, axes: &Axes) -> String {
        let mut svg = String::new();
        if let Some((x, y)) = axes.both() {
            for (class, at_x, at_y) in
                [("grid minor", &x.ticks.minor, &y.ticks.minor), ("grid", &x.ticks.major, &y.ticks.major)]
            {
                let upright = at_x.iter().map(|tick| {
                    let x = self.x(x, *tick);
                    format!("M{x:.1} {:.1}V{:.1}", self.top, self.bottom)
                });
                let level = at_y.iter().map(|tick| {
                    let y = self.y(y, *tick);
                    format!("M{:.1} {y:.1}H{:.1}", self.left, self.right)
                });
                let path: String = upright.chain(level).collect();
                svg.push_str(&format!("<path class=\"{class}\" d=\"{path}\" fill=\"none\"/>\n"));
            }
            for (tick, label) in x.ticks.major.iter().zip(&self.x_labels) {
                svg.push_str(&text(Place { x: self.x(x, *tick), y: self.bottom + 17.0 }, "middle", "", label));
            }
            for (tick, label) in y.ticks.major.iter().zip(&self.y_labels) {
                svg.push_str(&text(Place { x: self.left - 8.0, y: self.y(y, *tick) + 4.0 }, "end", "", label));
            }
        } else {
            let middle = Place { x: 0.5 * (self.left + self.right), y: 0.5 * (self.top + self.bottom) };
            svg.push_str(&text(middle, "middle", "quiet", "no data"));
        }
        let Frame { left, right, top, bottom, .. } = self;
        svg + &format!("<path class=\"axis\" d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\"/>\n")
    }

    /// The dashed lines to compare with.
    pub fn references(&self, plot: &Plot, axes: &Axes) -> String {
        let Some((_, y)) = axes.both() else {
            return String::new();
        };
        let mut svg = String::new();
        for reference in plot.references.iter().filter(|reference| plot.y.can_show(reference.y)) {
            let at = self.y(y, reference.y);
            if !(self.top - 0.5..=self.bottom + 0.5).contains(&at) {
                continue;
            }
            svg.push_str(&format!(
                "<path class=\"reference\" d=\"M{:.1} {at:.1}H{:.1}\" fill=\"none\" stroke-dasharray=\"3 4\"/>\n",
                self.left, self.right
            ));
        }
        svg
    }

    /// The series, in a viewport of their own that cuts off what lies beyond axes with given ends.
    pub fn data(&self, plot: &Plot, axes: &Axes) -> String {
        let Some((x, y)) = axes.both() else {
            return String::new();
        };
        let is_cut = x.is_cut || y.is_cut;
        let mut svg = String::new();
        if is_cut {
            let (width, height) = (self.right - self.left, self.bottom - self.top);
            let place =
                format!("x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"", self.left, self.top);
            let view = format!("viewBox=\"{:.1} {:.1} {width:.1} {height:.1}\"", self.left, self.top);
            svg.push_str(&format!("<svg {place} {view} overflow=\"hidden\">\n"));
        }
        for (at, series) in plot.series.iter().enumerate() {
            let place = |point: &(f64, f64)| {
                let shown = plot.x.can_show(point.0) && plot.y.can_show(point.1);
                shown.then(|| Place { x: self.x(x, point.0), y: self.y(y, point.1) })
            };
            let pixels: Vec<Option<Place>> = series.points.iter().map(place).collect();
            let colour = colour(plot, at);
            svg.push_str(&format!("{}{}</g>\n", group(colour), series.draw(&pixels, colour)));
        }
        if is_cut { svg + "</svg>\n" } else { svg }
    }

    /// Title, legend, axis names and notes.
    pub fn labels(&self, plot: &Plot, axes: &Axes) -> String {
        let mut svg = String::new();
        for (at, line) in self.title.iter().enumerate() {
            svg.push_str(&text(Place { x: 16.0, y: 26.0 + LINE * at as f64 }, "start", "title", line));
        }
        svg.push_str(&self.legend.draw(plot));
        let (middle_x, middle_y) = (0.5 * (self.left + self.right), 0.5 * (self.top + self.bottom));
        if !plot.x.label.is_empty() {
            svg.push_str(&text(
                Place { x: middle_x, y: self.bottom + 38.0 },
                "middle",
                "",
                &shortened(&plot.x.label, WIDTH - 32.0),
            ));
        }
        if !plot.y.label.is_empty() {
            let label = escape::markup(&shortened(&plot.y.label, self.bottom - self.top + 40.0));
            let x = if axes.is_some() { 22.0 } else { self.left - 12.0 };
            svg.push_str(&format!("<text transform=\"translate({x:.1} {middle_y:.1}) rotate(-90)\" text-anchor=\"middle\">{label}</text>\n"));
        }
        for (at, line) in self.notes.iter().enumerate() {
            let y = self.height - 9.0 - 17.0 * (self.notes.len() - 1 - at) as f64;
            svg.push_str(&text(Place { x: 16.0, y }, "start", "quiet", line));
        }
        svg
    }

    fn x(&self, axis: &Worked, value: f64) -> f64 {
        self.left + axis.place(value) * (self.right - self.left)
    }

    fn y(&self, axis: &Worked, value: f64) -> f64 {
        self.bottom - axis.place(value) * (self.bottom - self.top)
    }
}

/// The user's note and what could not be shown.
fn notes(plot: &Plot) -> String {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let hidden = points().filter(|point| !plot.x.can_show(point.0) || !plot.y.can_show(point.1)).count();
    let count = if hidden == 1 { "1 point is".to_string() } else { format!("{hidden} points are") };
    let log = [&plot.x, &plot.y].iter().any(|axis| axis.scale == super::Scale::Log);
    let why = if log { "not finite, or not positive on a logarithmic axis" } else { "not finite" };
    let sentences = [plot.note.clone(), if hidden == 0 { String::new() } else { format!("{count} not shown: {why}.") }];
    sentences.iter().filter(|sentence| !sentence.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}
