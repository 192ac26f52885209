//! Parquet: one column `text`, as the public data set has it.
//!
//! Read: a `string`, `large_string` or `string_view` column of any name order among others,
//! uncompressed or compressed with snappy or zstd. Written: `string`, zstd, with the provenance
//! in the file's key-value metadata under `mnemoscope`.

use std::error;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::write::Batch;
use crate::error::{Cause, Error};

/// The column that holds the examples.
const COLUMN: &str = "text";

/// The key of the provenance in the file's metadata.
const PROVENANCE_KEY: &str = "mnemoscope";

/// Compressed bytes kept in memory before a row group is written.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// Bytes of text read at a time, about.
const READ_BYTES: u64 = 4 << 20;

/// A parquet file being written.
pub(super) struct Writer<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
}

impl<W: Write + Send> Writer<W> {
    pub(super) fn begin(out: W) -> io::Result<Self> {
        let schema = Arc::new(Schema::new(vec![Field::new(COLUMN, DataType::Utf8, false)]));
        let level = ZstdLevel::try_new(3).map_err(into_io)?;
        // Rows are random: a dictionary or a smallest and a largest row would be of no use.
        let properties = WriterProperties::builder()
            .set_created_by(format!("mnemoscope {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .build();
        let writer =
            ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(into_io)?;
        Ok(Self { writer, schema })
    }

    pub(super) fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(batch.texts()?));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![column])
            .map_err(io::Error::other)?;
        self.writer.write(&batch).map_err(into_io)
    }

    pub(super) fn finish(mut self, provenance: &str) -> io::Result<()> {
        let entry = KeyValue::new(PROVENANCE_KEY.to_owned(), provenance.to_owned());
        self.writer.append_key_value_metadata(entry);
        self.writer.close().map_err(into_io)?;
        Ok(())
    }
}

/// The refusal of the system behind a failure to write, so that a full disk is recognised.
pub(super) fn into_io(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}

/// A parquet file being read, a batch of rows at a time.
pub(super) struct Reader {
    batches: ParquetRecordBatchReader,
    column: Option<ArrayRef>,
    next: usize,
}

impl Reader {
    pub(super) fn open(file: File, path: &Path) -> Result<Self, Error> {
        let n_bytes = file.metadata().map_err(|error| Cause::read(path, error))?.len();
        let builder = builder(file, path)?;
        check_column(builder.schema(), path)?;
        check_places(builder.metadata(), n_bytes, path)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), [COLUMN]);
        check_compression(builder.metadata(), &mask, path)?;
        let batch_len = batch_len(builder.metadata());
        let batches = builder
            .with_projection(mask)
            .with_batch_size(batch_len)
            .build()
            .map_err(|source| damaged(path, 0, source))?;
        Ok(Self { batches, column: None, next: 0 })
    }

    /// The next text; a missing one is `Some(None)`. `None` after the last row.
    pub(super) fn next_text(&mut self) -> Result<Option<Option<&str>>, ArrowError> {
        while self.column.as_ref().is_none_or(|column| self.next == column.len()) {
            let Some(batch) = self.batches.next() else { return Ok(None) };
            self.column = Some(Arc::clone(batch?.column(0)));
            self.next = 0;
        }
        let row = self.next;
        self.next += 1;
        Ok(self.column.as_deref().map(|column| text_at(column, row)))
    }
}

fn text_at(column: &dyn Array, row: usize) -> Option<&str> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        // `check_column` let no other type pass.
        _ => None,
    }
}

/// The provenance in the file's metadata, as it was written.
pub(super) fn stored_provenance(path: &Path) -> Result<Option<String>, Error> {
    let file = File::open(path).map_err(|error| Cause::read(path, error))?;
    let builder = builder(file, path)?;
    let entries = builder.metadata().file_metadata().key_value_metadata();
    Ok(entries
        .and_then(|entries| entries.iter().find(|entry| entry.key == PROVENANCE_KEY))
        .and_then(|entry| entry.value.clone()))
}

fn builder(file: File, path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Error> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|source| damaged(path, 0, source))
}

/// What a failure to read means: damage, unless the system refused.
pub(super) fn damaged(
    path: &Path,
    row: u64,
    source: impl Into<Box<dyn error::Error + Send + Sync>>,
) -> Error {
    Cause::Parquet { path: path.to_owned(), row, source: source.into() }.into()
}

fn check_column(schema: &Schema, path: &Path) -> Result<(), Error> {
    let Ok(field) = schema.field_with_name(COLUMN) else {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let what = format!("it has no column `{COLUMN}`; its columns are {}", names.join(", "));
        return Err(Cause::layout(path, what).into());
    };
    match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(()),
        other => {
            let what = format!("its column `{COLUMN}` holds {other}; save it as strings");
            Err(Cause::layout(path, what).into())
        }
    }
}

/// Refuses a table of contents that points outside the file: the library takes it on trust, and
/// stops the program where it is wrong.
fn check_places(metadata: &ParquetMetaData, n_bytes: u64, path: &Path) -> Result<(), Error> {
    let inside = |start: i64, len: i64| {
        let end = start.checked_add(len).and_then(|end| u64::try_from(end).ok());
        start >= 0 && len >= 0 && end.is_some_and(|end| end <= n_bytes)
    };
    let sound = metadata.row_groups().iter().all(|group| {
        let columns_sound = group.columns().iter().all(|column| {
            let first_page = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            inside(first_page, column.compressed_size())
                && inside(column.data_page_offset(), 0)
                && column.num_values() >= 0
                && (column.column_path().string() != COLUMN
                    || column.num_values() == group.num_rows())
        });
        group.num_rows() >= 0 && columns_sound
    });
    if sound {
        return Ok(());
    }
    let what = "its table of contents points outside the file; copy it again";
    Err(Cause::layout(path, what).into())
}

/// Names a compression that this release cannot undo before any row is read.
fn check_compression(
    metadata: &ParquetMetaData,
    mask: &ProjectionMask,
    path: &Path,
) -> Result<(), Error> {
    for row_group in metadata.row_groups() {
        for (idx, column) in row_group.columns().iter().enumerate() {
            let compression = column.compression();
            let known = matches!(
                compression,
                Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)
            );
            if mask.leaf_included(idx) && !known {
                let name = format!("{compression}").to_lowercase();
                let what = format!(
                    "its column `{COLUMN}` is compressed with {name}; \
                     save it with snappy, zstd or uncompressed"
                );
                return Err(Cause::layout(path, what).into());
            }
        }
    }
    Ok(())
}

/// Rows to read at a time, so that long examples take no more memory than short ones.
fn batch_len(metadata: &ParquetMetaData) -> usize {
    let longest = metadata
        .row_groups()
        .iter()
        .filter_map(|group| {
            let n_bytes = u64::try_from(group.total_byte_size()).ok()?;
            n_bytes.checked_div(u64::try_from(group.num_rows()).ok()?)
        })
        .max();
    let n_rows = READ_BYTES / longest.unwrap_or(1).max(1);
    usize::try_from(n_rows.clamp(1, 8_192)).unwrap_or(1)
}
