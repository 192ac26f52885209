//! Where errors live: the counts of a set, apart by what lies before each read.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::result::{SetResult, common, interval_heading};
use crate::table::{Align, Table};
use crate::{WIDTH, number, text};

/// What stands beneath the tables.
const NOTE: &str = "Every read is in one bin of each table. Over examples: the interval allows for reads of \
                    one example that err together; without an error it supposes that they would all err.";

/// The result of a set, and its counts apart.
#[derive(Clone, Debug, Deserialize)]
pub struct SetApart {
    /// The set as a whole.
    #[serde(flatten)]
    pub whole: SetResult,
    /// Tables by their names.
    pub by: BTreeMap<String, Breakdown>,
}

/// The counts of a set, apart by one thing.
#[derive(Clone, Debug, Deserialize)]
pub struct Breakdown {
    /// What is counted of a read.
    pub what: String,
    /// How the bins are chosen.
    pub binning: String,
    /// The bins that hold a read.
    pub bins: Vec<Bin>,
    /// The rate where the distractor disagrees less that where it agrees.
    #[serde(default)]
    pub gap: Option<Gap>,
}

/// The difference of two rates.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Gap {
    /// In errors per read.
    pub difference: f64,
    /// Its interval over examples.
    pub interval: [f64; 2],
}

/// The reads of one bin.
#[derive(Clone, Debug, Deserialize)]
pub struct Bin {
    /// Its name.
    pub bin: String,
    /// Reads.
    pub n_trials: u64,
    /// Those answered wrong.
    pub n_errors: u64,
    /// Errors per read.
    pub error_rate: Option<f64>,
    /// Interval of the rate, reads taken as independent.
    pub interval: [f64; 2],
    /// Interval of the rate, examples taken as independent and their reads not.
    pub cluster_interval: [f64; 2],
}

/// A page about the sets of a run.
///
/// # Arguments
///
/// - `agrees`: whether all counts are the recorded ones; `None` if something else was measured.
#[must_use]
pub fn page(run: &str, eval: &BTreeMap<String, SetApart>, agrees: Option<bool>) -> String {
    let mut page = format!("Run {run}, its reads apart\n");
    let heading = interval_heading(common(eval.values().map(|set| set.whole.confidence)));
    for (name, set) in eval {
        let SetResult { n_examples, n_trials, n_errors, .. } = set.whole;
        let of = number::counted(n_examples, "example", "examples");
        let errors = number::counted(n_errors, "error", "errors");
        page += &format!("\n{name}: {errors} in {} reads of {of}\n", number::count(n_trials));
        for (name, apart) in &set.by {
            page += "\n";
            let Breakdown { what, binning, .. } = apart;
            page += &text::wrap(&format!("By {name}: {what} ({binning})"), WIDTH, "");
            page += &table(name, &heading, apart).to_string();
            if let Some(Gap { difference, interval: [low, high] }) = apart.gap {
                let [low, high] = [low, high].map(signed);
                let gap = signed(difference);
                page += &format!("  disagrees less agrees: {gap}, over examples [{low}, {high}]\n");
            }
        }
    }
    page += "\n";
    page += &text::wrap(NOTE, WIDTH, "");
    page += match agrees {
        Some(true) => "\nEvery count is the recorded one.\n",
        Some(false) => "\nThe counts DIFFER from the record.\n",
        None => "\nNot what the record measured, so there is nothing to compare with.\n",
    };
    page
}

/// A difference of rates; a negative one has its sign.
fn signed(difference: f64) -> String {
    let sign = if difference < 0.0 { "-" } else { "" };
    format!("{sign}{}", number::rate(difference.abs()))
}

fn table(name: &str, heading: &str, apart: &Breakdown) -> Table {
    let mut table = Table::new(&[
        (name, Align::Left),
        ("reads", Align::Right),
        ("errors", Align::Right),
        ("rate", Align::Right),
        (heading, Align::Left),
        ("over examples", Align::Left),
    ]);
    for bin in &apart.bins {
        table.row([
            bin.bin.clone(),
            number::count(bin.n_trials),
            number::count(bin.n_errors),
            bin.error_rate.map_or_else(|| "-".to_owned(), number::rate),
            number::interval(bin.interval),
            number::interval(bin.cluster_interval),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::text::assert_fits;

    #[test]
    fn the_counts_of_a_set_apart() {
        let bin = |bin: &str, n_trials: u64, n_errors: u64| {
            let error_rate = n_errors as f64 / n_trials as f64;
            json!({
                "bin": bin, "n_trials": n_trials, "n_errors": n_errors, "error_rate": error_rate,
                "interval": [error_rate / 1.234, error_rate * 1.234], "values": [1, 2],
                "cluster_interval": [error_rate / 2.345, error_rate * 2.345], "n_clusters": 9,
            })
        };
        let stored = json!({"val_sparse": {
            "n_examples": 100_000, "n_trials": 1_353_875, "n_errors": 4_321,
            "error_rate": 4_321.0 / 1_353_875.0, "confidence": 0.95, "interval": [0.0, 0.1],
            "by": {
                "distance": {"what": "instructions from the last write to the read",
                             "binning": "powers of two",
                             "bins": [bin("1", 1_203_875, 21), bin("128-255", 150_000, 4_300)]},
                "distractor": {"what": "the last ignored bit since the write, and the right one",
                               "binning": "none, agrees, disagrees",
                               "bins": [bin("disagrees", 1_353_875, 4_321)],
                               "gap": {"difference": 0.001_25, "interval": [-0.000_3, 0.002_9],
                                       "confidence": 0.95, "n_clusters": 99_000}},
            },
        }});
        let eval = BTreeMap::deserialize(&stored).unwrap();
        let page = page("3f2a", &eval, Some(true));
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }
}
