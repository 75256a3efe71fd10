//! The bytes of a pickle and the place in them; nothing is read that is not there.

use super::error::{PickleError, PickleErrorKind as Kind};

pub(super) struct Source<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Start of the opcode at work, for error messages.
    pub opcode_at: usize,
}

type Result<T> = std::result::Result<T, PickleError>;

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Source { bytes, at: 0, opcode_at: 0 }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn error(&self, kind: Kind) -> PickleError {
        PickleError { offset: self.opcode_at, kind }
    }

    pub fn opcode(&mut self) -> Result<u8> {
        self.opcode_at = self.at;
        self.u8()
    }

    /// The next `len` bytes; checks the declared length against what is there.
    pub fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        match taken {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(self.error(Kind::Truncated { needed: len, available: rest.len() as u64 })),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| self.error(Kind::Malformed("a number is cut off")))
    }

    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// BINFLOAT is the one big-endian number of the format.
    pub fn f64_be(&mut self) -> Result<f64> {
        self.array().map(f64::from_be_bytes)
    }

    /// A 32-bit length that the format stores signed.
    pub fn length_i32(&mut self) -> Result<u64> {
        let len = self.i32()?;
        u64::try_from(len).map_err(|_| self.error(Kind::Malformed("a length is negative")))
    }

    /// A line of protocol 0, without its newline.
    pub fn line(&mut self) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.iter().position(|&b| b == b'\n') {
            Some(end) => {
                let line = self.take(end as u64)?;
                self.at += 1;
                Ok(line)
            }
            None => Err(self.error(Kind::Truncated { needed: 1, available: 0 })),
        }
    }

    pub fn line_str(&mut self) -> Result<&'a str> {
        let line = self.line()?;
        self.utf8(line)
    }

    pub fn utf8(&self, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| self.error(Kind::Malformed("a text is not UTF-8")))
    }
}
