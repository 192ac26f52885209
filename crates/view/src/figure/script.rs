//! What a page adds to figures: exact numbers where the mouse points, arms that come and go, zoom.
//!
//! The script is ours, a few kilobytes of plain JavaScript that is part of the page. A plotting library that draws in
//! the browser would bring three to four megabytes into every report, would draw a second time and differently what
//! is drawn here, and would show nothing where scripts are off. Ours works on the figures as they are: a page without
//! it has the same pictures, and their numbers where a browser shows titles.

/// The script; it does its work on every figure of the page, and again on those that come later if
/// `mnemoscope.figures()` is called.
pub const SCRIPT: &str = include_str!("../../assets/figure.js");

/// What a `Content-Security-Policy` calls the script by, so that a page runs it and no other.
pub const SCRIPT_HASH: &str = "sha256-mFxWilw/P+CBqduKUiPjyvP4dX8THK8xXTjOA8kCvkw=";

/// The style of what the script adds.
pub const STYLE: &str = include_str!("../../assets/figure.css");

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_script() {
        let mut hash = "sha256-".to_owned();
        super::super::svg::push_base64(&mut hash, &Sha256::digest(SCRIPT.as_bytes()));
        assert_eq!(hash, SCRIPT_HASH, "a changed script has another hash: write it down");
    }

    #[test]
    fn the_script_asks_for_nothing_and_makes_no_markup_of_words() {
        for way in
            ["fetch", "XMLHttp", "import", "eval", "innerHTML", "insertAdjacent", "</script", "src"]
        {
            assert!(!SCRIPT.contains(way), "{way}");
        }
        // The name of a language is no address.
        assert_eq!(SCRIPT.matches("http").count(), 1);
        assert!(SCRIPT.len() < 20_000 && !STYLE.contains("url("));
    }
}
