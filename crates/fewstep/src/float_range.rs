//! The range of float images: what the file says, or what its values leave no doubt of.

use std::fmt;

use fewstep_io::tensors::TensorData;

use crate::error::{Result, bail, ensure};

/// Name of the array that says it: black and white, `[-1, 1]`, `[0, 1]` or `[0, 255]`.
pub const RANGE: &str = "range";

/// Values of black and white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatRange {
    /// -1 to 1, as networks make them.
    Signed,
    /// 0 to 1.
    Unit,
    /// 0 to 255.
    Bytes,
}

impl FloatRange {
    /// Black and white.
    pub fn ends(self) -> [f32; 2] {
        match self {
            Self::Signed => [-1.0, 1.0],
            Self::Unit => [0.0, 1.0],
            Self::Bytes => [0.0, 255.0],
        }
    }

    /// The range of images of these values; `stated` is what their file says of it.
    ///
    /// Without that the least and the greatest value decide: below 0 only -1 to 1 reaches, above 1 only 0 to 255. Half a grey level
    /// beyond either end is rounding.
    ///
    /// # Errors
    /// If the values do not fit, or fit more than one range; the message says what to do.
    pub fn of(values: &[f32], stated: Option<&TensorData>) -> Result<Self> {
        match stated {
            Some(stated) => Self::stated(values, &stated.to_f32()),
            None => Self::told(values),
        }
    }

    fn told(values: &[f32]) -> Result<Self> {
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let fits = |range: Self| {
            let ([black, white], slack) = (range.ends(), range.slack());
            least >= black - slack && greatest <= white + slack
        };
        let whole = || values.iter().all(|value| value.fract() == 0.0);
        match (least, greatest) {
            (..-0.1, _) if fits(Self::Signed) => Ok(Self::Signed),
            // Images whose lightest pixel is below mid-grey, or whose darkest is far from black, could be of another range.
            (..=0.25, 0.5..) if least >= -Self::Unit.slack() && fits(Self::Unit) => Ok(Self::Unit),
            (_, 2.0..) if fits(Self::Bytes) && (greatest >= 16.0 || whole()) => Ok(Self::Bytes),
            _ => {
                let fitting = [Self::Signed, Self::Unit, Self::Bytes].into_iter().filter(|range| fits(*range));
                let fitting: Vec<String> = fitting.map(|range| range.to_string()).collect();
                let found = format!("its images are floats from {least} to {greatest}");
                if fitting.is_empty() {
                    bail!(
                        "{found}, which is none of -1 to 1, 0 to 1 and 0 to 255: store u8 pixels, or values within one of these; what a \
                         sampler leaves beyond -1 and 1 is cut off where an array `{RANGE}` in the file says [-1, 1]"
                    );
                }
                bail!(
                    "{found}, which could be {}: store u8 pixels, or say which with an array `{RANGE}` in the file, [black, white]",
                    fitting.join(" or ")
                );
            }
        }
    }

    fn stated(values: &[f32], stated: &[f32]) -> Result<Self> {
        let range = [Self::Signed, Self::Unit, Self::Bytes].into_iter().find(|range| range.ends() == stated);
        let Some(range) = range else {
            bail!("its array `{RANGE}` is {stated:?}, where [-1, 1], [0, 1] or [0, 255] is needed");
        };
        let [black, white] = range.ends();
        let slack = range.slack();
        let outside = values.iter().filter(|value| !(black - slack..=white + slack).contains(*value)).count();
        // Samplers overshoot -1 and 1; nothing else has a reason to.
        let allowed = if range == Self::Signed { values.len() / 2 } else { 0 };
        ensure!(
            outside <= allowed,
            "its array `{RANGE}` says {range}, but {outside} of its {} values lie outside: correct it, or store u8 pixels",
            values.len()
        );
        Ok(range)
    }

    /// Half a grey level.
    fn slack(self) -> f32 {
        let [black, white] = self.ends();
        (white - black) / 510.0
    }

    /// The grey level of a value. From -1 to 1 as EDM has it: clip(127.5 x + 128, 0, 255), truncated.
    pub fn pixel(self, value: f32) -> u8 {
        let level = match self {
            Self::Signed => value * 127.5 + 128.0,
            Self::Unit => value * 255.0 + 0.5,
            Self::Bytes => value + 0.5,
        };
        level.clamp(0.0, 255.0) as u8
    }
}

impl fmt::Display for FloatRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [black, white] = self.ends();
        write!(f, "{black} to {white}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(values: &[f32]) -> std::result::Result<FloatRange, String> {
        FloatRange::of(values, None).map_err(|error| error.to_string())
    }

    fn stated(values: &[f32], range: [f32; 2]) -> std::result::Result<FloatRange, String> {
        let array = TensorData::from_f32(&[2], &range).unwrap();
        FloatRange::of(values, Some(&array)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_grey_level_comes_back() {
        for level in 0..=255u8 {
            let value = f32::from(level);
            assert_eq!(FloatRange::Signed.pixel(value / 127.5 - 1.0), level);
            assert_eq!(FloatRange::Unit.pixel(value / 255.0), level);
            assert_eq!(FloatRange::Bytes.pixel(value), level);
        }
    }

    #[test]
    fn values_that_leave_no_doubt_tell_the_range() {
        assert_eq!(told(&[-1.0, 0.3, 1.0]), Ok(FloatRange::Signed));
        assert_eq!(told(&[-1.0035, 0.4]), Ok(FloatRange::Signed));
        assert_eq!(told(&[0.0, 0.7, 1.0]), Ok(FloatRange::Unit));
        assert_eq!(told(&[0.0, 1.0, 1.0]), Ok(FloatRange::Unit));
        assert_eq!(told(&[0.0, 17.5, 255.0]), Ok(FloatRange::Bytes));
        assert_eq!(told(&[0.0, 2.0, 3.0]), Ok(FloatRange::Bytes));
    }

    #[test]
    fn the_others_are_asked_for_or_refused() {
        for (values, parts) in [
            (&[0.0, 0.0][..], ["from 0 to 0", "-1 to 1 or 0 to 1 or 0 to 255"]),
            (&[0.4, 0.9], ["from 0.4 to 0.9", "-1 to 1 or 0 to 1"]),
            (&[0.0, 1.3, 7.5], ["from 0 to 7.5", "could be 0 to 255"]),
            (&[-0.05, 1.0], ["from -0.05 to 1", "could be -1 to 1"]),
            (&[-1.2, 1.0], ["from -1.2 to 1", "is none of"]),
            (&[-1.0, 255.0], ["from -1 to 255", "is none of"]),
            (&[0.0, 65535.0], ["from 0 to 65535", "is none of"]),
        ] {
            let error = told(values).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)) && error.contains("`range`"), "{values:?}: {error}");
        }
    }

    #[test]
    fn what_the_file_says_is_taken_where_it_can_be_true() {
        assert_eq!(stated(&[0.2, 0.3], [-1.0, 1.0]), Ok(FloatRange::Signed));
        // what a sampler overshoots
        assert_eq!(stated(&[-1.7, 0.3, 0.9], [-1.0, 1.0]), Ok(FloatRange::Signed));
        assert_eq!(stated(&[0.0, 0.1], [0.0, 255.0]), Ok(FloatRange::Bytes));
        assert!(stated(&[0.0, 1.3], [0.0, 1.0]).unwrap_err().contains("1 of its 2 values lie outside"));
        assert!(stated(&[0.0, 200.0, 255.0], [-1.0, 1.0]).unwrap_err().contains("2 of its 3 values"));
        assert!(stated(&[0.0], [0.0, 2.0]).unwrap_err().contains("[-1, 1], [0, 1] or [0, 255] is needed"));
    }
}
