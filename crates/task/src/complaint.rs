//! A complaint: one thing that is wrong with what a person asked for.

use std::fmt;

/// One thing that is wrong with a task, as a person should read it.
///
/// A check returns all complaints at once, so that a spec with three mistakes is mended in one
/// go. `field` names the field as the spec spells it, for the reader that knows its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The field that should change, such as `p_write`.
    pub field: &'static str,
    /// The part of a mixture that holds the field, counted from 0; none outside mixtures.
    pub part: Option<usize>,
    /// What is wrong, with the numbers, and what to do.
    pub message: String,
}

impl Complaint {
    pub(crate) fn new(field: &'static str, message: String) -> Self {
        Self { field, part: None, message }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(part) => write!(f, "part {part}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// A number as a person would write it: twelve digits after the point, without trailing zeros,
/// so that `0.1 + 0.1 + 0.7` reads `0.9` and not `0.8999999999999999`.
pub(crate) fn plain(number: f64) -> String {
    if !number.is_finite() || (number != 0.0 && number.abs() < 1e-6) {
        return format!("{number:e}").replace("NaN", "not a number");
    }
    let digits = format!("{number:.12}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn numbers_read_as_a_person_writes_them() {
        let check = |number: f64, text: &str| assert_eq!(plain(number), text);
        check(0.1 + 0.1 + 0.7, "0.9");
        check(1.0, "1");
        check(0.0, "0");
        check(-0.25, "-0.25");
        check(2e-9, "2e-9");
        check(f64::NAN, "not a number");
        check(f64::INFINITY, "inf");
    }
}
