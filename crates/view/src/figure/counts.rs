//! Histograms from records: runs by how many errors they make, kept glitches by how far they look back.

use std::collections::{BTreeMap, BTreeSet};

use mnemoscope_store::{Error, RunReader};

use super::of_records::{Source, arms};
use super::{Bar, Bars, Figure, Heights, Kind, Plot, Share, plain};
use crate::number;

/// Measured runs from which they are counted by their errors.
pub(super) const RUNS_FROM: usize = 5;
/// Glitch files of one run that are read, of each of its sets.
const MOST_KEPT: usize = 200;

/// A kept glitch, as far as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The set it is of.
    pub set: String,
    /// Positions from the place where its answer was written to the place where the model was asked.
    pub distance: u64,
}

/// The first glitches that a run kept; files that are none, or do not know where something was written, are left out.
pub(super) fn kept(run: &RunReader) -> Result<Vec<Kept>, Error> {
    let one = |name: &String| {
        let stored = run.json(name).ok()?;
        let (query, write) = (stored["query_pos"].as_u64()?, stored["write_pos"].as_u64()?);
        let distance = query.checked_sub(write).filter(|distance| *distance > 0)?;
        Some(Kept { set: stored["set"].as_str()?.to_owned(), distance })
    };
    let names = run.names("glitches")?;
    let mut n_read: BTreeMap<String, usize> = BTreeMap::new();
    let first = |name: &&String| {
        // A name is that of its set, and two numbers.
        let n =
            n_read.entry(name.rsplitn(3, '-').last().unwrap_or_default().to_owned()).or_default();
        *n += 1;
        *n <= MOST_KEPT
    };
    Ok(names.iter().filter(first).filter_map(one).collect())
}

/// Runs by the errors they make on a set: none, then by powers of ten.
pub(super) fn of_runs(runs: &[Source], set: &str) -> Option<Figure> {
    let measured: Vec<(&str, &str, u64)> = runs
        .iter()
        .filter_map(|run| {
            let n_errors = run.result()?.eval.get(set)?.n_errors;
            Some((run.arm.as_str(), run.page.id.as_str(), n_errors))
        })
        .collect();
    if measured.len() < RUNS_FROM {
        return None;
    }
    let bin = |n_errors: u64| n_errors.checked_ilog10().map_or(0, |power| power as usize + 1);
    let n_bins = measured.iter().map(|(.., n)| bin(*n)).max().unwrap_or(0) + 1;
    let bins = (0..n_bins).map(|idx| match idx {
        0 => "0".to_owned(),
        1 => "1–9".to_owned(),
        idx => {
            let from = 10_u64.saturating_pow(u32::try_from(idx).unwrap_or(u32::MAX) - 1);
            format!("{}–{}", number::count(from), number::count(from.saturating_mul(10) - 1))
        }
    });
    let bins: Vec<String> = bins.collect();
    let heights = |arm: &str| {
        let of_arm = measured.iter().filter(|(of, ..)| *of == arm);
        heights(arm, n_bins, of_arm.map(|(_, run, n_errors)| (bin(*n_errors), *run)))
    };
    let arms: Vec<Heights> = arms(runs).into_iter().filter_map(heights).collect();
    let n_trials: BTreeSet<u64> =
        runs.iter().filter_map(|run| Some(run.result()?.eval.get(set)?.n_trials)).collect();
    let of = match n_trials.iter().collect::<Vec<_>>().as_slice() {
        [only] => number::counted(**only, "trial", "trials"),
        several => format!(
            "{} to {} trials",
            several.first().map_or_else(String::new, |n| number::count(**n)),
            several.last().map_or_else(String::new, |n| number::count(**n))
        ),
    };
    Some(Figure {
        kind: Kind::Runs,
        name: format!("runs-{}", plain(set)),
        title: format!("Runs by their errors on {set}"),
        caption: format!(
            "How many runs of an arm make so many errors in {of}; the first column is of those that make none. \
             Where the mouse points: their share of the arm with its exact {} % interval, and which they are.",
            super::CONFIDENCE * 100.0
        ),
        plot: Plot::Bars(Bars { x: format!("errors on {set}"), y: "runs".to_owned(), bins, arms }),
    })
}

/// Kept glitches of a set by how far back the answer was written.
pub(super) fn by_distance(runs: &[Source], set: &str) -> Option<Figure> {
    let of_set = |run: &Source| -> Vec<u64> {
        run.kept.iter().filter(|kept| kept.set == set).map(|kept| kept.distance).collect()
    };
    let farthest = runs.iter().flat_map(of_set).max()?;
    let bin = |distance: u64| distance.max(1).ilog2() as usize;
    let n_bins = bin(farthest) + 1;
    let name = |idx: usize| {
        let from = 1_u64 << idx.min(62);
        if idx == 0 { "1".to_owned() } else { format!("{from}–{}", 2 * from - 1) }
    };
    let heights = |arm: &str| {
        let of_arm = runs.iter().filter(|run| run.arm == arm);
        let each = of_arm.flat_map(|run| {
            of_set(run).into_iter().map(|distance| (bin(distance), run.page.id.as_str()))
        });
        heights(arm, n_bins, each)
    };
    let arms: Vec<Heights> = arms(runs).into_iter().filter_map(heights).collect();
    let n_errors: u64 = runs
        .iter()
        .filter_map(|run| Some(run.result()?.eval.get(set)?.n_errors))
        .fold(0, u64::saturating_add);
    let n_kept: u64 = arms.iter().map(|arm| arm.n).sum();
    Some(Figure {
        kind: Kind::Distance,
        name: format!("distance-{}", plain(set)),
        title: format!("Glitches on {set} by how far back the answer was written"),
        caption: format!(
            "Of {} errors in all, the {} that were kept as files. Bins are powers of two. Errors are counted and not \
             held against how many reads look so far back: `mnemoscope glitches RUN --by distance` does that.",
            number::count(n_errors),
            number::count(n_kept)
        ),
        plot: Plot::Bars(Bars {
            x: "positions from the last write to the read".to_owned(),
            y: "kept glitches".to_owned(),
            bins: (0..n_bins).map(name).collect(),
            arms,
        }),
    })
}

/// The counts of an arm; none of an arm of which nothing is counted.
fn heights<'a>(
    arm: &str,
    n_bins: usize,
    counted: impl Iterator<Item = (usize, &'a str)>,
) -> Option<Heights> {
    let mut found: Vec<(u64, BTreeSet<&str>)> = vec![(0, BTreeSet::new()); n_bins];
    for (bin, run) in counted {
        found[bin].0 += 1;
        found[bin].1.insert(run);
    }
    let n: u64 = found.iter().map(|(n, _)| n).sum();
    let bar = |(n_some, runs): (u64, BTreeSet<&str>)| Bar {
        n: n_some,
        share: Share::of(n_some, n),
        runs: runs.into_iter().map(str::to_owned).collect(),
    };
    (n > 0).then(|| Heights { arm: arm.to_owned(), n, bars: found.into_iter().map(bar).collect() })
}
