//! Files: written, read, and refused when damaged.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
use mnemoscope_task::file::{self, Format, Provenance, Source};
use mnemoscope_task::{
    Bigram, Coding, Error, ErrorKind, FlipFlop, Mixture, Part, Task, Token, text,
};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tempfile::TempDir;

fn source(task: Task, n_examples: u64) -> Source {
    Source { task, seed: 7, split: "val".to_owned(), first_index: 3, n_examples }
}

fn paper(p_ignore: f64) -> Task {
    Task::FlipFlop(FlipFlop::paper(p_ignore).unwrap())
}

fn path_in(folder: &TempDir, format: Format) -> PathBuf {
    folder.path().join(format!("val.{format}"))
}

fn read_all(path: &Path, format: Format, n_symbols: u32) -> Result<Vec<Vec<Token>>, Error> {
    file::read(path, format, n_symbols)?.collect()
}

/// The names in a folder, to see that nothing is left behind.
fn names(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// Writes, reads back, and compares tokens, provenance and validation.
#[track_caller]
fn check_round_trip(source: &Source, format: Format) -> Provenance {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, format);
    let written = file::write(&path, format, source).unwrap();
    let got = read_all(&path, format, source.task.n_symbols()).unwrap();
    let stream = source.stream();
    let expected: Vec<Vec<Token>> = (source.first_index..source.first_index + source.n_examples)
        .map(|index| source.task.example(&stream, index))
        .collect();
    assert_eq!(got, expected, "{format}");
    assert_eq!(file::provenance(&path, format).unwrap().as_ref(), Some(&written));
    assert_eq!(written.source(), *source);
    let report = file::validate(&path, format, source.task.n_symbols()).unwrap();
    assert!(report.sound(), "{report:?}");
    assert_eq!(
        (report.n_examples, report.content_blake3),
        (source.n_examples, written.content_blake3.clone())
    );
    let expected = if format == Format::Parquet {
        vec!["val.parquet".to_owned()]
    } else {
        vec![format!("val.{format}"), format!("val.{format}.meta.json")]
    };
    assert_eq!(names(&folder), expected);
    written
}

#[test]
fn every_format_gives_back_what_was_written() {
    let part = |weight, p_ignore| Part { weight, task: FlipFlop::paper(p_ignore).unwrap() };
    let mixture = Task::Mixture(Mixture::new(vec![part(1.0, 0.9), part(1.0, 0.1)]).unwrap());
    let symbols = Task::FlipFlop(FlipFlop::new(30, 0.3, 0.3, 0.4, 256).unwrap());
    // 0 examples, 1, and several batches and row groups of short ones.
    let short = Task::FlipFlop(FlipFlop::new(4, 0.3, 0.3, 0.4, 2).unwrap());
    for source in [
        source(paper(0.8), 0),
        source(paper(0.98), 1),
        source(mixture, 20),
        source(symbols, 50),
        source(short, 20_000),
    ] {
        let contents: Vec<String> = Format::ALL
            .into_iter()
            .map(|format| check_round_trip(&source, format).content_blake3)
            .collect();
        // The same examples have the same checksum in every format.
        assert!(contents.iter().all(|content| *content == contents[0]));
    }
}

#[test]
fn the_content_checksum_is_that_of_the_plain_text_file() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Text);
    let written = file::write(&path, Format::Text, &source(paper(0.8), 9)).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 9 * 513);
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), written.content_blake3);
}

#[test]
fn provenance_says_where_the_examples_came_from() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Jsonl);
    let task = Task::FlipFlop(FlipFlop::new(8, 0.25, 0.25, 0.5, 2).unwrap());
    file::write(&path, Format::Jsonl, &source(task, 2)).unwrap();
    let json = fs::read_to_string(folder.path().join("val.jsonl.meta.json")).unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    insta::assert_snapshot!(json.replace(&version, "\"version\": \"[version]\""));
    insta::assert_snapshot!("jsonl", fs::read_to_string(&path).unwrap());
}

/// Writes one column as others do.
fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>, compression: Compression) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let out = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The public data set's layout: snappy, dictionary on, column `text` as string; newer writers
/// make it large_string or string_view, and there may be other columns.
#[test]
fn the_public_parquet_layout_is_read() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Parquet);
    let texts = ["w1i1w0i0r0r0", "w0i0i1i1i0r0"];
    let expected =
        vec![vec![0, 4, 2, 4, 0, 3, 2, 3, 1, 3, 1, 3], vec![0, 3, 2, 3, 2, 4, 2, 4, 2, 3, 1, 3]];
    let strings = || -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let large = || -> ArrayRef { Arc::new(LargeStringArray::from(texts.to_vec())) };
    let views = || -> ArrayRef { Arc::new(StringViewArray::from(texts.to_vec())) };
    let numbers = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2])) };
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
    for compression in [Compression::SNAPPY, Compression::UNCOMPRESSED, zstd] {
        for columns in [
            vec![("text", strings())],
            vec![("text", large())],
            vec![("text", views())],
            vec![("id", numbers()), ("text", strings()), ("other", large())],
        ] {
            write_parquet(&path, columns, compression);
            assert_eq!(read_all(&path, Format::Parquet, 2).unwrap(), expected);
            assert_eq!(file::provenance(&path, Format::Parquet).unwrap(), None);
            assert!(file::validate(&path, Format::Parquet, 2).unwrap().sound());
        }
    }
}

/// Files that Python's pyarrow and NumPy wrote, from an independent generator: `fixtures/make.py`.
#[test]
fn files_of_other_tools_are_read() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let expected = read_all(&fixture("expected.txt"), Format::Text, 2).unwrap();
    assert_eq!((expected.len(), expected[0].len()), (8, 512));
    for name in ["string.parquet", "large_string.parquet"] {
        assert_eq!(read_all(&fixture(name), Format::Parquet, 2).unwrap(), expected);
        let report = file::validate(&fixture(name), Format::Parquet, 2).unwrap();
        assert!(report.sound() && report.provenance.is_none());
        assert_eq!((report.n_examples, report.n_reads), (8, 203));
    }
    assert_eq!(read_all(&fixture("int64.npy"), Format::Npy, 2).unwrap(), expected[..2]);
}

/// The message of the first failure to read `content`, without the folder.
#[track_caller]
fn check_refused(format: Format, content: &[u8], kind: ErrorKind, expected: &str) {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, format);
    fs::write(&path, content).unwrap();
    let error = read_all(&path, format, 2).unwrap_err();
    let message = error.to_string().replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(message, expected);
    assert_eq!(error.kind(), kind);
}

#[test]
fn a_damaged_row_is_named_with_its_number() {
    let corrupt = ErrorKind::Corrupt;
    let check_text = |content: &str, expected: &str| {
        check_refused(Format::Text, content.as_bytes(), corrupt, expected);
    };
    check_text("w1r1\nw1x1\n", "val.txt, row 1: character 2 is `x`, but w, r or i belongs there");
    check_text("w1r1\n\nw1r1\n", "val.txt, row 1: there is no example");
    check_text(
        "w1r1\nw1r",
        "val.txt, row 1: it ends after an instruction: 3 tokens, an odd number",
    );
    check_text("w1r1\nw1i0r1\n", "val.txt, row 1: it has 6 tokens, the rows before it 4");
    check_text(
        "w1r1\nw2r2\n",
        "val.txt, row 1: character 1 begins symbol 2, but the symbols are 0 to 1",
    );
    check_refused(
        Format::Text,
        b"w1r1\n\xff\n",
        corrupt,
        "val.txt, row 1: it is not text in UTF-8",
    );
    let check_json = |content: &str, expected: &str| {
        check_refused(Format::Jsonl, content.as_bytes(), corrupt, expected);
    };
    check_json(
        "{\"text\":\"w1r1\"}\n{\"text\":\"w1r\"}\n",
        "val.jsonl, row 1: it ends after an instruction: 3 tokens, an odd number",
    );
    check_json(
        "{\"text\":\"w1r1\"}\n{\"text\":",
        "val.jsonl, row 1: it is no JSON object with a string `text`: \
         EOF while parsing a value at line 1 column 8",
    );
    check_json(
        "{\"words\":\"w1r1\"}\n",
        "val.jsonl, row 0: it is no JSON object with a string `text`: \
         missing field `text` at line 1 column 16",
    );
}

/// The bytes of a small .npy file of this type and these tokens.
fn npy(descr: &str, shape: (usize, usize), tokens: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape:?}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(tokens);
    bytes
}

#[test]
fn a_damaged_array_is_refused_with_the_reason() {
    let check = |content: &[u8], expected: &str| {
        check_refused(Format::Npy, content, ErrorKind::Corrupt, expected);
    };
    check(b"", "val.npy: it ends inside the header of a .npy file; copy it again");
    check(b"w1i0r1w1i0r1\n", "val.npy: it is no .npy file: it begins with other bytes");
    check(b"\x93NUMPY\x09\x00aa", "val.npy: its .npy format is 9, this release reads 1 to 3");
    check(
        &npy("|u1", (1, 4), &[0, 3, 1]),
        "val.npy: it has 73 bytes, but its header promises 74 for 1 examples of 4 tokens; \
         copy it again",
    );
    check(
        &npy("|u1", (2, 4), &[0, 3, 1, 3, 0, 3, 1, 5]),
        "val.npy, row 1: pos 3 holds token 5, but a symbol, 3 to 4, belongs there",
    );
    check(
        &npy("|u1", (1, 4), &[0, 3, 4, 3]),
        "val.npy, row 0: pos 2 holds token 4, but an instruction, 0 to 2, belongs there",
    );
    check(
        &npy("|u1", (1, 3), &[0, 3, 1]),
        "val.npy, row 0: it ends after an instruction: 3 tokens, an odd number",
    );
}

#[test]
fn arrays_of_other_widths_are_read() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Npy);
    for (descr, n_bytes) in [("|u1", 1), ("<i2", 2), ("<u4", 4), ("<i8", 8)] {
        let tokens: Vec<u8> = [0, 4, 1, 4]
            .iter()
            .flat_map(|&token| std::iter::once(token).chain(std::iter::repeat_n(0, n_bytes - 1)))
            .collect();
        fs::write(&path, npy(descr, (1, 4), &tokens)).unwrap();
        assert_eq!(read_all(&path, Format::Npy, 2).unwrap(), [[0, 4, 1, 4]]);
    }
}

#[test]
fn a_parquet_file_that_does_not_fit_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Parquet);
    let check = |expected: &str| {
        let error = read_all(&path, Format::Parquet, 2).unwrap_err();
        let message = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        assert_eq!((message.as_str(), error.kind()), (expected, ErrorKind::Corrupt));
    };
    let words: ArrayRef = Arc::new(StringArray::from(vec!["w1r1"]));
    write_parquet(&path, vec![("words", Arc::clone(&words)), ("more", words)], Compression::SNAPPY);
    check("val.parquet: it has no column `text`; its columns are words, more");
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    write_parquet(&path, vec![("text", numbers)], Compression::SNAPPY);
    check("val.parquet: its column `text` holds Int64; save it as strings");
    let missing: ArrayRef = Arc::new(StringArray::from(vec![Some("w1r1"), None]));
    write_parquet(&path, vec![("text", missing)], Compression::SNAPPY);
    check("val.parquet, row 1: its text is missing (null)");
    let wrong: ArrayRef = Arc::new(StringArray::from(vec!["w1r1", "w1r1", "w1w1r"]));
    write_parquet(&path, vec![("text", wrong)], Compression::SNAPPY);
    check("val.parquet, row 2: it ends after an instruction: 5 tokens, an odd number");
    fs::write(&path, "w1r1\n").unwrap();
    check("val.parquet is no whole parquet file, or is damaged after row 0");
}

/// A file cut short at any place is refused, or (in the formats of lines) is short of rows, which
/// validation sees. Nothing panics.
#[test]
fn a_file_cut_short_anywhere_is_noticed() {
    for format in Format::ALL {
        let folder = TempDir::new().unwrap();
        let path = path_in(&folder, format);
        let task = Task::FlipFlop(FlipFlop::new(16, 0.2, 0.2, 0.6, 2).unwrap());
        file::write(&path, format, &source(task, 12)).unwrap();
        let whole = fs::read(&path).unwrap();
        for n_bytes in 0..whole.len() {
            fs::write(&path, &whole[..n_bytes]).unwrap();
            let noticed = file::validate(&path, format, 2).map_or(true, |report| !report.sound());
            // A text without its last line feed is whole.
            let harmless =
                n_bytes + 1 == whole.len() && matches!(format, Format::Text | Format::Jsonl);
            assert!(noticed || harmless, "{format} cut at {n_bytes} of {}", whole.len());
        }
    }
}

/// A flipped bit is refused, seen by the oracle or seen by the checksum; or it lies where nothing
/// is stored, and the examples are still the same. Nothing panics: parquet's table of contents is
/// checked before the library believes it.
#[test]
fn a_flipped_bit_never_changes_the_examples_unnoticed() {
    for format in Format::ALL {
        let folder = TempDir::new().unwrap();
        let path = path_in(&folder, format);
        let task = Task::FlipFlop(FlipFlop::new(16, 0.2, 0.2, 0.6, 2).unwrap());
        let written = file::write(&path, format, &source(task, 6)).unwrap();
        let whole = fs::read(&path).unwrap();
        for bit in (0..8 * whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            if let Ok(report) = file::validate(&path, format, 2) {
                let same = report.content_blake3 == written.content_blake3;
                // Parquet keeps the provenance in the file: with it flipped away there is none.
                let vouched = report.provenance.is_some();
                assert!(!report.sound() || same || !vouched, "{format}, bit {bit}: {report:?}");
            }
        }
    }
}

#[test]
fn validation_reports_wrong_answers_and_a_foreign_provenance() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Text);
    let task = Task::FlipFlop(FlipFlop::new(6, 0.0, 0.0, 1.0, 2).unwrap());
    file::write(&path, Format::Text, &source(task, 15)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    // Every answer wrong, and one row less.
    let wrong: String = text
        .lines()
        .take(14)
        .map(|line| {
            if line.ends_with('0') {
                format!("{}1\n", &line[..5])
            } else {
                format!("{}0\n", &line[..5])
            }
        })
        .collect();
    fs::write(&path, &wrong).unwrap();
    let report = file::validate(&path, Format::Text, 2).unwrap();
    assert!(!report.sound());
    assert_eq!((report.n_faults, report.faults.len()), (14, 10));
    assert_eq!(
        (report.n_examples, report.seq_len, report.n_reads, report.n_writes),
        (14, 6, 14, 14)
    );
    let row = &wrong[..6];
    let (said, written) = (&row[5..6], &row[1..2]);
    assert_eq!(
        report.faults[0].message,
        format!("the read at pos 4 says {said}, but {written} was last written at pos 0")
    );
    assert_eq!(report.disagreements[0], "n_examples is 14, but 15 in the provenance");
    assert!(report.disagreements[1].ends_with("in the provenance: they were changed"));
    // With more symbols than were written the rows still parse; the provenance knows better.
    let report = file::validate(&path, Format::Text, 3).unwrap();
    assert!(report.disagreements.contains(&"n_symbols is 3, but 2 in the provenance".to_owned()));
}

#[test]
fn a_provenance_of_another_format_is_refused_with_both_numbers() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Text);
    let beside = folder.path().join("val.txt.meta.json");
    let check = |json: &str, expected: &str| {
        fs::write(&beside, json).unwrap();
        let error = file::provenance(&path, Format::Text).unwrap_err();
        let message = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        assert_eq!((message.as_str(), error.kind()), (expected, ErrorKind::Corrupt));
    };
    check(
        r#"{"format": 2, "new": true}"#,
        "val.txt.meta.json: its provenance has format 2, this release reads 1; \
         use the release that wrote it",
    );
    check(
        "{",
        "val.txt.meta.json does not say where the examples came from in a form this release \
         reads; delete it to read them without",
    );
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let here = |message: String| message.replace(&folder.path().display().to_string(), "HERE");
    let check = |path: PathBuf, source: &Source, kind: ErrorKind, expected: &str| {
        let error = file::write(&path, Format::Text, source).unwrap_err();
        assert_eq!((here(error.to_string()).as_str(), error.kind()), (expected, kind));
    };
    let good = source(paper(0.8), 3);
    check(
        folder.path().join("missing/val.txt"),
        &good,
        ErrorKind::Io,
        "cannot write in HERE/missing; check that it is a folder and that you may write there",
    );
    fs::write(folder.path().join("file"), "").unwrap();
    check(
        folder.path().join("file/val.txt"),
        &good,
        ErrorKind::Io,
        "cannot write in HERE/file; check that it is a folder and that you may write there",
    );
    check(
        folder.path().to_owned(),
        &good,
        ErrorKind::Invalid,
        "HERE names no file; give the file a name",
    );
    let path = folder.path().join("val.txt");
    check(
        path.clone(),
        &Source { first_index: u64::MAX, ..good.clone() },
        ErrorKind::Invalid,
        "3 examples from index 18446744073709551615 on pass the last index, \
         18446744073709551615; ask for fewer or begin earlier",
    );
    let odd = FlipFlop { seq_len: 5, ..FlipFlop::paper(0.8).unwrap() };
    check(
        path,
        &source(Task::FlipFlop(odd), 3),
        ErrorKind::Invalid,
        "seq_len is 5, but instructions and symbols come in pairs; use 4 or 6",
    );
    assert_eq!(names(&folder), ["file"]);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let folder = TempDir::new().unwrap();
    for format in Format::ALL {
        let path = path_in(&folder, format);
        let error = file::read(&path, format, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
        let error = file::read(&path, format, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// A file that exists is replaced whole, and survives when the new one cannot be written.
#[test]
fn an_old_file_is_replaced_or_kept_whole() {
    let folder = TempDir::new().unwrap();
    let path = path_in(&folder, Format::Text);
    fs::write(&path, "w1r1\n").unwrap();
    let impossible = Source { first_index: u64::MAX, ..source(paper(0.8), 3) };
    file::write(&path, Format::Text, &impossible).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "w1r1\n");
    file::write(&path, Format::Text, &source(paper(0.8), 3)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_language_round_trips_in_any_format(
        n_instructions in 2_u32..80,
        p_ignore in 0.0..=1.0_f64,
        n_symbols in 2_u32..=256,
        n_examples in 0_u64..30,
        seed: u64,
        format_idx in 0_usize..4,
    ) {
        let p_write = (1.0 - p_ignore) / 2.0;
        let language = FlipFlop { seq_len: 2 * n_instructions, p_write, p_read: p_write, p_ignore, n_symbols, coding: Coding::Tokens };
        let source = Source { seed, ..source(Task::FlipFlop(language), n_examples) };
        check_round_trip(&source, Format::ALL[format_idx]);
    }

    /// Whatever bytes a file holds, reading it ends with examples or with a message.
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), format_idx in 0_usize..4) {
        let folder = TempDir::new().unwrap();
        let format = Format::ALL[format_idx];
        let path = path_in(&folder, format);
        fs::write(&path, bytes).unwrap();
        if let Ok(examples) = read_all(&path, format, 2) {
            let total: usize = examples.iter().map(|tokens| text::to_text(tokens).len()).sum();
            prop_assert!(total < 1_000);
        }
    }
}

/// What a file of bigram examples holds is what its provenance draws, in each format in its own way:
/// the characters where a row may hold any, and escaped where a row is a line.
#[test]
fn bigram_examples_are_written_so_that_others_can_read_them() {
    let folder = TempDir::new().unwrap();
    let language = Bigram { seq_len: 400, ..Bigram::paper(3) };
    let source = source(Task::Bigram(language.clone()), 5);
    let stream = source.stream();
    let examples: Vec<Vec<Token>> =
        (3..8).map(|index| source.task.example(&stream, index)).collect();
    let texts: Vec<String> = examples.iter().map(|tokens| language.corpus.text(tokens)).collect();
    assert!(texts.iter().all(|text| text.contains('\n')), "{texts:?}");
    let mut contents = Vec::new();
    for format in Format::ALL {
        let path = path_in(&folder, format);
        let written = file::write(&path, format, &source).unwrap();
        assert_eq!(file::provenance(&path, format).unwrap().as_ref(), Some(&written));
        assert_eq!(
            (written.generator.as_str(), written.source()),
            ("mnemoscope bigram", source.clone())
        );
        contents.push(written.content_blake3);
        let refusal = file::validate(&path, format, 2).unwrap_err();
        let says = [
            "examples of the bigram language (seq_len ",
            "only flip-flop files in tokens can be validated; generate it again (stream ",
        ];
        assert!(says.iter().all(|part| refusal.to_string().contains(part)), "{refusal}");
    }
    contents.dedup();
    assert_eq!(contents.len(), 1, "the content does not depend on the format");
    let text = |format| fs::read_to_string(path_in(&folder, format)).unwrap();
    let json: Vec<String> = text(Format::Jsonl)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|row| row["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(json, texts);
    let lines: Vec<String> = text(Format::Text).lines().map(str::to_owned).collect();
    assert_eq!(lines, texts.iter().map(|text| text.replace('\n', "\\n")).collect::<Vec<_>>());
    let array = fs::read(path_in(&folder, Format::Npy)).unwrap();
    let tokens: Vec<u8> = examples.concat().iter().flat_map(|token| token.to_le_bytes()).collect();
    assert!(array.ends_with(&tokens) && array.windows(8).any(|part| part == b"(5, 401)"));
}
