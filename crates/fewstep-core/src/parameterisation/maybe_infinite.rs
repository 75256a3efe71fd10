//! JSON has no infinity: written as the string `"inf"`, read from that or a number.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_infinite() && *value > 0.0 { serializer.serialize_str("inf") } else { serializer.serialize_f64(*value) }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Number(f64),
    Text(String),
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Form::deserialize(deserializer)? {
        Form::Number(value) => Ok(value),
        Form::Text(text) if text == "inf" => Ok(f64::INFINITY),
        Form::Text(text) => Err(D::Error::custom(format!("expected a number or \"inf\", found \"{text}\""))),
    }
}
