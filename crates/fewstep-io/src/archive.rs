//! Zip archives from outside: large ones open fast, and none gets more memory than its bytes justify.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zip::ZipArchive;
use zip::result::{ZipError, ZipResult};

/// Bytes that are fetched at once.
const SIZE: usize = 1 << 16;
/// The record that says how many members an archive has (the end of a zip64 central directory): its mark, where the number stands in it, and
/// the fewest bytes that a member takes.
const RECORD: &[u8; 4] = b"PK\x06\x06";
const NUMBER: std::ops::Range<usize> = 32..40;
const MEMBER: u64 = 46;

/// Opens an archive.
///
/// # Errors
/// If it is none, or damaged, or declares more members than it has room for.
pub(crate) fn open<R: Read + Seek>(source: R) -> ZipResult<ZipArchive<Buffered<R>>> {
    let opening = Arc::new(AtomicBool::new(true));
    let archive = ZipArchive::new(Buffered::new(source, Arc::clone(&opening))?)?;
    opening.store(false, Ordering::Relaxed);
    Ok(archive)
}

/// What is wrong with an archive: the crate's own words for an error of the file beneath say nothing.
pub(crate) fn reason(error: &ZipError) -> String {
    match error {
        ZipError::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// A buffered file that knows its position and seeks within its buffer, without a system call: the reader of archives asks for both
/// several times a member, and [`io::BufReader`] asks the system.
#[derive(Debug)]
pub(crate) struct Buffered<R> {
    source: R,
    len: u64,
    /// Where the next byte is read.
    position: u64,
    /// The bytes from `start` on.
    buffer: Vec<u8>,
    start: u64,
    /// Whether the archive is being opened: then it is searched from its end, and what it declares is checked, as the reader
    /// allocates by it.
    opening: Arc<AtomicBool>,
}

impl<R: Read + Seek> Buffered<R> {
    fn new(mut source: R, opening: Arc<AtomicBool>) -> io::Result<Self> {
        let len = source.seek(SeekFrom::End(0))?;
        Ok(Self { source, len, position: 0, buffer: Vec::new(), start: 0, opening })
    }

    /// The buffered bytes from the position on.
    fn ahead(&self) -> &[u8] {
        let skipped = self.position.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.buffer.get(skipped..)).unwrap_or_default()
    }

    fn fill(&mut self) -> io::Result<()> {
        let opening = self.opening.load(Ordering::Relaxed);
        let backwards = opening && self.position < self.start;
        // a search backwards goes on before the position, in smaller steps
        self.start = if backwards { self.position.saturating_sub(SIZE as u64 * 15 / 16) } else { self.position };
        self.buffer.clear();
        self.source.seek(SeekFrom::Start(self.start))?;
        // a record that begins in the buffer is seen to its number
        let most = SIZE + if opening { NUMBER.end } else { 0 };
        Read::by_ref(&mut self.source).take(most as u64).read_to_end(&mut self.buffer)?;
        if opening {
            self.check()?;
            self.buffer.truncate(SIZE);
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        for at in self.buffer.windows(RECORD.len()).enumerate().filter(|(_, bytes)| bytes == RECORD).map(|(at, _)| at) {
            let number = self.buffer.get(at + NUMBER.start..at + NUMBER.end).and_then(|bytes| bytes.try_into().ok());
            let members = number.map_or(0, u64::from_le_bytes);
            if members > self.len / MEMBER {
                let reason = format!("it declares {members} members, more than its {} bytes hold", self.len);
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        Ok(())
    }
}

impl<R: Read + Seek> Read for Buffered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ahead().is_empty() {
            if out.len() >= SIZE && !self.opening.load(Ordering::Relaxed) {
                self.source.seek(SeekFrom::Start(self.position))?;
                let count = self.source.read(out)?;
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

impl<R> Seek for Buffered<R> {
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
        let opening = Arc::new(AtomicBool::new(false));
        let mut buffered = Buffered::new(file, Arc::clone(&opening)).unwrap();
        let mut state = 1u64;
        let mut draw = |count: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % count
        };
        for round in 0..4000 {
            opening.store(round < 2000, Ordering::Relaxed);
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

    /// An archive of one member, with the records of a zip64 archive after it that declare so many.
    fn declaring(members: u64) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        archive.start_file("a", zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(b"text").unwrap();
        let mut bytes = archive.finish().unwrap().into_inner();
        let end = bytes.split_off(bytes.len() - 22);
        let (start, at) = (u32::from_le_bytes(end[16..20].try_into().unwrap()), bytes.len() as u64);
        bytes.extend([&RECORD[..], &44u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8]].concat());
        bytes.extend(
            [members, members, u64::from(u32::from_le_bytes(end[12..16].try_into().unwrap())), 0]
                .map(u64::to_le_bytes)
                .concat(),
        );
        let length = bytes.len();
        bytes[length - 8..].copy_from_slice(&u64::from(start).max(if members > 1 { 1 << 40 } else { 0 }).to_le_bytes());
        bytes.extend([&b"PK\x06\x07"[..], &[0; 4], &at.to_le_bytes(), &[1, 0, 0, 0]].concat());
        bytes.extend([&end[..8], &[0xff; 12], &end[20..]].concat());
        bytes
    }

    #[test]
    fn what_an_archive_declares_is_not_believed() {
        let mut one = open(io::Cursor::new(declaring(1))).unwrap();
        let mut text = String::new();
        one.by_index(0).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((one.len(), text.as_str()), (1, "text"));
        // a terabyte of memory, if the reader of archives were asked
        let error = reason(&open(io::Cursor::new(declaring(1 << 33))).unwrap_err());
        assert!(error.contains("it declares 8589934592 members, more than its "), "{error}");
        // wherever the record lies to the buffer
        for before in (SIZE - 200..SIZE + 200).step_by(7) {
            let bytes = [declaring(1 << 33), vec![0; before]].concat();
            assert!(open(io::Cursor::new(bytes)).is_err());
        }
    }
}
