//! Numbers of samplers that diverge, which are none: infinite here, and `null` in JSON, which has no such number.

use serde::{Deserialize, Deserializer};

/// The error, or infinity where it is no number: so that it is told apart from every other, and never the least.
pub fn or_infinite(error: f64) -> f64 {
    if error.is_finite() { error } else { f64::INFINITY }
}

/// Reads an error, for `#[serde(deserialize_with)]`. (It is written as any number: what is not finite as `null`.)
pub fn error<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// Reads an error that not all have, for the same with `default` and `skip_serializing_if = "Option::is_none"`: none is absent, and so told
/// apart from `null`, which is infinite.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    error(deserializer).map(Some)
}

/// Reads one value after the other, for the same.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let read = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|value| value.unwrap_or(f64::INFINITY)).collect())
}

/// Reads errors after so many updates, for the same.
pub fn history<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(u64, f64)>, D::Error> {
    let read = Vec::<(u64, Option<f64>)>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|(updates, error)| (updates, error.unwrap_or(f64::INFINITY))).collect())
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Errors {
        #[serde(deserialize_with = "super::error")]
        last: f64,
        #[serde(deserialize_with = "super::history")]
        all: Vec<(u64, f64)>,
    }

    #[test]
    fn what_is_written_is_read_back() {
        for last in [0.1, f64::INFINITY] {
            let errors = Errors { last, all: vec![(0, 0.3), (7, last)] };
            let text = serde_json::to_string(&errors).unwrap();
            assert_eq!(text.contains("null"), last.is_infinite(), "{text}");
            assert_eq!(serde_json::from_str::<Errors>(&text).unwrap(), errors);
        }
        assert!(serde_json::from_str::<Errors>(r#"{ "all": [] }"#).is_err(), "an error that lacks is none");
        assert_eq!([f64::NAN, -f64::NAN, f64::NEG_INFINITY].map(super::or_infinite), [f64::INFINITY; 3]);
    }
}
