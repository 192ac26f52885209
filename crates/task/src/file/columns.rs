//! Tables of named columns, for programs that read numbers of many runs: csv, parquet, JSON lines.
//!
//! A column holds numbers, whole numbers, texts or flags, or is a mixture and then written as text. What is missing is an
//! empty cell in csv, null elsewhere. A text in csv is quoted as RFC 4180 says.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::parquet::into_io;
use super::staged::Staged;
use crate::error::{Cause, Error};

/// Rows under names of columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// The names.
    pub names: Vec<String>,
    /// Rows of as many values: numbers, texts, flags, null.
    pub rows: Vec<Vec<Value>>,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Csv,
    Parquet,
    Jsonl,
}

/// What all values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Real,
    Flag,
    Text,
}

/// Writes a table; the ending of `path` says how: `.csv`, `.parquet` or `.jsonl`.
///
/// The file appears under its name when it is whole.
///
/// # Errors
///
/// [`Invalid`](crate::ErrorKind::Invalid) if the ending is none of these, [`Full`](crate::ErrorKind::Full),
/// [`Io`](crate::ErrorKind::Io).
///
/// # Panics
///
/// If a row has more or fewer values than there are names.
///
/// # Example
///
/// ```
/// use mnemoscope_task::file::{Columns, write_columns};
/// use serde_json::json;
///
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("runs.csv");
/// let rows = vec![vec![json!("lstm"), json!(0)], vec![json!("a, \"b\""), json!(null)]];
/// write_columns(&path, &Columns { names: vec!["arm".into(), "n_errors".into()], rows })?;
/// assert_eq!(std::fs::read_to_string(&path)?, "arm,n_errors\nlstm,0\n\"a, \"\"b\"\"\",\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_columns(path: &Path, columns: &Columns) -> Result<(), Error> {
    let n_names = columns.names.len();
    assert!(columns.rows.iter().all(|row| row.len() == n_names), "a row has not {n_names} values");
    let extension = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let layout = match extension.to_ascii_lowercase().as_str() {
        "csv" => Layout::Csv,
        "parquet" => Layout::Parquet,
        "jsonl" => Layout::Jsonl,
        _ => return Err(Cause::UnknownTableExtension { path: path.to_owned() }.into()),
    };
    let (staged, file) = Staged::create(path)?;
    let mut out = BufWriter::new(&file);
    let written = match layout {
        Layout::Csv => csv(columns, &mut out),
        Layout::Jsonl => jsonl(columns, &mut out),
        Layout::Parquet => parquet_file(columns, &mut out),
    };
    written.and_then(|()| out.flush()).map_err(|source| Cause::write(path, source))?;
    drop(out);
    staged.publish(&file)
}

fn csv(columns: &Columns, out: &mut impl Write) -> io::Result<()> {
    let mut line = |cells: Vec<String>| writeln!(out, "{}", cells.join(","));
    line(columns.names.iter().map(|name| csv_text(name)).collect())?;
    for row in &columns.rows {
        line(row.iter().map(csv_cell).collect())?;
    }
    Ok(())
}

fn csv_cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => csv_text(text),
        other => csv_text(&other.to_string()),
    }
}

fn csv_text(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.trim() != text {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

fn jsonl(columns: &Columns, out: &mut impl Write) -> io::Result<()> {
    for row in &columns.rows {
        let members = columns.names.iter().cloned().zip(row.iter().cloned());
        serde_json::to_writer(&mut *out, &members.collect::<serde_json::Map<_, _>>())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn parquet_file(columns: &Columns, out: &mut (impl Write + Send)) -> io::Result<()> {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (idx, name) in columns.names.iter().enumerate() {
        let values: Vec<&Value> = columns.rows.iter().map(|row| &row[idx]).collect();
        let (data_type, array) = array(&values);
        fields.push(Field::new(name, data_type, true));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let level = ZstdLevel::try_new(3).map_err(into_io)?;
    let properties = WriterProperties::builder()
        .set_created_by(format!("mnemoscope {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(level))
        .build();
    let mut writer =
        ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(into_io)?;
    if !arrays.is_empty() {
        let batch = RecordBatch::try_new(schema, arrays).map_err(io::Error::other)?;
        writer.write(&batch).map_err(into_io)?;
    }
    writer.close().map_err(into_io)?;
    Ok(())
}

/// The column as parquet knows it.
fn array(values: &[&Value]) -> (DataType, ArrayRef) {
    match kind_of(values) {
        Kind::Whole => {
            let numbers: Int64Array = values.iter().map(|value| value.as_i64()).collect();
            (DataType::Int64, Arc::new(numbers))
        }
        Kind::Real => {
            let numbers: Float64Array = values.iter().map(|value| value.as_f64()).collect();
            (DataType::Float64, Arc::new(numbers))
        }
        Kind::Flag => {
            let flags: BooleanArray = values.iter().map(|value| value.as_bool()).collect();
            (DataType::Boolean, Arc::new(flags))
        }
        Kind::Text => {
            let text = |value: &&Value| match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            let texts: StringArray = values.iter().map(text).collect();
            (DataType::Utf8, Arc::new(texts))
        }
    }
}

fn kind_of(values: &[&Value]) -> Kind {
    let there = || values.iter().filter(|value| !value.is_null());
    if there().next().is_none() {
        Kind::Text
    } else if there().all(|value| value.is_i64()) {
        Kind::Whole
    } else if there().all(|value| value.is_number()) {
        Kind::Real
    } else if there().all(|value| value.is_boolean()) {
        Kind::Flag
    } else {
        Kind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Float64Type, Int64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use serde_json::json;

    fn table() -> Columns {
        let names = ["arm", "n_errors", "rate", "tied", "mixed", "none"];
        Columns {
            names: names.map(str::to_owned).to_vec(),
            rows: vec![
                vec![json!("a,b"), json!(3), json!(0.5), json!(true), json!(1), json!(null)],
                vec![json!("c"), json!(null), json!(1), json!(null), json!("x"), json!(null)],
            ],
        }
    }

    #[test]
    fn every_layout_holds_the_same_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["t.csv", "t.jsonl", "t.parquet"] {
            write_columns(&path(name), &table()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path("t.csv")).unwrap(),
            "arm,n_errors,rate,tied,mixed,none\n\"a,b\",3,0.5,true,1,\nc,,1,,x,\n"
        );
        let lines = std::fs::read_to_string(path("t.jsonl")).unwrap();
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!((&first["arm"], &first["none"]), (&json!("a,b"), &Value::Null));
        let file = std::fs::File::open(path("t.parquet")).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let batch = reader.next().unwrap().unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        assert_eq!(column("arm").as_string::<i32>().value(0), "a,b");
        let whole = column("n_errors").as_primitive::<Int64Type>();
        assert_eq!((whole.value(0), arrow_array::Array::is_null(whole, 1)), (3, true));
        assert_eq!(column("rate").as_primitive::<Float64Type>().values(), &[0.5, 1.0]);
        assert!(column("tied").as_boolean().value(0));
        assert_eq!(column("mixed").as_string::<i32>().value(0), "1");
        assert_eq!(column("none").null_count(), 2);
    }

    #[test]
    fn another_ending_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = write_columns(&folder.path().join("t.xlsx"), &table()).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Invalid);
        assert!(
            refusal
                .to_string()
                .ends_with("t.xlsx has no known ending; use .csv, .parquet or .jsonl")
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
