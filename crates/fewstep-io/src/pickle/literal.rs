//! Numbers and text, as all protocols spell them.

use super::error::PickleErrorKind as Kind;
use super::graph::Object;
use super::machine::{Machine, Result};
use super::opcode as op;

impl<'a> Machine<'a> {
    pub(super) fn number(&mut self, code: u8) -> Result<Option<Object<'a>>> {
        let source = &mut self.source;
        Ok(Some(match code {
            op::BININT => Object::Int(source.i32()?.into()),
            op::BININT1 => Object::Int(source.u8()?.into()),
            op::BININT2 => Object::Int(source.u16()?.into()),
            op::BINFLOAT => Object::Float(source.f64_be()?),
            op::LONG1 => {
                let len = source.u8()?;
                integer(source.take(len.into())?)
            }
            op::LONG4 => {
                let len = source.length_i32()?;
                integer(source.take(len)?)
            }
            op::FLOAT => Object::Float(self.parse_line("a float does not parse")?),
            op::INT => return self.int_line().map(Some),
            op::LONG => {
                let line = source.line_str()?;
                let digits = line.trim().trim_end_matches('L');
                Object::Int(digits.parse().map_err(|_| self.error(Kind::Malformed("an integer does not parse")))?)
            }
            _ => return Ok(None),
        }))
    }

    /// INT doubles as the boolean of protocols 0 and 1.
    fn int_line(&mut self) -> Result<Object<'a>> {
        let line = self.source.line_str()?;
        match line {
            "00" => Ok(Object::Bool(false)),
            "01" => Ok(Object::Bool(true)),
            _ => {
                let value = line.trim().parse();
                value.map(Object::Int).map_err(|_| self.error(Kind::Malformed("an integer does not parse")))
            }
        }
    }

    pub(super) fn parse_line<T: std::str::FromStr>(&mut self, message: &'static str) -> Result<T> {
        let line = self.source.line_str()?;
        line.trim().parse().map_err(|_| self.error(Kind::Malformed(message)))
    }

    pub(super) fn text(&mut self, code: u8) -> Result<Option<Object<'a>>> {
        let source = &mut self.source;
        let len = match code {
            op::SHORT_BINSTRING | op::SHORT_BINBYTES | op::SHORT_BINUNICODE => source.u8()?.into(),
            op::BINSTRING => source.length_i32()?,
            op::BINBYTES | op::BINUNICODE => source.u32()?.into(),
            op::BINBYTES8 | op::BINUNICODE8 | op::BYTEARRAY8 => source.u64()?,
            op::STRING => {
                let line = source.line()?;
                let decoded = unquote(line).ok_or_else(|| self.error(Kind::Malformed("a string is not quoted")))?;
                return Ok(Some(Object::Bytes(decoded.into())));
            }
            op::UNICODE => {
                let line = source.line()?;
                let text = raw_unicode_escape(line);
                let text = text.ok_or_else(|| self.error(Kind::Malformed("a text has a wrong escape")))?;
                return Ok(Some(Object::Str(text.into())));
            }
            _ => return Ok(None),
        };
        let bytes = source.take(len)?;
        Ok(Some(match code {
            op::SHORT_BINUNICODE | op::BINUNICODE | op::BINUNICODE8 => Object::Str(source.utf8(bytes)?.into()),
            _ => Object::Bytes(bytes.into()),
        }))
    }
}

/// Two's complement, little-endian, of any length.
fn integer(bytes: &[u8]) -> Object<'_> {
    if bytes.len() > 8 {
        return Object::BigInt(bytes);
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut padded = [if negative { 0xff } else { 0 }; 8];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    Object::Int(i64::from_le_bytes(padded))
}

/// The inside of a quoted Python 2 string literal, escapes resolved.
fn unquote(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let quote = *line.first()?;
    if line.len() < 2 || !matches!(quote, b'\'' | b'"') || line.last() != Some(&quote) {
        return None;
    }
    let mut out = Vec::with_capacity(line.len());
    let mut bytes = line.get(1..line.len() - 1)?.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return None,
        });
    }
    Some(out)
}

/// Python's raw-unicode-escape: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
fn raw_unicode_escape(line: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let width = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                out.push(char::from(byte));
                rest = after;
                continue;
            }
        };
        let digits = std::str::from_utf8(after.get(1..=width)?).ok()?;
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after.get(width + 1..)?;
    }
    Some(out)
}
