//! Plain text: a line for each example.

use std::io::{self, Write};

use super::write::Batch;

pub(super) fn write(out: &mut impl Write, batch: &Batch) -> io::Result<()> {
    out.write_all(&batch.lines)
}
