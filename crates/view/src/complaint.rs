//! What is wrong with a spec: all of it at once, each with its place and its path.

use crate::{WIDTH, text};

/// One thing wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where it was written, such as `study.toml:4:1` or `--set`.
    pub place: String,
    /// The key, as `--set` would name it; empty if the text is not a spec at all.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// The complaints as lines, in the order given.
///
/// # Example
///
/// ```
/// use mnemoscope_view::complaint::{Complaint, lines};
///
/// let complaint = Complaint {
///     place: "study.toml:4:1".into(),
///     path: "model.n_layer".into(),
///     message: "unknown key; did you mean `n_layers`?".into(),
/// };
/// assert_eq!(
///     lines(&[complaint]),
///     "  study.toml:4:1  model.n_layer\n      unknown key; did you mean `n_layers`?\n"
/// );
/// ```
#[must_use]
pub fn lines(complaints: &[Complaint]) -> String {
    let mut page = String::new();
    for Complaint { place, path, message } in complaints {
        page += &format!("  {}\n", [place.as_str(), path].join("  ").trim_end());
        page += &text::wrap(message, WIDTH, "      ");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::assert_fits;

    #[test]
    fn a_complaint_about_no_key_in_particular_leaves_no_trailing_space() {
        let page = lines(&[Complaint {
            place: "study.toml:1:7".to_owned(),
            path: String::new(),
            message: "not TOML: a very long story about a bracket ".repeat(4),
        }]);
        assert_fits(&page);
        assert!(page.starts_with("  study.toml:1:7\n      not TOML"), "{page}");
    }
}
