//! Published curves beside measured ones.

use serde::Serialize;

use crate::table::{Align, Table};
use crate::text;

/// One published number beside what the runs of an arm measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The published iteration, from 0.
    pub at: u64,
    /// What was published; none if it was not transcribed.
    pub published: Option<f64>,
    /// What each run measured there; empty if none was probed there.
    pub measured: Vec<f64>,
}

/// One published curve: a probe of an arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The arm that repeats it.
    pub arm: String,
    /// Where it was published.
    pub source: String,
    /// What is probed.
    pub probe: String,
    /// Point by point.
    pub pairs: Vec<Pair>,
}

impl Pair {
    /// The lowest, the median and the highest of the runs.
    #[must_use]
    pub fn spread(&self) -> Option<[f64; 3]> {
        let mut sorted = self.measured.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            sorted[middle - 1].midpoint(sorted[middle])
        } else {
            sorted[middle]
        };
        Some([low, median, high])
    }
}

/// The curves of a study, a table each.
///
/// # Example
///
/// ```
/// use mnemoscope_view::published::{Curve, Pair, tables};
///
/// let curve = Curve {
///     arm: "keys-frozen".into(),
///     source: "Fig. 3".into(),
///     probe: "memory.w_o2".into(),
///     pairs: vec![Pair { at: 50, published: Some(0.415), measured: vec![0.4, 0.5, 0.45] }],
/// };
/// assert!(tables(&[curve]).contains("0.415     0.450  [0.400, 0.500]"));
/// ```
#[must_use]
pub fn tables(curves: &[Curve]) -> String {
    let mut page = String::new();
    for curve in curves {
        let n_runs = curve.pairs.iter().map(|pair| pair.measured.len()).max().unwrap_or(0);
        let runs = if n_runs == 1 { "1 run".to_owned() } else { format!("{n_runs} runs") };
        let heading = format!("{} of {}, {runs} ({})", curve.probe, curve.arm, curve.source);
        page += "\n";
        page += &text::wrap(&heading, crate::WIDTH, "");
        let mut table = Table::new(&[
            ("iteration", Align::Right),
            ("published", Align::Right),
            ("measured", Align::Right),
            ("all runs", Align::Left),
            ("apart", Align::Right),
        ]);
        for pair in &curve.pairs {
            let number = |number: f64| format!("{number:.3}");
            let [median, range, apart] = match pair.spread() {
                Some([low, median, high]) => [
                    number(median),
                    format!("[{low:.3}, {high:.3}]"),
                    match pair.published {
                        Some(published) => format!("{:+.3}", median - published),
                        None => "-".to_owned(),
                    },
                ],
                None => ["-".to_owned(), "not probed".to_owned(), "-".to_owned()],
            };
            let published = pair.published.map_or_else(|| "not transcribed".to_owned(), number);
            table.row([pair.at.to_string(), published, median, range, apart]);
        }
        page += &table.to_string();
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_runs_is_lowest_median_highest() {
        let pair =
            |measured: &[f64]| Pair { at: 0, published: Some(0.0), measured: measured.to_vec() };
        assert_eq!(pair(&[]).spread(), None);
        assert_eq!(pair(&[0.5]).spread(), Some([0.5, 0.5, 0.5]));
        assert_eq!(pair(&[3.0, 1.0, 2.0]).spread(), Some([1.0, 2.0, 3.0]));
        assert_eq!(pair(&[4.0, 1.0, 3.0, 2.0]).spread(), Some([1.0, 2.5, 4.0]));
    }

    #[test]
    fn what_was_not_probed_is_said() {
        let pairs = vec![Pair { at: 7, published: Some(0.25), measured: vec![] }];
        let curve = Curve { arm: "a".into(), source: "b".into(), probe: "c".into(), pairs };
        let page = tables(&[curve]);
        assert!(page.contains("not probed") && page.contains("0 runs"), "{page}");
    }

    #[test]
    fn what_was_not_transcribed_is_said_beside_what_was_measured() {
        let pairs = vec![Pair { at: 7, published: None, measured: vec![0.5] }];
        let curve = Curve { arm: "a".into(), source: "b".into(), probe: "c".into(), pairs };
        let page = tables(&[curve]);
        assert!(page.contains("7  not transcribed     0.500  [0.500, 0.500]      -"), "{page}");
    }
}
