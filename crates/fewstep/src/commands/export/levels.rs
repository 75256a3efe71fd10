//! Noise levels as other tools write them.

use anyhow::{Result, ensure};

/// A fixed-point decimal with nine significant digits: some tools' number patterns know no exponents.
pub fn decimal(value: f64) -> String {
    let digits = (8 - value.abs().max(f64::MIN_POSITIVE).log10().floor() as i64).clamp(0, 30) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}

/// The levels and the final 0, comma-separated.
pub fn with_zero(levels: &[f64], separator: &str) -> String {
    let texts = levels.iter().map(|level| decimal(*level)).chain(["0.0".to_owned()]);
    texts.collect::<Vec<_>>().join(separator)
}

/// Positions on the rho = 7 ramp between the ends of the levels, which `EDMEulerScheduler` maps back:
/// r_i = (sigma_max^(1/rho) - sigma_i^(1/rho)) / (sigma_max^(1/rho) - sigma_min^(1/rho)).
pub fn ramp_positions(levels: &[f64]) -> Result<Vec<f64>> {
    let root = |sigma: f64| sigma.powf(1.0 / 7.0);
    let (first, last) = match levels {
        [first, .., last] => (root(*first), root(*last)),
        _ => (0.0, 0.0),
    };
    ensure!(first > last, "EDMEulerScheduler places levels between the first and the last: it needs at least two");
    Ok(levels.iter().map(|&sigma| (first - root(sigma)) / (first - last)).collect())
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
            (14.614_641_714_6, "14.6146417"),
            (1.0 / 3.0, "0.333333333"),
            (156.6155, "156.6155"),
            (12_345_678_901.0, "12345678901"),
        ] {
            assert_eq!(decimal(value), text);
        }
    }

    #[test]
    fn ramp_positions_lead_back() {
        let levels = [80.0, 11.5, 0.61, 0.002];
        let positions = ramp_positions(&levels).unwrap();
        assert_eq!((positions[0], positions[3]), (0.0, 1.0));
        let root = |sigma: f64| sigma.powf(1.0 / 7.0);
        for (r, sigma) in positions.iter().zip(levels) {
            let back = (root(80.0) + r * (root(0.002) - root(80.0))).powi(7);
            assert!((back / sigma - 1.0).abs() < 1e-12);
        }
        assert!(ramp_positions(&[1.0]).is_err());
    }
}
