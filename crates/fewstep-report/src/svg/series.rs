//! One line of a plot: its data, its smoothing, its drawing.

use super::Plot;
use super::place::Place;
use crate::escape;
use crate::number::Format;

/// Named points, joined in the order given.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Stands in the legend.
    pub name: String,
    /// (x, y) in the units of the axes.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub style: Style,
}

/// How a series is drawn. Colour and shape follow from its place among the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A line.
    #[default]
    Line,
    /// A dashed line, for what is compared with.
    Dashed,
    /// A pale line, for raw data behind its smoothed self: takes the colour of the series after it, and no place in the legend.
    Faint,
    /// A line with a marker at every point.
    LineMarkers,
    /// Markers alone.
    Markers,
}

impl Style {
    fn has_markers(self) -> bool {
        matches!(self, Style::LineMarkers | Style::Markers)
    }
}

impl Series {
    /// A series from its parts.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>, style: Style) -> Self {
        Series { name: name.into(), points, style }
    }

    /// The exponential moving average along x, in which a point's weight halves every `half_life` (in units of x).
    ///
    /// The average starts without a bias towards zero; points that are not finite are left out. x must ascend; a `half_life` that is
    /// not positive changes nothing.
    pub fn smoothed(&self, half_life: f64) -> Self {
        if half_life.is_nan() || half_life <= 0.0 {
            return self.clone();
        }
        let (mut sum, mut weight, mut before) = (0.0, 0.0, None);
        let mut points = Vec::with_capacity(self.points.len());
        for &(x, y) in self.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let decay = before.map_or(0.0, |before: f64| (-(x - before).max(0.0) / half_life).exp2());
            sum = decay * sum + y;
            weight = decay * weight + 1.0;
            before = Some(x);
            points.push((x, sum / weight));
        }
        Series { points, ..self.clone() }
    }

    /// The raw series, pale, and its smoothed self over it: two series for one plot.
    pub fn with_smoothed(self, half_life: f64) -> [Self; 2] {
        let smooth = Series { style: Style::Line, ..self.smoothed(half_life) };
        [Series { style: Style::Faint, ..self }, smooth]
    }

    /// The elements of this series. `pixels` has the points' places, `None` where a point cannot be shown.
    pub(super) fn draw(&self, pixels: &[Option<Place>], shape: usize) -> String {
        let mut svg = String::new();
        if self.style != Style::Markers {
            let (width, extra) = match self.style {
                Style::Faint => (0.8, r#" stroke-opacity="0.35""#),
                Style::Dashed => (1.8, r#" stroke-dasharray="6 4""#),
                _ => (2.0, ""),
            };
            let path = path(pixels);
            svg.push_str(&format!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"{width}\" stroke-linejoin=\"round\" \
                 stroke-linecap=\"round\"{extra}/>\n"
            ));
        }
        if self.style.has_markers() {
            for (point, place) in self.points.iter().zip(pixels).filter_map(|(point, place)| Some((point, (*place)?))) {
                let write = |value: f64| {
                    if value.fract() == 0.0 && value.abs() < 1e6 { Format::Shortest } else { Format::Significant(4) }
                        .write(value)
                };
                let says = format!("{}: {}, {}", self.name, write(point.0), write(point.1));
                svg.push_str(&format!("<g><title>{}</title>{}</g>\n", escape::markup(&says), marker(place, shape)));
            }
        }
        svg
    }

    /// The short line or marker that stands for this series in the legend.
    pub(super) fn swatch(&self, place: Place, shape: usize) -> String {
        let ends = [Some(Place { x: place.x - 11.0, ..place }), Some(Place { x: place.x + 11.0, ..place })];
        let line = Series { points: Vec::new(), name: String::new(), ..self.clone() }.draw(&ends, shape);
        if self.style.has_markers() { line + &marker(place, shape) } else { line }
    }
}

/// A path through the places, broken where there is none. A place alone between two gaps becomes a dot.
fn path(pixels: &[Option<Place>]) -> String {
    let mut path = String::new();
    for run in pixels.split(Option::is_none).filter(|run| !run.is_empty()) {
        let run: Vec<Place> = thinned(&run.iter().flatten().copied().collect::<Vec<_>>());
        for (at, place) in run.iter().enumerate() {
            path.push_str(&format!("{}{:.1} {:.1}", if at == 0 { "M" } else { "L" }, place.x, place.y));
        }
        if run.len() == 1 {
            path.push_str("h0.01");
        }
    }
    path
}

/// At most four places for every pixel column: the first, the lowest, the highest and the last look like all of them.
fn thinned(run: &[Place]) -> Vec<Place> {
    if run.len() < 2500 {
        return run.to_vec();
    }
    let mut kept = Vec::new();
    for column in run.chunk_by(|a, b| a.x.floor() == b.x.floor()) {
        let lowest = (0..column.len()).min_by(|a, b| column[*a].y.total_cmp(&column[*b].y)).unwrap_or(0);
        let highest = (0..column.len()).max_by(|a, b| column[*a].y.total_cmp(&column[*b].y)).unwrap_or(0);
        let mut chosen = [0, lowest, highest, column.len() - 1].to_vec();
        chosen.sort_unstable();
        chosen.dedup();
        kept.extend(chosen.into_iter().map(|at| column[at]));
    }
    kept
}

/// One of six shapes, told apart without colour too.
fn marker(place: Place, shape: usize) -> String {
    let Place { x, y } = place;
    let polygon = |corners: &[(f64, f64)]| {
        let corners: Vec<String> = corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
        format!("<polygon points=\"{}\"", corners.join(" "))
    };
    let element = match shape % 6 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\""),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"", x - 3.5, y - 3.5),
        2 => polygon(&[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)]),
        3 => polygon(&[(0.0, -4.8), (4.6, 3.6), (-4.6, 3.6)]),
        4 => polygon(&[(0.0, 4.8), (4.6, -3.6), (-4.6, -3.6)]),
        _ => polygon(&[(0.0, -4.8), (4.6, -1.5), (2.8, 3.9), (-2.8, 3.9), (-4.6, -1.5)]),
    };
    format!("{element} class=\"halo\" fill=\"currentColor\" stroke-width=\"1\"/>")
}

/// The colour of a series: its place among those with one of their own. A faint series has the next one's.
pub fn colour(plot: &Plot, at: usize) -> usize {
    plot.series[..at].iter().filter(|series| series.style != Style::Faint).count()
}

/// A group in one of the style sheet's eight colours.
pub fn group(colour: usize) -> String {
    format!("<g class=\"c{}\">\n", colour % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_halves_a_step() {
        let flat = Series::new("flat", (0..20).map(|x| (f64::from(x), 3.0)).collect(), Style::Line);
        assert!(flat.smoothed(2.0).points.iter().all(|point| (point.1 - 3.0).abs() < 1e-12));
        // After a long constant past, one half-life after a step the average has made half of the step.
        let mut points: Vec<(f64, f64)> = (0..2000).map(|x| (f64::from(x) * 0.01, 0.0)).collect();
        points.extend((0..100).map(|x| (20.0 + f64::from(x) * 0.01, 1.0)));
        let smooth = Series::new("step", points, Style::Line).smoothed(1.0);
        assert!((smooth.points[2099].1 - 0.5).abs() < 0.01, "{:?}", smooth.points[2099]);
        let gaps = Series::new("gaps", vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)], Style::Line).smoothed(1.0);
        assert_eq!(gaps.points, [(0.0, 1.0), (2.0, 1.0)]);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let run: Vec<Place> = (0..100_000)
            .map(|at| Place { x: f64::from(at) * 0.005, y: if at == 54_321 { 99.0 } else { f64::from(at % 7) } })
            .collect();
        let kept = thinned(&run);
        assert!(kept.len() <= 2004 && kept.contains(&run[54_321]) && kept.last() == run.last());
        assert!(kept.windows(2).all(|pair| pair[0].x <= pair[1].x));
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let at = |x| Some(Place { x, y: 0.0 });
        assert_eq!(path(&[at(0.0), at(1.0), None, at(3.0), None, None]), "M0.0 0.0L1.0 0.0M3.0 0.0h0.01");
    }
}
