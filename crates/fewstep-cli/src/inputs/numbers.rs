//! Lists of numbers as users type them: `0-63`, `5,8`, `0-3,10`.

use anyhow::{Context, Result, bail, ensure};
use fewstep::forecast::MOST_COUNTED;

/// A list without repeats: seeds of images, numbers of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub Vec<u64>);

impl std::str::FromStr for Numbers {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = parse_list(text)?;
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("{} is there twice", pair[0]);
        }
        Ok(Self(numbers))
    }
}

impl Numbers {
    /// As numbers of steps.
    pub fn counts(&self) -> Vec<usize> {
        self.0.iter().map(|&number| number as usize).collect()
    }
}

/// Parses a comma-separated list of numbers and inclusive ranges.
pub fn parse_list(text: &str) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let number = |text: &str| {
            text.trim().parse::<u64>().with_context(|| format!("'{part}' is no number or range such as 0-63"))
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        ensure!(first <= last, "the range {part} runs backwards");
        ensure!(last - first < MOST_COUNTED, "the range {part} has more than {MOST_COUNTED} numbers");
        numbers.extend(first..=last);
        ensure!(numbers.len() as u64 <= MOST_COUNTED, "the list names more than {MOST_COUNTED} numbers");
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        assert_eq!(parse_list("0-3,10").unwrap(), [0, 1, 2, 3, 10]);
        for bad in ["", "a", "3-1", "1-", "0-99999999999", "1,,2"] {
            assert!(parse_list(bad).is_err(), "{bad}");
        }
        assert!("5,0-7".parse::<Numbers>().unwrap_err().to_string().contains("5 is there twice"));
    }
}
