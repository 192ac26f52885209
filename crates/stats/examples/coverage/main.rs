//! How often 95 % intervals contain the true rate when errors come in clusters.
//!
//! ```text
//! cargo run -p mnemoscope-stats --example coverage -- 2000
//! ```
//!
//! prints the table in the documentation of `mnemoscope_stats::resample`. The argument is the
//! number of simulated evaluations per row; streams are fixed, so the table repeats to the digit.

#![expect(clippy::print_stdout, reason = "a program that prints a table")]

mod world;

use mnemoscope_stats::rate::{Interval, clopper_pearson};
use mnemoscope_stats::resample::cluster_bootstrap;
use mnemoscope_stats::stream::Stream;
use world::Kind;

/// The coverage asked for.
const CONFIDENCE: f64 = 0.95;

/// All kinds of errors with their words in the table.
const KINDS: [(Kind, &str); 5] = [
    (Kind::Independent, "independent reads"),
    (Kind::Half, "half of a sequence"),
    (Kind::AnyShare, "any share of a sequence"),
    (Kind::Longer, "whole, longer more often"),
    (Kind::Mixed, "one read, or whole (1 in 5)"),
];

/// Resamples in each bootstrap: enough for the ends of a 95 % interval.
const N_RESAMPLES: u32 = 999;

fn main() {
    let n_evaluations = std::env::args().nth(1).map_or(Ok(200), |text| text.parse());
    let Ok(n_evaluations) = n_evaluations else {
        println!("usage: coverage [EVALUATIONS PER ROW]");
        return;
    };
    println!("errors come as                 bad    naive  percent.  korn-gr.  returned  width");
    for ((kind, name), row) in KINDS.into_iter().zip(0..) {
        for n_bad in [1.0, 3.0, 10.0, 30.0, 100.0] {
            let stream = Stream::root(0).derive("coverage").child(row).derive(&format!("{n_bad}"));
            let row = coverage(kind, n_bad, n_evaluations, &stream);
            println!("{name:29} {n_bad:5} {row}");
        }
    }
}

/// One row: the coverage of four intervals in percent, and the median width of the last one over the
/// true rate.
fn coverage(kind: Kind, n_bad: f64, n_evaluations: u64, stream: &Stream) -> String {
    let truth = kind.error_rate(n_bad);
    let mut n_covered = [0_u32; 4];
    let mut widths = Vec::new();
    for index in 0..n_evaluations {
        let counts = kind.evaluation(&stream.derive("data"), index, n_bad);
        let resamples = stream.derive("resamples").child(index);
        let result = cluster_bootstrap(&counts, CONFIDENCE, N_RESAMPLES, &resamples);
        let naive = clopper_pearson(counts.n_errors(), counts.n_trials(), CONFIDENCE);
        // Without errors the parts are silent, and the interval returned stands for them.
        let parts: [Interval; 4] = [
            naive,
            result.bootstrap.unwrap_or(result.interval),
            result.korn_graubard.map_or(result.interval, |exact| exact.interval),
            result.interval,
        ];
        for (n_covered, interval) in std::iter::zip(&mut n_covered, parts) {
            *n_covered += u32::from(interval.contains(truth));
        }
        widths.push((result.interval.high - result.interval.low) / truth);
    }
    widths.sort_by(f64::total_cmp);
    let [naive, percentile, exact, returned] =
        n_covered.map(|n| 100.0 * f64::from(n) / n_evaluations as f64);
    let width = widths[widths.len() / 2];
    format!("{naive:8.1} {percentile:9.1} {exact:9.1} {returned:9.1} {width:6.2}")
}
