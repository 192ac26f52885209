//! Figures as SVG documents.

use std::fmt::Write as _;

use kuva::backend::svg::SvgBackend;

use super::{Figure, draw};

/// DejaVu Sans without the scripts that no figure needs. It is free to use, embed and change; its licence
/// lies beside it.
pub(super) const FONT: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans-subset.ttf");
/// The font, and what is nearest to its widths where a reader has other fonts only.
pub(super) const FONTS: &str = "'DejaVu Sans', Verdana, sans-serif";

/// Size of letters in legends.
pub(super) const FONT_SIZE: u32 = 12;

/// The document of a figure, with a title and a description for those who cannot see it.
pub(super) fn document(figure: &Figure, with_font: bool) -> String {
    let mut scene = draw::scene(figure);
    if with_font {
        scene.defs.push(format!("<style>{}</style>", font_face()));
    }
    let size = format!(" viewBox=\"0 0 {:.0} {:.0}\"", scene.width, scene.height);
    let svg = shortened(&SvgBackend::new().render_scene(&scene));
    // The library writes a root without a view box, which cannot shrink on a narrow page.
    let Some(end) = svg.find('>') else { return svg };
    let (root, rest) = svg.split_at(end);
    let (title, words) = (escaped(&figure.title), escaped(&figure.caption));
    let about = format!(" role=\"img\" class=\"figure\" data-kind=\"{}\"", figure.kind.word());
    format!("{root}{size}{about}><title>{title}</title><desc>{words}</desc>{}", &rest[1..])
}

/// A document whose places have no more than two decimals: the library rounds to so many, and writes some
/// with fifteen digits of what is left. A path's first place is followed by lines without saying so each time, and
/// what is not drawn has no width. Words between tags stay as they are.
fn shortened(svg: &str) -> String {
    let mut short = String::with_capacity(svg.len());
    let (mut in_tag, mut n_decimals, mut before) = (false, None, ' ');
    for c in svg.chars() {
        in_tag = match c {
            '<' => true,
            '>' => false,
            _ => in_tag,
        };
        n_decimals = match (n_decimals, c) {
            (None, '.') if in_tag => Some(0),
            (Some(n), c) if c.is_ascii_digit() => Some(n + 1),
            _ => None,
        };
        let is_line = in_tag && (c == 'L' || before == 'L' && c == ' ');
        if n_decimals.is_none_or(|n| n <= 2) && !is_line {
            short.push(c);
        }
        before = c;
    }
    // Quotes of words are escaped, so this is never of words.
    short.replace(" stroke=\"none\" stroke-width=\"0\"", "")
}

/// The rule that carries the font.
pub(super) fn font_face() -> String {
    let mut rule = "@font-face{font-family:'DejaVu Sans';src:url('data:font/ttf;base64,".to_owned();
    push_base64(&mut rule, FONT);
    rule += "') format('truetype')}";
    rule
}

pub(super) fn push_base64(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |idx: usize| u32::from(chunk.get(idx).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
}

/// Whether a character turns the direction of the writing that follows.
pub(super) fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text that can stand in any document of HTML, XML or SVG, as content or between quotes.
///
/// What no document may hold, such as a null character, is shown by the replacement character.
#[must_use]
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            '\n' | '\t' => safe.push(c),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            // Marks that turn the direction of writing would rearrange what stands around them.
            c if turns_direction(c) => {
                // Writing to a string cannot fail.
                write!(safe, "\\u{{{:x}}}", u32::from(c)).unwrap_or_default();
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, digits) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut text = String::new();
            push_base64(&mut text, bytes.as_bytes());
            assert_eq!(text, digits);
        }
    }

    #[test]
    fn places_are_shortened_and_words_are_not() {
        let svg =
            "<path d=\"M 30.060000000000002 1.5 L 2 0.25\"/><text x=\"1.239\">1.23456 L</text>";
        let short = "<path d=\"M 30.06 1.5 2 0.25\"/><text x=\"1.23\">1.23456 L</text>";
        assert_eq!(shortened(svg), short);
    }

    #[test]
    fn markup_becomes_text() {
        assert_eq!(
            escaped("<img src='x' onerror=\"a&b\">\0\u{202e}"),
            "&lt;img src=&#39;x&#39; onerror=&quot;a&amp;b&quot;&gt;\u{fffd}\\u{202e}"
        );
    }
}
