//! Tables that fit 80 columns: a header, a rule, rows; numbers to the right, words to the left.

use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, ContentLineStyle, LineStyle,
    Table as Grid, TableStyle,
};

use crate::WIDTH;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words: at the left edge.
    Left,
    /// Words that may take several lines, so that the other columns keep to one.
    Wrapped,
    /// Numbers: at the right edge, so that digits of one weight stand beneath each other.
    Right,
}

/// A table under construction.
///
/// # Example
///
/// ```
/// use mnemoscope_view::table::{Align, Table};
///
/// let mut table = Table::new(&[("arm", Align::Left), ("errors", Align::Right)]);
/// table.row(["lstm", "0"]);
/// table.row(["transformer", "4321"]);
/// assert_eq!(
///     table.to_string(),
///     "  arm          errors\n  ───────────────────\n  lstm              0\n  transformer    4321\n"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

/// Spaces before the first column, where the page has room for them.
const INDENT: usize = 2;
/// Spaces between two columns, besides the one that stands for a line between them.
const GAP: u16 = 1;

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|&(name, align)| (name.to_owned(), align)).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If there are more or fewer cells than columns.
    #[track_caller]
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        let (n_cells, n_columns) = (cells.len(), self.columns.len());
        assert_eq!(n_cells, n_columns, "{n_cells} cells in a table of {n_columns} columns");
        self.rows.push(cells);
    }

    /// Whether no row was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The heading of each column and whether it is one of numbers.
    pub(crate) fn headings(&self) -> impl Iterator<Item = (&str, bool)> {
        self.columns.iter().map(|(name, align)| (name.as_str(), *align == Align::Right))
    }

    /// The cells, row by row.
    pub(crate) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Spaces before the first column: none if the table needs the whole page.
    fn indent(&self) -> usize {
        let width = |idx: usize, name: &str| {
            let cells = self.rows.iter().map(|row| row[idx].chars().count());
            cells.chain([name.chars().count()]).max().unwrap_or(0)
        };
        let columns = self.columns.iter().enumerate();
        let widths: usize = columns.map(|(idx, (name, _))| width(idx, name)).sum();
        let gaps = (usize::from(GAP) + 1) * self.columns.len().saturating_sub(1);
        if widths + gaps + INDENT <= WIDTH { INDENT } else { 0 }
    }

    fn grid(&self) -> Grid {
        const STYLE: TableStyle = TableStyle::new()
            .header_lines(ContentLineStyle::none())
            .header_separator(LineStyle::none().fill('─').junction('─'))
            .content_lines(ContentLineStyle::none());
        let mut grid = Grid::new();
        grid.load_style(STYLE);
        grid.set_content_arrangement(ContentArrangement::Dynamic);
        grid.set_width(u16::try_from(WIDTH - self.indent()).unwrap_or(u16::MAX));
        grid.set_header(self.columns.iter().map(|(name, _)| name.as_str()));
        grid.add_rows(&self.rows);
        for (idx, (_, align)) in self.columns.iter().enumerate() {
            let Some(column) = grid.column_mut(idx) else { continue };
            column.set_padding((if idx == 0 { 0 } else { GAP }, 0));
            column.set_cell_alignment(match align {
                Align::Left | Align::Wrapped => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
            if *align != Align::Wrapped {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        grid
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let indent = self.indent();
        for line in self.grid().lines() {
            writeln!(f, "{:indent$}{}", "", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::assert_fits;

    #[test]
    fn a_wide_cell_wraps_instead_of_leaving_the_page() {
        let mut table = Table::new(&[("run", Align::Left), ("question", Align::Wrapped)]);
        table.row(["3f2a".to_owned(), "how often does a small model misread ".repeat(5)]);
        let page = table.to_string();
        assert_fits(&page);
        assert!(page.lines().count() > 4, "{page}");
    }

    #[test]
    fn numbers_stand_at_the_right_edge() {
        let mut table = Table::new(&[("n", Align::Right), ("name", Align::Left)]);
        table.row(["5", "five"]);
        table.row(["12345", "many"]);
        assert_eq!(
            table.to_string(),
            "      n  name\n  ───────────\n      5  five\n  12345  many\n"
        );
    }

    #[test]
    fn a_row_of_the_wrong_length_stops_at_the_call() {
        let short = std::panic::catch_unwind(|| {
            let mut table = Table::new(&[("a", Align::Left), ("b", Align::Left)]);
            table.row(["only one"]);
        });
        let message = short.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("1 cells in a table of 2 columns"), "{message}");
    }
}
