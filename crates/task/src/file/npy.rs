//! Arrays as NumPy saves them: `np.load(path)` gives `uint16 [n_examples, seq_len]`.
//!
//! ```text
//! \x93NUMPY  1  0  len  {'descr': '<u2', 'fortran_order': False, 'shape': (n, T), }  ...tokens
//! ```
//!
//! Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays". We read
//! versions 1 to 3 of it, with whole numbers of any width; tokens saved by others are often
//! `int64`.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::write::Batch;
use crate::error::{Cause, Error};
use crate::text::Flaw;
use crate::token::{FIRST_SYMBOL, MAX_SEQ_LEN, Token};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest header that is read; NumPy's own take about a hundred bytes.
const MAX_HEADER_BYTES: u32 = 1 << 16;

/// Writes magic, version and the dictionary, padded so that the tokens begin at a multiple of 64.
pub(super) fn write_header(
    out: &mut impl Write,
    n_examples: u64,
    seq_len: usize,
) -> io::Result<()> {
    let mut header =
        format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({n_examples}, {seq_len}), }}");
    let n_before = MAGIC.len() + 4;
    while !(n_before + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let header_len = u16::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&header_len.to_le_bytes())?;
    out.write_all(header.as_bytes())
}

pub(super) fn write(out: &mut impl Write, batch: &Batch) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(2 * batch.tokens.len());
    for token in &batch.tokens {
        bytes.extend_from_slice(&token.to_le_bytes());
    }
    out.write_all(&bytes)
}

/// A file of tokens, read row by row.
pub(super) struct Reader {
    file: BufReader<File>,
    shape: Shape,
    n_read: u64,
    row: Vec<u8>,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    n_bytes_each: usize,
    n_examples: u64,
    seq_len: usize,
}

impl Reader {
    /// Reads the header and compares it with the size of the file.
    pub(super) fn open(file: File, path: &Path) -> Result<Self, Error> {
        let n_bytes = file.metadata().map_err(|error| Cause::read(path, error))?.len();
        let mut file = BufReader::new(file);
        let (header, n_before) = read_header(&mut file, path)?;
        let shape = parse_header(&header).map_err(|what| Cause::layout(path, what))?;
        let Shape { n_bytes_each, n_examples, seq_len } = shape;
        let promised = (n_bytes_each as u64)
            .checked_mul(seq_len as u64)
            .and_then(|row| row.checked_mul(n_examples))
            .and_then(|data| data.checked_add(n_before));
        if promised != Some(n_bytes) {
            let promised = promised.map_or("more than 2^64".to_owned(), |n| n.to_string());
            let what = format!(
                "it has {n_bytes} bytes, but its header promises {promised} for {n_examples} \
                 examples of {seq_len} tokens; copy it again"
            );
            return Err(Cause::layout(path, what).into());
        }
        Ok(Self { file, shape, n_read: 0, row: vec![0; n_bytes_each * seq_len] })
    }

    /// The next example into `tokens`; `false` after the last one.
    pub(super) fn next_row(
        &mut self,
        n_symbols: u32,
        tokens: &mut Vec<Token>,
    ) -> io::Result<Option<Result<(), Flaw>>> {
        if self.n_read == self.shape.n_examples {
            return Ok(None);
        }
        self.file.read_exact(&mut self.row)?;
        self.n_read += 1;
        tokens.clear();
        for (pos, bytes) in self.row.chunks_exact(self.shape.n_bytes_each).enumerate() {
            let mut wide = [0; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            let token = u64::from_le_bytes(wide);
            if !belongs(pos, token, n_symbols) {
                return Ok(Some(Err(Flaw::Token { pos, token, n_symbols })));
            }
            tokens.push(token as Token);
        }
        let n_tokens = tokens.len();
        let odd = n_tokens % 2 == 1;
        Ok(Some(if odd { Err(Flaw::Odd { n_tokens }) } else { Ok(()) }))
    }
}

/// Whether the token is an instruction at an even pos, or a symbol at an odd one.
fn belongs(pos: usize, token: u64, n_symbols: u32) -> bool {
    let first_symbol = u64::from(FIRST_SYMBOL);
    if pos.is_multiple_of(2) {
        token < first_symbol
    } else {
        (first_symbol..first_symbol + u64::from(n_symbols)).contains(&token)
    }
}

/// The dictionary, and the number of bytes before the tokens.
fn read_header(file: &mut impl Read, path: &Path) -> Result<(String, u64), Error> {
    let short = |error: io::Error| -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Cause::layout(path, "it ends inside the header of a .npy file; copy it again").into()
        } else {
            Cause::read(path, error).into()
        }
    };
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(short)?;
    if start[..6] != MAGIC[..] {
        return Err(Cause::layout(path, "it is no .npy file: it begins with other bytes").into());
    }
    let major = start[6];
    let (header_len, n_before) = match major {
        1 => {
            let mut len = [0; 2];
            file.read_exact(&mut len).map_err(short)?;
            (u32::from(u16::from_le_bytes(len)), 10)
        }
        2 | 3 => {
            let mut len = [0; 4];
            file.read_exact(&mut len).map_err(short)?;
            (u32::from_le_bytes(len), 12)
        }
        _ => {
            let what = format!("its .npy format is {major}, this release reads 1 to 3");
            return Err(Cause::layout(path, what).into());
        }
    };
    if header_len > MAX_HEADER_BYTES {
        let what =
            format!("its .npy header has {header_len} bytes, at most {MAX_HEADER_BYTES} are read");
        return Err(Cause::layout(path, what).into());
    }
    let mut header = vec![0; header_len as usize];
    file.read_exact(&mut header).map_err(short)?;
    let header = String::from_utf8(header)
        .map_err(|error| Cause::layout(path, format!("its .npy header is damaged: {error}")))?;
    Ok((header, n_before + u64::from(header_len)))
}

/// Reads the dictionary, which is written as Python writes it.
fn parse_header(header: &str) -> Result<Shape, String> {
    let damaged =
        |key: &str| format!("its .npy header is damaged: no `{key}` in {:?}", header.trim());
    let value = |key: &str| {
        let after = header.split_once(&format!("'{key}':"))?.1;
        Some(after.trim_start())
    };
    let descr = value("descr")
        .and_then(|text| text.strip_prefix('\'')?.split_once('\''))
        .ok_or_else(|| damaged("descr"))?
        .0;
    let n_bytes_each = match descr {
        "|u1" | "|i1" => 1,
        "<u2" | "<i2" => 2,
        "<u4" | "<i4" => 4,
        "<u8" | "<i8" => 8,
        _ => {
            return Err(format!(
                "its numbers are `{descr}`, but tokens are whole little-endian numbers; \
                 save it as uint16"
            ));
        }
    };
    if !value("fortran_order").ok_or_else(|| damaged("fortran_order"))?.starts_with("False") {
        return Err("its array is in Fortran order; save it with np.ascontiguousarray".to_owned());
    }
    let shape = value("shape")
        .and_then(|text| text.strip_prefix('(')?.split_once(')'))
        .ok_or_else(|| damaged("shape"))?
        .0;
    let sizes: Option<Vec<u64>> = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().ok())
        .collect();
    let [n_examples, seq_len] = sizes.as_deref().unwrap_or_default() else {
        return Err(format!("its shape is ({shape}), but examples are [n_examples, seq_len]"));
    };
    match usize::try_from(*seq_len) {
        Ok(seq_len @ 1..) if seq_len <= MAX_SEQ_LEN as usize => {
            Ok(Shape { n_bytes_each, n_examples: *n_examples, seq_len })
        }
        _ => Err(format!("its examples have {seq_len} tokens; 1 to {MAX_SEQ_LEN} are read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_numpy_writes() {
        // `np.save` of `np.zeros((3, 512), "<u2")`, NumPy 2: magic, version 1.0, length 118.
        let mut bytes = Vec::new();
        write_header(&mut bytes, 3, 512).unwrap();
        assert_eq!(bytes.len(), 128);
        assert_eq!(bytes[..10], *b"\x93NUMPY\x01\x00\x76\x00");
        let dictionary = b"{'descr': '<u2', 'fortran_order': False, 'shape': (3, 512), }";
        assert_eq!(bytes[10..10 + dictionary.len()], *dictionary);
        assert!(bytes[10 + dictionary.len()..127].iter().all(|&byte| byte == b' '));
        assert_eq!(bytes[127], b'\n');
        let (header, n_before) = read_header(&mut &bytes[..], Path::new("a.npy")).unwrap();
        assert_eq!(n_before, 128);
        let expected = Shape { n_bytes_each: 2, n_examples: 3, seq_len: 512 };
        assert_eq!(parse_header(&header), Ok(expected));
    }

    #[test]
    fn headers_of_other_shapes_are_refused_with_the_reason() {
        let check = |header: &str, expected: &str| {
            assert_eq!(parse_header(header).unwrap_err(), expected);
        };
        check("{}", "its .npy header is damaged: no `descr` in \"{}\"");
        check(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }",
            "its numbers are `<f4`, but tokens are whole little-endian numbers; save it as uint16",
        );
        check(
            "{'descr': '<u2', 'fortran_order': True, 'shape': (3, 4), }",
            "its array is in Fortran order; save it with np.ascontiguousarray",
        );
        check(
            "{'descr': '<u2', 'fortran_order': False, 'shape': (12,), }",
            "its shape is (12,), but examples are [n_examples, seq_len]",
        );
        check(
            "{'descr': '<u2', 'fortran_order': False, 'shape': (1, 99999999999), }",
            "its examples have 99999999999 tokens; 1 to 16777216 are read",
        );
        check(
            "{'descr': '<u2', 'fortran_order': False, 'shape': (1, 0), }",
            "its examples have 0 tokens; 1 to 16777216 are read",
        );
        check(
            "{'descr': '<u2', 'fortran_order': False, 'shape': (1, 4",
            "its .npy header is damaged: no `shape` in \
             \"{'descr': '<u2', 'fortran_order': False, 'shape': (1, 4\"",
        );
    }
}
