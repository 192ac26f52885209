//! The gallery: every task with drawn examples and their answers underneath.

use crate::{WIDTH, text};

/// One language, ready to be shown.
#[derive(Clone, Debug)]
pub struct Card {
    /// The word a spec uses.
    pub name: String,
    /// The name people use.
    pub title: String,
    /// What it asks of a model.
    pub what: String,
    /// Where it was published.
    pub source: String,
    /// Drawn examples with their answers, as lines to print unchanged.
    pub example_lines: Vec<String>,
}

/// The page of the gallery.
///
/// # Example
///
/// ```
/// use mnemoscope_view::gallery::{Card, page};
///
/// let card = Card {
///     name: "flipflop".into(),
///     title: "Flip-flop".into(),
///     what: "A register, written, ignored and read back.".into(),
///     source: "Liu et al., NeurIPS 2023".into(),
///     example_lines: vec!["w1i0r1".into()],
/// };
/// assert!(page(&[card]).contains("  w1i0r1\n"));
/// ```
#[must_use]
pub fn page(cards: &[Card]) -> String {
    cards.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(card: &Card) -> String {
    let mut page = format!("{}: {}\n", card.name, card.title);
    page += &text::wrap(&card.what, WIDTH, "  ");
    page.push('\n');
    for line in &card.example_lines {
        page += format!("  {line}").trim_end();
        page.push('\n');
    }
    page.push('\n');
    page += &text::wrap(&format!("Source: {}", card.source), WIDTH, "  ");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::assert_fits;

    #[test]
    fn cards_stand_apart_and_fit() {
        let card = Card {
            name: "flipflop".to_owned(),
            title: "Flip-flop language".to_owned(),
            what: "A register of one symbol. ".repeat(8),
            source: "Liu, Ash, Goel, Krishnamurthy and Zhang, NeurIPS 2023, arXiv:2306.00946, \
                     section 3.1"
                .to_owned(),
            example_lines: vec!["w1i0r1".to_owned(), "     ^".to_owned()],
        };
        let page = page(&[card.clone(), card]);
        assert_fits(&page);
        assert_eq!(page.matches("\n\nflipflop: ").count(), 1, "{page}");
    }
}
