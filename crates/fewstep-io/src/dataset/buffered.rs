//! A file that is read and sought in small steps.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes that are fetched at once.
const SIZE: usize = 1 << 16;

/// A buffered file that knows its position and seeks within its buffer, without a system call: an archive of a million members asks for
/// both several times a member ([`io::BufReader`] asks the system).
#[derive(Debug)]
pub(super) struct Buffered {
    file: File,
    len: u64,
    /// Where the next byte is read.
    position: u64,
    /// The bytes from `start` on.
    buffer: Vec<u8>,
    start: u64,
}

impl Buffered {
    /// Of a file whose length stays.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len, position: 0, buffer: Vec::new(), start: 0 })
    }

    /// The buffered bytes from the position on.
    fn ahead(&self) -> &[u8] {
        let skipped = self.position.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.buffer.get(skipped..)).unwrap_or_default()
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.start = self.position;
        self.file.seek(SeekFrom::Start(self.position))?;
        Read::by_ref(&mut self.file).take(SIZE as u64).read_to_end(&mut self.buffer)?;
        Ok(())
    }
}

impl Read for Buffered {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ahead().is_empty() {
            if out.len() >= SIZE {
                self.file.seek(SeekFrom::Start(self.position))?;
                let count = self.file.read(out)?;
                self.position += count as u64;
                return Ok(count);
            }
            self.fill()?;
        }
        let count = self.ahead().read(out)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Buffered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.position = moved.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// As a plain file does, wherever it is sought and however much is read.
    #[test]
    fn it_reads_what_is_there() {
        let bytes: Vec<u8> = (0..200_003u32).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut buffered = Buffered::new(file.try_clone().unwrap()).unwrap();
        let mut state = 1u64;
        let mut draw = |count: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % count
        };
        for _ in 0..2000 {
            let position = match draw(4) {
                0 => buffered.seek(SeekFrom::Start(draw(220_000))).unwrap(),
                1 => buffered.seek(SeekFrom::End(-(draw(1000) as i64))).unwrap(),
                2 => buffered.seek(SeekFrom::Current(draw(3000) as i64 - 1000)).unwrap_or(buffered.position),
                _ => buffered.stream_position().unwrap(),
            };
            let most = if draw(20) == 0 { 100_000 } else { 50 };
            let mut out = vec![0; draw(most) as usize];
            let there = bytes.get(position as usize..).unwrap_or_default();
            let count = there.len().min(out.len());
            match buffered.read_exact(&mut out) {
                Ok(()) => assert_eq!(out, there[..count]),
                Err(_) => assert!(there.len() < out.len()),
            }
        }
        buffered.seek(SeekFrom::Start(0)).unwrap();
        let mut all = Vec::new();
        buffered.read_to_end(&mut all).unwrap();
        assert!(all == bytes);
        assert!(buffered.seek(SeekFrom::Current(-300_000)).is_err());
    }
}
