//! Matrices as pictures of characters.

/// From nothing to everything.
const SHADES: [char; 8] = [' ', '.', ':', '-', '=', '+', '#', '@'];

/// A matrix as characters, one an entry: the darkest is the row's largest, blank is the row's mean or less.
///
/// Shades count within a row, because a memory is asked row by row; a dark diagonal is a memory that
/// answers.
///
/// # Example
///
/// ```
/// let rows = [vec![9.0, 0.0, 0.0], vec![0.0, 5.0, 3.0]];
/// assert_eq!(mnemoscope_view::picture::shaded(&rows), "  @  \n   @.\n");
/// ```
#[must_use]
pub fn shaded<R: AsRef<[f64]>>(rows: &[R]) -> String {
    rows.iter().map(|row| format!("  {}\n", shades(row.as_ref()))).collect()
}

/// [`shaded`], with a character above each column and before each row.
///
/// # Example
///
/// ```
/// let pattern = [vec![1.0, 0.0], vec![1.0, 0.0]];
/// let page = mnemoscope_view::picture::labelled(&pattern, &['a', 'b']);
/// assert_eq!(page, "    ab\n  a @ \n  b @ \n");
/// ```
#[must_use]
pub fn labelled<R: AsRef<[f64]>>(rows: &[R], labels: &[char]) -> String {
    let mut page = format!("    {}\n", labels.iter().collect::<String>());
    for (row, label) in rows.iter().zip(labels) {
        page += &format!("  {label} {}\n", shades(row.as_ref()));
    }
    page
}

fn shades(row: &[f64]) -> String {
    let mean = row.iter().sum::<f64>() / row.len().max(1) as f64;
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shade = |&x: &f64| {
        let share = if largest > mean { (x - mean) / (largest - mean) } else { 0.0 };
        SHADES[(share * (SHADES.len() - 1) as f64).max(0.0) as usize % SHADES.len()]
    };
    row.iter().map(shade).collect()
}

#[cfg(test)]
mod tests {
    use super::shaded;

    #[test]
    fn a_flat_row_and_what_is_not_finite_are_blank() {
        assert_eq!(shaded(&[[2.0, 2.0]]), "    \n");
        assert_eq!(shaded(&[[f64::NAN, 1.0]]).chars().count(), 5);
        assert_eq!(shaded::<[f64; 0]>(&[]), "");
    }
}
