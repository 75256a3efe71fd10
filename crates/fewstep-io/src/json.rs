//! JSON that people hand in, in any encoding that Python's `json.loads` takes: UTF-8, UTF-16 and UTF-32, with a byte order mark or
//! without. (Editors on Windows write a mark, its shell UTF-16.)

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

const FORMAT: &str = "JSON file";

/// The text of a JSON document, or why it is none.
pub(crate) fn text(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    // RFC 4627, section 3: a document starts with two ASCII characters, so its zero bytes tell the encoding.
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        [0xff, 0xfe, 0, 0, rest @ ..] => utf32(rest, u32::from_le_bytes),
        [0, 0, 0xfe, 0xff, rest @ ..] => utf32(rest, u32::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0, 0, 0, _, ..] => utf32(bytes, u32::from_be_bytes),
        [_, 0, 0, 0, ..] => utf32(bytes, u32::from_le_bytes),
        [0, _, ..] => utf16(bytes, u16::from_be_bytes),
        [_, 0, ..] => utf16(bytes, u16::from_le_bytes),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let text = std::str::from_utf8(bytes);
    text.map(Cow::Borrowed).map_err(|error| format!("it is no text: byte {} is not UTF-8", error.valid_up_to()))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'static, str>, String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let text = String::from_utf16(&units.iter().map(|bytes| unit(*bytes)).collect::<Vec<_>>());
    text.ok().filter(|_| rest.is_empty()).map(Cow::Owned).ok_or_else(|| "it is damaged UTF-16".to_owned())
}

fn utf32(bytes: &[u8], unit: fn([u8; 4]) -> u32) -> Result<Cow<'static, str>, String> {
    let (units, rest) = bytes.as_chunks::<4>();
    let text = units.iter().map(|bytes| char::from_u32(unit(*bytes))).collect::<Option<String>>();
    text.filter(|_| rest.is_empty()).map(Cow::Owned).ok_or_else(|| "it is damaged UTF-32".to_owned())
}

/// A value from the bytes of a document, or why it is no JSON, or not what `T` needs.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_str(&text(bytes)?).map_err(|error| error.to_string())
}

/// The text of a file.
///
/// # Errors
/// If it cannot be read or is no text.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|error| Error::read(path, error))?;
    let text = text(&bytes).map_err(|reason| Error::format(FORMAT, path.display().to_string(), reason))?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_encoding_reads_the_same() {
        let text = r#"{"labels": [["ä/画.png", 1]]}"#;
        let expected = json!({"labels": [["ä/画.png", 1]]});
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let utf32: Vec<u32> = text.chars().map(u32::from).collect();
        let with_mark = |mark: &[u8], bytes: Vec<u8>| [[mark, &bytes].concat(), bytes];
        for bytes in [
            with_mark(&[0xef, 0xbb, 0xbf], text.as_bytes().to_vec()),
            with_mark(&[0xff, 0xfe], utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect()),
            with_mark(&[0xfe, 0xff], utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect()),
            with_mark(&[0xff, 0xfe, 0, 0], utf32.iter().flat_map(|unit| unit.to_le_bytes()).collect()),
            with_mark(&[0, 0, 0xfe, 0xff], utf32.iter().flat_map(|unit| unit.to_be_bytes()).collect()),
        ]
        .into_iter()
        .flatten()
        {
            assert_eq!(parse::<Value>(&bytes), Ok(expected.clone()), "{:x?}", &bytes[..6]);
        }
        assert_eq!(parse::<u8>(b"7"), Ok(7));
    }

    #[test]
    fn what_is_no_text_says_so() {
        assert!(parse::<Value>(b"{\"a\": \"\xff\"}").unwrap_err().contains("byte 7 is not UTF-8"));
        assert!(parse::<Value>(b"\xff\xfe{").unwrap_err().contains("UTF-16"));
        assert!(parse::<Value>(b"\xff\xfe\0\0\xff\xff\xff\xff").unwrap_err().contains("UTF-32"));
        assert!(parse::<Value>(b"").unwrap_err().contains("EOF"));
    }
}
