//! Where an axis is marked, and what it covers.

use crate::number::superscript;

/// An axis worked out: what it covers and where it is marked, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticks {
    /// The least and the greatest value on the axis.
    pub domain: (f64, f64),
    /// Marked and labelled.
    pub major: Vec<f64>,
    /// Marked only.
    pub minor: Vec<f64>,
}

/// About this many labels fit an axis.
const WANTED: f64 = 6.0;

/// A linear axis over data from `min` to `max`, whose first and last tick lie at or beyond the data.
///
/// Steps are 1, 2 or 5 times a power of ten, and at least 1 where the data are all `whole` numbers.
pub fn linear(min: f64, max: f64, whole: bool) -> Ticks {
    let (min, max) = apart(min, max);
    let step = linear_step(max - min, whole);
    let first = (min / step + 1e-9).floor();
    let last = (max / step - 1e-9).ceil();
    let count = (last - first).clamp(1.0, 100.0) as usize;
    let major: Vec<f64> = (0..=count).map(|at| (first + at as f64) * step).collect();
    let domain = (major[0].min(min), major[count].max(max));
    Ticks { domain, major, minor: Vec::new() }
}

/// The ticks of a linear axis whose ends are given.
pub fn linear_within(min: f64, max: f64, whole: bool) -> Ticks {
    let mut ticks = linear(min, max, whole);
    ticks.major.retain(|tick| (min..=max).contains(tick));
    ticks.domain = (min, max);
    ticks
}

/// Ends of an axis that are some way apart.
fn apart(min: f64, max: f64) -> (f64, f64) {
    let scale = min.abs().max(max.abs());
    if max - min > 1e-9 * scale && max - min > 1e-290 {
        return (min, max);
    }
    let room = if scale > 1e-280 { 0.1 * scale } else { 1.0 };
    (min - room, max + room)
}

fn linear_step(span: f64, whole: bool) -> f64 {
    let rough = span / WANTED;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * power).find(|step| *step >= rough * 0.85);
    let step = step.unwrap_or(10.0 * power);
    if whole { step.max(1.0).round() } else { step }
}

/// A logarithmic axis over positive data from `min` to `max`, with a little room at both ends.
///
/// Powers of ten are labelled; where less than three of them fall on the axis, 1, 2 and 5 times them; else linear ticks.
pub fn log(min: f64, max: f64) -> Ticks {
    let (lo, hi) = (min.log10(), max.log10());
    let room = if hi - lo < 1e-6 { 0.3 } else { 0.03 * (hi - lo) };
    log_within(10_f64.powf(lo - room), 10_f64.powf(hi + room))
}

/// The ticks of a logarithmic axis whose ends are given.
pub fn log_within(min: f64, max: f64) -> Ticks {
    let powers: Vec<i32> = (min.log10().floor() as i32..=max.log10().ceil() as i32).collect();
    let times = |factors: &[f64]| -> Vec<f64> {
        let all = powers.iter().flat_map(|power| factors.iter().map(|factor| factor * 10_f64.powi(*power)));
        all.filter(|tick| (min..=max).contains(tick)).collect()
    };
    let decades = times(&[1.0]);
    let between = times(&[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let (major, minor) = if decades.len() > 8 {
        let stride = decades.len().div_ceil(8);
        let (major, minor): (Vec<_>, Vec<_>) = decades.into_iter().enumerate().partition(|(at, _)| at % stride == 0);
        let values = |ticks: Vec<(usize, f64)>| ticks.into_iter().map(|(_, tick)| tick).collect();
        (values(major), values(minor))
    } else if decades.len() >= 3 {
        (decades, between)
    } else {
        (times(&[1.0, 2.0, 5.0]), between)
    };
    if major.len() < 2 {
        let ticks = linear_within(min, max, false);
        return Ticks { domain: (min, max), major: ticks.major, minor: Vec::new() };
    }
    Ticks { domain: (min, max), major, minor }
}

/// Labels for the ticks of one axis, written alike.
pub fn labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0.0_f64, |most, tick| most.max(tick.abs()));
    let gap = ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let smallest = if gap.is_finite() && gap > 0.0 { gap } else { largest };
    if largest >= 1e6 && smallest >= 1e5 && largest < 1e9 {
        return ticks.iter().map(|tick| suffixed(*tick, 1e6, "M")).collect();
    }
    if largest >= 1e4 && smallest >= 100.0 && largest < 1e6 {
        return ticks.iter().map(|tick| suffixed(*tick, 1e3, "k")).collect();
    }
    ticks.iter().map(|tick| label(*tick, largest)).collect()
}

fn suffixed(tick: f64, unit: f64, suffix: &str) -> String {
    if tick == 0.0 { "0".into() } else { format!("{}{suffix}", shortest(tick / unit)) }
}

fn label(tick: f64, largest: f64) -> String {
    // A sum of steps can miss zero by a rounding error.
    if tick.abs() < 1e-9 * largest || tick == 0.0 {
        return "0".into();
    }
    if (1e-4..1e6).contains(&tick.abs()) {
        return shortest(tick);
    }
    let power = (tick.abs().log10() + 1e-9).floor() as i32;
    match shortest(tick / 10_f64.powi(power)).as_str() {
        "1" => format!("10{}", superscript(power)),
        "-1" => format!("−10{}", superscript(power)),
        mantissa => format!("{mantissa}×10{}", superscript(power)),
    }
}

/// Nine significant digits, so that 0.30000000000000004 reads 0.3, and no zeros at the end.
fn shortest(value: f64) -> String {
    let decimals = (8 - value.abs().log10().floor() as i32).clamp(0, 17) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_people_expect() {
        assert_eq!(linear(0.0, 18.0, true).major, [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(linear(4.0, 8.0, true).major, [4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(labels(&linear(0.0, 0.35, false).major), ["0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.35"]);
        assert_eq!(labels(&linear(-1.0, 1.0, false).major), ["−1", "−0.5", "0", "0.5", "1"]);
        assert_eq!(labels(&log(0.002, 80.0).major), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(labels(&log(3.0, 40.0).major), ["5", "10", "20"]);
        assert_eq!(labels(&log(6.0, 260.0).major), ["10", "20", "50", "100", "200"]);
        assert_eq!(labels(&log(1e-8, 1e-5).major), ["10⁻⁸", "10⁻⁷", "10⁻⁶", "10⁻⁵"]);
        assert_eq!(labels(&linear(0.0, 60_000.0, true).major), ["0", "10k", "20k", "30k", "40k", "50k", "60k"]);
    }

    proptest! {
        #[test]
        fn linear_ticks_cover_the_data(a in -1e12..1e12_f64, span in 0.0..1e12_f64, whole: bool) {
            let (a, b) = if whole { (a.round(), (a + span).round()) } else { (a, a + span) };
            let ticks = linear(a, b, whole);
            let tolerance = 1e-6 * (b - a).max(a.abs()).max(1e-300);
            prop_assert!(ticks.major.len() >= 2 && ticks.major.len() <= 14, "{ticks:?}");
            prop_assert!(ticks.major[0] <= a + tolerance && ticks.major[ticks.major.len() - 1] >= b - tolerance, "{ticks:?}");
            prop_assert!(ticks.major.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?}");
            prop_assert!(ticks.domain.0 <= a && ticks.domain.1 >= b);
        }

        #[test]
        fn log_ticks_lie_on_the_axis_and_leave_no_decade_out(lo in -200.0..200.0_f64, decades in 0.0..20.0_f64) {
            let (a, b) = (10_f64.powf(lo), 10_f64.powf(lo + decades));
            let ticks = log(a, b);
            prop_assert!(ticks.domain.0 <= a && ticks.domain.1 >= b);
            prop_assert!(ticks.major.len() >= 2, "{ticks:?}");
            let inside = |tick: &f64| (ticks.domain.0..=ticks.domain.1).contains(tick);
            prop_assert!(ticks.major.iter().chain(&ticks.minor).all(inside));
            let widest = ticks.major.windows(2).map(|pair| pair[1] / pair[0]).fold(0.0, f64::max);
            prop_assert!(widest < 1001.0, "{ticks:?}");
        }

        #[test]
        fn labels_read_back_as_their_ticks(a in -1e5..1e5_f64, span in 1e-3..1e5_f64) {
            let ticks = linear(a, a + span, false);
            for (tick, text) in ticks.major.iter().zip(labels(&ticks.major)) {
                let (text, unit) = text.strip_suffix('k').map_or((text.as_str(), 1.0), |text| (text, 1e3));
                let read: f64 = text.replace('−', "-").parse().unwrap();
                prop_assert!((read * unit - tick).abs() <= 1e-6 * (tick.abs() + span), "{text} for {tick}");
            }
        }
    }
}
