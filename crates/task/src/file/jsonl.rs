//! JSON lines: `{"text":"w1i0r1"}`, an object for each example. Other fields are passed over.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Deserialize;

use super::write::Batch;
use crate::text::Flaw;

/// Writes the objects.
pub(super) fn write(out: &mut impl Write, batch: &Batch) -> io::Result<()> {
    for text in batch.texts()? {
        out.write_all(b"{\"text\":")?;
        serde_json::to_writer(&mut *out, &text)?;
        out.write_all(b"}\n")?;
    }
    Ok(())
}

/// The field `text` of one line.
pub(super) fn text_of(line: &str) -> Result<Cow<'_, str>, Flaw> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        text: Cow<'a, str>,
    }
    match serde_json::from_str::<Row<'_>>(line) {
        Ok(row) => Ok(row.text),
        Err(error) => Err(Flaw::NotJson { why: error.to_string() }),
    }
}
