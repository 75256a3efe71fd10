//! Noise levels as other tools write them.

/// A fixed-point decimal with nine significant digits: some tools' number patterns know no exponents.
pub fn decimal(value: f64) -> String {
    let digits = (8 - value.abs().max(f64::MIN_POSITIVE).log10().floor() as i64).clamp(0, 30) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}

/// Texts with something between them.
pub fn joined(texts: impl Iterator<Item = String>, separator: &str) -> String {
    texts.collect::<Vec<_>>().join(separator)
}

/// The levels and the final 0.
pub fn with_zero(levels: &[f64], separator: &str) -> String {
    joined(levels.iter().map(|level| decimal(*level)).chain(["0.0".to_owned()]), separator)
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
