//! Logs of a run folder, a line of JSON each: read in little memory, whatever their length.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use serde::de::DeserializeOwned;

use super::RunFolder;
use crate::{Error, Result};

/// Longest line that a run writes, far above all that it does.
const MOST_LINE: u64 = 64 << 10;

impl RunFolder {
    /// Hands every line of a log that is a `T` to `each`, from the first on. A last line that a kill cut off is none, nor is
    /// one longer than any that a run writes. A log that is not there has no lines; of one that grows, those are read that
    /// were there at the start.
    ///
    /// # Errors
    /// As [`RunFolder::inside`], but for its length, and if it cannot be read.
    pub fn each_line<T: DeserializeOwned>(&self, name: &str, mut each: impl FnMut(T)) -> Result<()> {
        let Some((file, length)) = self.log(name)? else { return Ok(()) };
        let failed = |e| Error::read(&self.file(name), e);
        let mut left = BufReader::new(file.take(length));
        let mut line = Vec::new();
        loop {
            line.clear();
            let found = left.by_ref().take(MOST_LINE).read_until(b'\n', &mut line).map_err(failed)?;
            if found == 0 {
                return Ok(());
            }
            if found as u64 == MOST_LINE && line.last() != Some(&b'\n') {
                left.skip_until(b'\n').map_err(failed)?;
            } else if let Ok(value) = serde_json::from_slice(&line) {
                each(value);
            }
        }
    }

    /// The last line of a log that is a `T`, as [`RunFolder::each_line`] would find it; none where its end holds no such line.
    ///
    /// # Errors
    /// As [`RunFolder::each_line`].
    pub fn last_line<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some((mut file, length)) = self.log(name)? else { return Ok(None) };
        let failed = |e| Error::read(&self.file(name), e);
        let end = length.min(4 * MOST_LINE);
        file.seek(SeekFrom::Start(length - end)).map_err(failed)?;
        let mut text = Vec::new();
        file.take(end).read_to_end(&mut text).map_err(failed)?;
        let mut lines = text.rsplit(|&byte| byte == b'\n').filter(|line| (line.len() as u64) < MOST_LINE);
        Ok(lines.find_map(|line| serde_json::from_slice(line).ok()))
    }

    /// A log and its length now, if it is there.
    fn log(&self, name: &str) -> Result<Option<(File, u64)>> {
        let (path, length) = match self.regular(name.as_ref()) {
            Err(Error::Missing { .. }) => return Ok(None),
            found => found?,
        };
        Ok(Some((File::open(&path).map_err(|e| Error::read(&path, e))?, length)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;
    use crate::run_folder::MOST_BYTES;

    const LOG: &str = "stats.jsonl";

    fn all(run: &RunFolder) -> Vec<u64> {
        let mut found = Vec::new();
        run.each_line(LOG, |line: u64| found.push(line)).unwrap();
        found
    }

    #[test]
    fn what_is_no_line_of_a_log_is_left_out() {
        let base = tempfile::tempdir().unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        assert_eq!((all(&run), run.last_line::<u64>(LOG).unwrap()), (vec![], None));
        // neither is UTF-8 that is none, and a last line may lack its end
        for (text, lines) in [(&b""[..], &[][..]), (b"1\n\n\xff\n2\n{\"a\"", &[1, 2]), (b"7\n8", &[7, 8])] {
            std::fs::write(run.file(LOG), text).unwrap();
            assert_eq!((all(&run), run.last_line(LOG).unwrap()), (lines.to_vec(), lines.last().copied()));
        }
        std::fs::remove_file(run.file(LOG)).unwrap();
        std::fs::create_dir(run.file(LOG)).unwrap();
        let errors = [run.each_line(LOG, |_: u64| ()).unwrap_err(), run.last_line::<u64>(LOG).unwrap_err()];
        assert!(errors.iter().all(|error| error.to_string().contains("no regular file")), "{errors:?}");
    }

    /// Longer than what is read whole, most of it one line of zeros.
    #[test]
    fn a_log_of_any_length_is_read() {
        let base = tempfile::tempdir().unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        std::fs::write(run.file(LOG), b"1\n2\n").unwrap();
        let mut log = OpenOptions::new().append(true).open(run.file(LOG)).unwrap();
        log.set_len(MOST_BYTES + 1).unwrap();
        log.write_all(b"\n3\n4\n").unwrap();
        assert!(run.read(LOG).is_err());
        assert_eq!((all(&run), run.last_line(LOG).unwrap()), (vec![1, 2, 3, 4], Some(4)));
    }

    #[test]
    fn a_line_is_one_up_to_the_longest() {
        let base = tempfile::tempdir().unwrap();
        let run = RunFolder::create(base.path()).unwrap();
        for (length, lines) in [(MOST_LINE - 2, 2), (MOST_LINE - 1, 2), (MOST_LINE, 1), (3 * MOST_LINE, 1)] {
            let text = [" ".repeat(length as usize - 1).as_bytes(), b"1\n2\n"].concat();
            std::fs::write(run.file(LOG), text).unwrap();
            assert_eq!(all(&run).len(), lines, "{length}");
        }
    }
}
