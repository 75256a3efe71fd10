//! Numbers as a reader wants them.

/// How a column or an axis writes its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// This many digits after the point.
    Fixed(usize),
    /// This many significant digits, without exponents where the number is between 0.0001 and a million.
    Significant(usize),
    /// The nearest whole number, its thousands apart: `50,000`.
    Integer,
    /// A ratio as a percentage with this many digits after the point.
    Percent(usize),
    /// Seconds as a length of time: `8.4 s`, `2 min 05 s`, `3 h 12 min`.
    Duration,
    /// As few digits as give the number back.
    #[default]
    Shortest,
}

impl Format {
    /// Writes `value`; what is not finite reads `nan`, `inf` or `-inf`.
    pub fn write(self, value: f64) -> String {
        if !value.is_finite() {
            return if value.is_nan() {
                "nan".into()
            } else if value > 0.0 {
                "inf".into()
            } else {
                "-inf".into()
            };
        }
        match self {
            Format::Fixed(digits) => positive_zero(format!("{value:.digits$}")),
            Format::Significant(digits) => significant(value, digits),
            Format::Integer => thousands(&positive_zero(format!("{value:.0}"))),
            Format::Percent(digits) => {
                format!("{}%", positive_zero(format!("{:.digits$}", 100.0 * value)))
            }
            Format::Duration => duration(value),
            Format::Shortest => format!("{}", value + 0.0), // -0 + 0 is 0
        }
    }
}

/// `-0.00` is written `0.00`.
fn positive_zero(text: String) -> String {
    let is_zero = text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
    if is_zero { text.trim_start_matches('-').to_string() } else { text }
}

fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = digits.clamp(1, 17);
    // The exponent after rounding to that many digits: 9.996 to three digits is 10.0.
    let rounded = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        return format!("{mantissa}×10{}", superscript(exponent));
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    format!("{value:.decimals$}")
}

/// `exponent` in raised digits.
pub fn superscript(exponent: i32) -> String {
    let raised = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32(0x2070 + (digit as u32 - '0' as u32)).unwrap_or(digit),
    };
    exponent.to_string().chars().map(raised).collect()
}

/// Commas between groups of three digits of a whole number.
fn thousands(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

fn duration(seconds: f64) -> String {
    if seconds < 0.0 {
        return format!("-{}", duration(-seconds));
    }
    if seconds < 0.0995 {
        return format!("{} ms", significant(1000.0 * seconds, 2));
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours == 0 { format!("{minutes} min {seconds:02} s") } else { format!("{hours} h {minutes:02} min") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn significant_digits_survive_rounding_up() {
        let write = |value| Format::Significant(3).write(value);
        let cases = [
            (144.83, "145"),
            (11.2, "11.2"),
            (9.996, "10.0"),
            (0.0463, "0.0463"),
            (-7.3, "-7.30"),
            (123456.0, "123456"),
            (1.5e-7, "1.50×10⁻⁷"),
            (2.0e12, "2.00×10¹²"),
            (0.0, "0"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(write(value), text);
        }
    }

    #[test]
    fn the_other_formats() {
        assert_eq!(Format::Fixed(2).write(-0.001), "0.00");
        assert_eq!(Format::Integer.write(-1234567.4), "-1,234,567");
        assert_eq!(Format::Integer.write(999.0), "999");
        assert_eq!(Format::Percent(1).write(0.9234), "92.3%");
        assert_eq!(Format::Shortest.write(0.002), "0.002");
        let cases = [
            (0.0042, "4.2 ms"),
            (8.44, "8.4 s"),
            (59.97, "1 min 00 s"),
            (125.0, "2 min 05 s"),
            (11530.0, "3 h 12 min"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Format::Duration.write(seconds), text);
        }
    }
}
