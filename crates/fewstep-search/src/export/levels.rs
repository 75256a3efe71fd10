//! Noise levels as other tools count and write them.

use super::error::{Error, Result};
use super::noise_table::Betas;

/// Significant digits where they tell neighbours apart.
const DIGITS: usize = 9;

/// As many significant digits tell any two numbers of double precision apart.
const MOST_DIGITS: usize = 17;

/// The time t of a flow, `x = (1 - t) y + t n`, that has the signal-to-noise ratio of sigma.
pub fn time(sigma: f64) -> f64 {
    sigma / (1.0 + sigma)
}

/// A fixed-point decimal with nine significant digits: some tools' number patterns know no exponents.
pub fn decimal(value: f64) -> String {
    significant(value, DIGITS)
}

/// Decimals of numbers, with more digits where nine would make neighbours the same.
pub fn decimals(values: &[f64]) -> Vec<String> {
    apart(values, DIGITS, significant)
}

/// A fixed-point decimal with so many significant digits, and more where the whole part has more.
pub fn significant(value: f64, digits: usize) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i64 };
    let digits = (digits as i64 - 1 - magnitude).max(0) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}

/// Texts of numbers, all with as many digits as keep each apart from its neighbours, `fewest` at least.
fn apart(values: &[f64], fewest: usize, write: impl Fn(f64, usize) -> String) -> Vec<String> {
    let written = |digits: usize| values.iter().map(|value| write(*value, digits)).collect::<Vec<_>>();
    let differ = |texts: &Vec<String>| texts.windows(2).all(|pair| pair[0] != pair[1]);
    (fewest..MOST_DIGITS).map(written).find(differ).unwrap_or_else(|| written(MOST_DIGITS))
}

/// Checks that neighbouring levels are still two as the tool counts them, perhaps by a noise table.
///
/// # Errors
/// The first two that are one.
pub fn check_apart(tool: &str, levels: &[f64], counted: &[f64], betas: Option<&Betas>) -> Result<()> {
    match levels.windows(2).zip(counted.windows(2)).find(|(_, counted)| counted[0] == counted[1]) {
        None => Ok(()),
        Some((levels, counted)) => Err(Error::LevelsBecomeOne {
            tool: tool.to_owned(),
            levels: [levels[0], levels[1]],
            became: counted[0],
            betas: betas.cloned(),
        }),
    }
}

/// Texts with something between them.
pub fn joined(texts: impl Iterator<Item = String>, separator: &str) -> String {
    texts.collect::<Vec<_>>().join(separator)
}

/// The levels and the final 0.
pub fn with_zero(levels: &[f64], separator: &str) -> String {
    joined(decimals(levels).into_iter().chain(["0.0".to_owned()]), separator)
}

/// Positions on the ramp of [`ramp_positions`] in writing.
pub fn written_positions(positions: &[f64]) -> Vec<String> {
    apart(positions, 12, |position, digits| format!("{position:.digits$}"))
}

/// Positions on the rho = 7 ramp between the ends of the levels, which `EDMEulerScheduler` maps back:
/// r_i = (sigma_max^(1/rho) - sigma_i^(1/rho)) / (sigma_max^(1/rho) - sigma_min^(1/rho)); 0 for a single level.
pub fn ramp_positions(levels: &[f64]) -> Vec<f64> {
    let root = |sigma: f64| sigma.powf(1.0 / 7.0);
    match levels {
        [first, .., last] => {
            let length = root(*first) - root(*last);
            levels.iter().map(|sigma| (root(*first) - root(*sigma)) / length).collect()
        }
        _ => vec![0.0; levels.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_no_exponent_and_nine_digits() {
        for (value, text) in [
            (80.0, "80"),
            (0.002, "0.002"),
            (1e-7, "0.0000001"),
            (0.0, "0"),
            (14.614_641_714_6, "14.6146417"),
            (1.0 / 3.0, "0.333333333"),
            (156.6155, "156.6155"),
            (12_345_678_901.0, "12345678901"),
        ] {
            assert_eq!(decimal(value), text);
        }
        let tiny = decimal(2.5e-35);
        assert!(!tiny.contains('e') && tiny.parse() == Ok(2.5e-35), "{tiny}");
    }

    #[test]
    fn neighbours_are_written_apart() {
        assert_eq!(decimals(&[80.0, 1.0 / 3.0]), ["80", "0.333333333"]);
        assert_eq!(decimals(&[2.000_000_000_3, 2.0]), ["2.0000000003", "2"]);
        for level in [80.0_f64, 1.0, 0.002, 1e-9, 123_456_789_012.0] {
            let levels = [2.0 * level, level.next_up().next_up(), level.next_up(), level];
            let read: Vec<f64> = decimals(&levels).iter().map(|text| text.parse().unwrap()).collect();
            assert!(read.windows(2).all(|pair| pair[0] > pair[1]), "{read:?}");
        }
        assert_eq!(with_zero(&[1.000_000_000_02, 1.0], ","), "1.00000000002,1,0.0");
        assert_eq!(written_positions(&[0.25, 0.25 + 1e-14]), ["0.25000000000000", "0.25000000000001"]);
        // what is the same is written once in full, and found by the check
        assert_eq!(decimals(&[1.0, 1.0]), ["1", "1"]);
        let error = check_apart("ComfyUI", &[3e17, 2e17], &[1.0, 1.0], None).unwrap_err().to_string();
        assert!(error.contains("300000000000000000 and 200000000000000000 become one, 1"), "{error}");
        assert!(check_apart("ComfyUI", &[3.0, 2.0], &[0.75, 2.0 / 3.0], None).is_ok());
    }

    #[test]
    fn ramp_positions_lead_back() {
        let levels = [80.0, 11.5, 0.61, 0.002];
        let positions = ramp_positions(&levels);
        assert_eq!((positions[0], positions[3]), (0.0, 1.0));
        let root = |sigma: f64| sigma.powf(1.0 / 7.0);
        for (r, sigma) in positions.iter().zip(levels) {
            let back = (root(80.0) + r * (root(0.002) - root(80.0))).powi(7);
            assert!((back / sigma - 1.0).abs() < 1e-12);
        }
        assert_eq!(ramp_positions(&[1.0]), [0.0]);
    }
}
