//! What the runs of an arm have in common: medians, and how far the runs lie apart.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Line;

/// Runs of an arm from which it has a median and a band.
pub const BAND_FROM: usize = 3;
/// Runs of an arm from which its band is that of the quartiles: of fewer, a quartile is hardly more than a run.
pub const QUARTILES_FROM: usize = 8;

/// The runs of an arm, step by step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The arm.
    pub arm: String,
    /// Its runs.
    pub n_runs: usize,
    /// What the band is. It is no interval of anything.
    pub spread: Spread,
    /// By step.
    pub points: Vec<Middle>,
}

/// What a band reaches from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// From the lowest to the highest run.
    Range,
    /// From the first quartile to the third.
    Quartiles,
}

impl Spread {
    /// Of so many runs.
    #[must_use]
    pub fn of(n_runs: usize) -> Self {
        if n_runs < QUARTILES_FROM { Self::Range } else { Self::Quartiles }
    }

    /// What the band of an arm is, for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Range => "lowest to highest",
            Self::Quartiles => "quartiles",
        }
    }
}

/// The runs of an arm at one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Middle {
    /// The step.
    pub x: f64,
    /// Where the band begins.
    pub low: f64,
    /// Half of the runs are at or below it.
    pub median: f64,
    /// Where the band ends.
    pub high: f64,
    /// Runs that have a number at this step.
    pub n_runs: usize,
}

/// Medians and bands of every arm of [`BAND_FROM`] runs or more, at the steps that so many of them have.
#[must_use]
pub fn summaries(lines: &[Line]) -> Vec<Summary> {
    let mut arms: Vec<&str> = Vec::new();
    for line in lines {
        if !arms.contains(&line.arm.as_str()) {
            arms.push(&line.arm);
        }
    }
    let summary = |arm: &str| {
        let lines: Vec<&Line> = lines.iter().filter(|line| line.arm == arm).collect();
        let spread = Spread::of(lines.len());
        let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        // Steps are not negative, and the bits of such floats are in the order of their numbers.
        for point in lines.iter().flat_map(|line| &line.points) {
            at.entry(point.x.max(0.0).to_bits()).or_default().push(point.y);
        }
        let points: Vec<Middle> = at
            .into_iter()
            .filter(|(_, ys)| ys.len() >= BAND_FROM)
            .map(|(x, ys)| middle(f64::from_bits(x), ys, spread))
            .collect();
        let is_one = lines.len() >= BAND_FROM && points.len() > 1;
        is_one.then(|| Summary { arm: arm.to_owned(), n_runs: lines.len(), spread, points })
    };
    arms.into_iter().filter_map(summary).collect()
}

fn middle(x: f64, mut ys: Vec<f64>, spread: Spread) -> Middle {
    ys.sort_by(f64::total_cmp);
    let [low, high] = match spread {
        Spread::Range => [quantile(&ys, 0.0), quantile(&ys, 1.0)],
        Spread::Quartiles => [quantile(&ys, 0.25), quantile(&ys, 0.75)],
    };
    Middle { x, low, median: quantile(&ys, 0.5), high, n_runs: ys.len() }
}

/// The number that this share of sorted numbers lies at or below, between neighbours where it falls between.
///
/// # Panics
///
/// If there is no number.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let whole = place.floor() as usize;
    let above = sorted[(whole + 1).min(sorted.len() - 1)];
    sorted[whole] + (place - place.floor()) * (above - sorted[whole])
}

/// The values that a quarter, a half and three quarters lie at or below; none of fewer than five.
pub(super) fn quartiles(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    (values.len() >= 5).then(|| [0.25, 0.5, 0.75].map(|share| quantile(&values, share)))
}

#[cfg(test)]
mod tests {
    use super::super::Point;
    use super::*;

    fn line(arm: &str, ys: &[f64]) -> Line {
        let point = |(idx, y): (usize, &f64)| Point::new(idx as f64, *y);
        let points = ys.iter().enumerate().map(point).collect();
        Line { arm: arm.to_owned(), run: None, seed: None, points }
    }

    #[test]
    fn quartiles_lie_between_neighbours() {
        assert_eq!(quartiles(vec![1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(quartiles(vec![4.0, 1.0, 2.0, 3.0, 0.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(quartiles(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), Some([1.25, 2.5, 3.75]));
    }

    #[test]
    fn few_runs_have_a_range_and_many_have_quartiles() {
        let few = [line("a", &[3.0, 0.0]), line("a", &[1.0, 0.5]), line("a", &[2.0, 4.0, 9.0])];
        let summaries = summaries(&[&few[..], &[line("b", &[1.0, 1.0])]].concat());
        // Of `b` there is one run, and step 2 has one run of `a`.
        assert_eq!(summaries.len(), 1);
        let first = Middle { x: 0.0, low: 1.0, median: 2.0, high: 3.0, n_runs: 3 };
        let second = Middle { x: 1.0, low: 0.0, median: 0.5, high: 4.0, n_runs: 3 };
        assert_eq!(summaries[0].points, [first, second]);
        assert_eq!(summaries[0].spread, Spread::Range);

        let many: Vec<Line> = (0..9).map(|y| line("a", &[f64::from(y), f64::from(y)])).collect();
        let summary = &super::summaries(&many)[0];
        assert_eq!((summary.spread, summary.n_runs), (Spread::Quartiles, 9));
        assert_eq!(
            summary.points[0],
            Middle { x: 0.0, low: 2.0, median: 4.0, high: 6.0, n_runs: 9 }
        );
    }
}
