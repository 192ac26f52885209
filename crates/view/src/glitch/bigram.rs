//! The parts of a glitch's page that are particular to bigrams: the text, and what its triggers are.

use std::ops::Range;

use super::{Picture, shown_rows};
use crate::number;
use crate::text::wrap;

/// The example up to the query in rows, the trigger before, its output and the query marked.
pub(super) fn sequence(picture: &Picture) -> String {
    let seen = picture.write_pos < picture.query_pos;
    let (marked, legend) = match seen {
        true => (2, "^^ the trigger before and its output    = the trigger now"),
        false => (0, "= the token asked at"),
    };
    rows(picture, picture.write_pos..picture.write_pos + marked, legend)
}

/// The example up to the query in rows of tokens, with `marked` places and the query marked.
pub(super) fn rows(picture: &Picture, marked: Range<usize>, legend: &str) -> String {
    let words = &picture.words[..picture.words.len().min(picture.query_pos + 1)];
    let width = words.iter().map(|word| word.chars().count()).max().unwrap_or(1);
    // Whole tens, so that positions can be counted off.
    let per_row = ((crate::WIDTH - 9) / width / 10 * 10).max(10);
    let rows: Vec<&[String]> = words.chunks(per_row).collect();
    let mut page = String::new();
    let mut next = 0;
    for row in shown_rows(rows.len(), picture.write_pos / per_row) {
        if row > next {
            page += &format!("         … {} tokens …\n", per_row * (row - next));
        }
        next = row + 1;
        let first = row * per_row;
        let cells: String = rows[row].iter().map(|word| format!("{word:<width$}")).collect();
        page += &format!("  {first:>5}  {}\n", cells.trim_end());
        let mark = |pos: usize| match pos {
            _ if pos == picture.query_pos => "=",
            _ if marked.contains(&pos) => "^",
            _ => "",
        };
        let marks = first..first + rows[row].len();
        let marks: String = marks.map(|pos| format!("{:<width$}", mark(pos))).collect();
        if !marks.trim_end().is_empty() {
            page += &format!("         {}\n", marks.trim_end());
        }
    }
    page += &format!("         {legend}\n");
    page
}

/// What was right, why, and what the model said.
pub(super) fn answer(picture: &Picture, occurrence: i32) -> String {
    let Picture { query_pos, write_pos, vocab, words, expected, predicted, .. } = picture;
    let name = |token: usize| vocab.get(token).map_or("?", String::as_str);
    let (token, output) = (words.get(*query_pos).map_or("?", String::as_str), name(*expected));
    let n_back = query_pos.saturating_sub(*write_pos) as u64;
    let why = match occurrence {
        ..=0 => {
            format!("`{token}` is no trigger in this example; `{output}` follows it by chance.")
        }
        1 => format!(
            "This is the first occurrence of the trigger `{token}`, so nothing before it says that \
             its output is `{output}`."
        ),
        _ => format!(
            "The output of the trigger `{token}` is `{output}` (occurrence {occurrence}, the one \
             before at position {write_pos}, {} back).",
            number::counted(n_back, "token", "tokens")
        ),
    };
    let said = format!("The model answered `{}`.", name(*predicted));
    wrap(&why, crate::WIDTH, "  ") + &wrap(&said, crate::WIDTH, "  ")
}
