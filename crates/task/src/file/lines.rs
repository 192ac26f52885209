//! Lines of a file, each of bounded length: a file without line feeds must not fill the memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use crate::text::Flaw;

/// The longest line that is read: twice what the longest example takes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Reads a file line by line.
pub(super) struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
    max_bytes: u64,
}

impl Lines {
    pub(super) fn new(file: File) -> Self {
        Self { file: BufReader::new(file), line: Vec::new(), max_bytes: MAX_LINE_BYTES }
    }

    /// The next line without its end, or `None` after the last one.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Result<&str, Flaw>>> {
        self.line.clear();
        let n_read = (&mut self.file).take(self.max_bytes + 2).read_until(b'\n', &mut self.line)?;
        if n_read == 0 {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() as u64 > self.max_bytes {
            return Ok(Some(Err(Flaw::TooLong { max_bytes: self.max_bytes })));
        }
        Ok(Some(match std::str::from_utf8(line) {
            Ok("") => Err(Flaw::Empty),
            Ok(line) => Ok(line),
            Err(_) => Err(Flaw::NotUtf8),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The lines of a file with at most 8 bytes a line, up to the first flaw.
    #[track_caller]
    fn check(content: &[u8], expected: &[Result<&str, Flaw>]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut lines = Lines { max_bytes: 8, ..Lines::new(file) };
        for expected in expected {
            let got = lines.next_line().unwrap().expect("a line");
            assert_eq!(&got, expected);
        }
        if expected.iter().all(Result::is_ok) {
            assert_eq!(lines.next_line().unwrap(), None);
        }
    }

    #[test]
    fn lines_end_as_on_any_system_and_are_bounded() {
        check(b"", &[]);
        check(b"a\nb", &[Ok("a"), Ok("b")]);
        check(b"a\r\nb\r\n", &[Ok("a"), Ok("b")]);
        check(b"a\n\nb\n", &[Ok("a"), Err(Flaw::Empty)]);
        check(b"12345678\n", &[Ok("12345678")]);
        check(b"12345678\r\n", &[Ok("12345678")]);
        check(b"123456789\n", &[Err(Flaw::TooLong { max_bytes: 8 })]);
        check(&[b'x'; 100], &[Err(Flaw::TooLong { max_bytes: 8 })]);
        check(b"a\n\xff\n", &[Ok("a"), Err(Flaw::NotUtf8)]);
    }
}
