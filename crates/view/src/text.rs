//! Words on a page: wrapping, indenting, and `name  value` lists.

use crate::WIDTH;

/// `text` broken at spaces so that no line, indentation included, is wider than `width`.
///
/// A word wider than the line stands alone and overflows: an address that is cut in two cannot
/// be copied.
///
/// # Example
///
/// ```
/// use mnemoscope_view::text::wrap;
///
/// assert_eq!(wrap("one two three", 8, "> "), "> one\n> two\n> three\n");
/// ```
#[must_use]
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let room = width.saturating_sub(indent.chars().count());
    let mut page = String::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            let wanted = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && wanted > room {
                push_line(&mut page, indent, &line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        push_line(&mut page, indent, &line);
    }
    page
}

/// A list of names and values, the values in one column; long values wrap beneath themselves.
///
/// # Example
///
/// ```
/// use mnemoscope_view::text::facts;
///
/// let page = facts(&[("status", "sealed".into()), ("arm", "lstm".into())]);
/// assert_eq!(page, "  status  sealed\n  arm     lstm\n");
/// ```
#[must_use]
pub fn facts(pairs: &[(&str, String)]) -> String {
    let name_width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let gap = " ".repeat(name_width + 4);
    let mut page = String::new();
    for (name, value) in pairs {
        let wrapped = wrap(value, WIDTH, &gap);
        let mut lines = wrapped.lines();
        let first = lines.next().unwrap_or_default().trim_start();
        push_line(&mut page, "", &format!("  {name:<name_width$}  {first}"));
        for line in lines {
            push_line(&mut page, "", line);
        }
    }
    page
}

/// `text` cut to `width` columns, an ellipsis in place of what is missing.
///
/// # Example
///
/// ```
/// use mnemoscope_view::text::cut;
///
/// assert_eq!(cut("transformer", 6), "trans…");
/// assert_eq!(cut("lstm", 6), "lstm");
/// ```
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn push_line(page: &mut String, indent: &str, line: &str) {
    page.push_str(format!("{indent}{line}").trim_end());
    page.push('\n');
}

/// Asserts that no line of `page` is wider than the terminal we promise to fit.
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_fits(page: &str) {
    for line in page.lines() {
        let width = line.chars().count();
        assert!(width <= WIDTH, "{width} columns: {line}");
        assert_eq!(line, line.trim_end(), "a line ends in spaces");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_wider_than_the_page_is_never_cut() {
        let address = "a".repeat(90);
        assert_eq!(wrap(&format!("see {address} now"), 80, ""), format!("see\n{address}\nnow\n"));
    }

    #[test]
    fn empty_lines_between_paragraphs_stay() {
        assert_eq!(wrap("one\n\ntwo", 80, "  "), "  one\n\n  two\n");
    }

    #[test]
    fn a_long_fact_wraps_under_its_own_column() {
        let page = facts(&[("what", "word ".repeat(20)), ("id", "1".to_owned())]);
        assert_fits(&page);
        assert!(page.lines().nth(1).is_some_and(|line| line.starts_with("        word")), "{page}");
        assert!(page.ends_with("  id    1\n"), "{page}");
    }
}
