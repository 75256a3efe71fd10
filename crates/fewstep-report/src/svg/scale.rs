//! From values to places on an axis.

use super::ticks::{self, Ticks};
use super::{Axis, Plot, Scale};

/// Beyond this, and below its inverse on a logarithmic axis, sums and ratios of ends and ticks could overflow.
const LARGEST: f64 = 1e150;

/// Both axes of a plot, or nothing where the plot has no point to show.
pub struct Axes(Option<(Worked, Worked)>);

impl Axes {
    /// Works the axes out from every point that both can show.
    pub fn of(plot: &Plot) -> Axes {
        let shown = |point: &&(f64, f64)| plot.x.can_show(point.0) && plot.y.can_show(point.1);
        let points = || plot.series.iter().flat_map(|series| &series.points).filter(shown);
        let lines = plot.references.iter().map(|reference| reference.y).filter(|y| plot.y.can_show(*y));
        let xs: Vec<f64> = points().map(|point| point.0).collect();
        let ys: Vec<f64> = points().map(|point| point.1).chain(lines).collect();
        if xs.is_empty() {
            return Axes(None);
        }
        Axes(Some((Worked::new(&plot.x, &xs), Worked::new(&plot.y, &ys))))
    }

    /// Whether there is anything to show.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The horizontal and the vertical axis.
    pub fn both(&self) -> Option<(&Worked, &Worked)> {
        self.0.as_ref().map(|(x, y)| (x, y))
    }
}

/// One axis, its ends and ticks known.
pub struct Worked {
    scale: Scale,
    pub ticks: Ticks,
    /// Whether the ends were given, so that data may lie beyond them.
    pub is_cut: bool,
}

impl Worked {
    fn new(axis: &Axis, values: &[f64]) -> Worked {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let whole = values.iter().all(|value| value.fract() == 0.0);
        let given = axis.range.filter(|(from, to)| from < to && axis.can_show(*from) && axis.can_show(*to));
        let ticks = match (axis.scale, given) {
            (Scale::Linear, None) => ticks::linear(min, max, whole),
            (Scale::Linear, Some((from, to))) => ticks::linear_within(from, to, whole),
            (Scale::Log, None) => ticks::log(min, max),
            (Scale::Log, Some((from, to))) => ticks::log_within(from, to),
        };
        Worked { scale: axis.scale, ticks, is_cut: given.is_some() }
    }

    /// Where `value` lies between the axis's ends: 0 at the lower one, 1 at the upper one.
    pub fn place(&self, value: f64) -> f64 {
        let (from, to) = self.ticks.domain;
        let place = match self.scale {
            Scale::Linear => (value - from) / (to - from),
            Scale::Log => (value.ln() - from.ln()) / (to.ln() - from.ln()),
        };
        // Far outside an axis with given ends; no renderer needs to know how far.
        place.clamp(-100.0, 100.0)
    }
}

impl Axis {
    /// Whether `value` has a place on this axis.
    pub fn can_show(&self, value: f64) -> bool {
        match self.scale {
            Scale::Linear => value.abs() <= LARGEST,
            Scale::Log => (1.0 / LARGEST..=LARGEST).contains(&value),
        }
    }
}
