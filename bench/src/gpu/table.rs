//! The table of a comparison on a GPU, as Markdown.

use serde_json::Value;

use super::{Flags, Outcome, Row, SIDES};
use crate::compare::{median, quantile, ratios};

/// The whole document: where it was measured, training, cohorts, and what is missing.
pub(super) fn markdown(ceiling: &Result<Value, String>, rows: &[Row], flags: &Flags) -> String {
    let mut lines = vec![place(ceiling, flags), String::new()];
    let (cohorts, training): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.entry.cohort);
    if !training.is_empty() {
        lines.push("| workload | precision | ours, ms a step | eager | compile | theirs / ours | of matmul | of memory |".into());
        lines.push("|---|---|---|---|---|---|---|---|".into());
        lines.extend(training.into_iter().map(|row| trained(row, ceiling)));
        lines.push(String::new());
    }
    if !cohorts.is_empty() {
        lines.push("| cohort | precision | ours, steps/s in all | eager, one by one | compile, one by one | ours / theirs | of matmul | of memory |".into());
        lines.push("|---|---|---|---|---|---|---|---|".into());
        lines.extend(cohorts.into_iter().map(|row| together(row, ceiling)));
        lines.push(String::new());
    }
    lines.push(KEY.to_owned());
    let missing: Vec<String> = rows.iter().flat_map(|row| missing(row, flags)).collect();
    if !missing.is_empty() {
        lines.push("\nMissing:\n".to_owned());
        lines.extend(missing);
    }
    lines.join("\n") + "\n"
}

const KEY: &str = "\
Medians over rounds, quartiles in parentheses; the ratio is of each round, to the better of PyTorch's
forms. Shares are of ours: the products of a step, as plans are estimated, of the rate measured for a square
product in that precision, and the fewest bytes that a step must move of the rate measured for a
copy (a dash where a cache may hold them).";

/// The device, the versions and the rates it reaches.
fn place(ceiling: &Result<Value, String>, flags: &Flags) -> String {
    let said = match ceiling {
        Ok(said) => said,
        Err(why) => return format!("On {}, whose rates are not known: {why}.", flags.device),
    };
    let word = |key: &str| said[key].as_str().unwrap_or("unknown").to_owned();
    let rates: Vec<String> = flags
        .precisions
        .iter()
        .map(|precision| {
            let rate = said["flops_per_sec"][precision].as_f64().unwrap_or(f64::NAN);
            format!("{} TFLOP/s in {precision}", significant(rate / 1e12))
        })
        .collect();
    format!(
        "On {} ({}), driver {}, CUDA {}, PyTorch {}, commit {}. A product of {n} x {n} reaches {}, a copy \
         {:.2} TB/s read and written.",
        word("card"),
        flags.device,
        word("driver"),
        word("cuda"),
        word("version"),
        flags.commit.as_deref().unwrap_or("unknown"),
        rates.join(", "),
        said["bytes_per_sec"].as_f64().unwrap_or(f64::NAN) / 1e12,
        n = said["n"],
    )
}

fn trained(row: &Row, ceiling: &Result<Value, String>) -> String {
    let [ours, eager, compile] = &row.sides;
    let millis = |secs: f64| secs * 1e3;
    format!(
        "| `{}` | {} | {} | {} | {} | {} | {} |",
        row.entry.workload,
        row.precision,
        cell(ours, |wall| spread(wall, millis)),
        cell(eager, |wall| significant(millis(median(wall)))),
        cell(compile, |wall| significant(millis(median(wall)))),
        ratio(row),
        shares(row, ceiling),
    )
}

fn together(row: &Row, ceiling: &Result<Value, String>) -> String {
    let [ours, eager, compile] = &row.sides;
    format!(
        "| `{}`, {} at once | {} | {} | {} | {} | {} | {} |",
        row.entry.workload,
        row.n_members,
        row.precision,
        cell(ours, |wall| spread(wall, f64::recip)),
        cell(eager, |wall| significant(median(wall).recip())),
        cell(compile, |wall| significant(median(wall).recip())),
        ratio(row),
        shares(row, ceiling),
    )
}

/// What a side measured, or that it did not.
fn cell(side: &Outcome, measured: impl Fn(&[f64]) -> String) -> String {
    match (side.wall.as_slice(), &side.failure) {
        ([], Some(_)) => "failed".to_owned(),
        ([], None) => "no time".to_owned(),
        (wall, _) => measured(wall),
    }
}

/// The median with its quartiles, in another unit.
fn spread(wall: &[f64], unit: impl Fn(f64) -> f64) -> String {
    let wall: Vec<f64> = wall.iter().map(|&secs| unit(secs)).collect();
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| significant(quantile(&wall, share)));
    format!("{middle} ({low}-{high})")
}

/// Three digits, or all before the point.
fn significant(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Time of PyTorch's better form over ours, round by round: of a cohort that is our rate over theirs.
fn ratio(row: &Row) -> String {
    let [ours, theirs @ ..] = &row.sides;
    let theirs = theirs.iter().filter(|side| !side.wall.is_empty());
    let better = theirs.min_by(|a, b| median(&a.wall).total_cmp(&median(&b.wall)));
    let Some(better) = better.filter(|_| !ours.wall.is_empty()) else { return "-".to_owned() };
    let ratio = ratios(&better.wall, &ours.wall);
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(&ratio, share));
    format!("**{middle:.2}** ({low:.2}-{high:.2})")
}

/// Ours: of the rate of products, and of the bandwidth of memory.
fn shares(row: &Row, ceiling: &Result<Value, String>) -> String {
    let wall = &row.sides[0].wall;
    let share = |needed: Option<f64>, rate: Option<f64>| match needed.zip(rate) {
        Some((needed, rate)) if !wall.is_empty() => {
            format!("{} %", significant(100.0 * needed / median(wall) / rate))
        }
        _ => "-".to_owned(),
    };
    let said = ceiling.as_ref().ok();
    let products = said.and_then(|said| said["flops_per_sec"][&row.precision].as_f64());
    let copies = said.and_then(|said| said["bytes_per_sec"].as_f64());
    let bytes = row.cost.bytes.map(|bytes| bytes as f64);
    format!("{} | {}", share(Some(row.cost.flops), products), share(bytes, copies))
}

/// A line for every side of a row that failed or for which there was no time.
fn missing(row: &Row, flags: &Flags) -> Vec<String> {
    let cohort = if row.entry.cohort { "cohort of " } else { "" };
    let of = format!("- {cohort}`{}`, {}", row.entry.workload, row.precision);
    if row.sides.iter().all(|side| side.wall.is_empty() && side.failure.is_none()) {
        return vec![format!("{of}: not measured, the {} minutes were over", flags.minutes)];
    }
    let sides = SIDES.into_iter().zip(&row.sides);
    let line = |(name, side): (&str, &Outcome)| {
        let n_rounds = side.wall.len();
        let why = match &side.failure {
            // A reason begins with who has it.
            Some(why) => shortened(why),
            None if n_rounds == flags.n_rounds => return None,
            None => format!("{name}: the {} minutes were over", flags.minutes),
        };
        Some(format!("{of}, {n_rounds} of {} rounds; {why}", flags.n_rounds))
    };
    sides.filter_map(line).collect()
}

/// The beginning of a long reason; the history keeps all of it.
fn shortened(why: &str) -> String {
    const MOST: usize = 160;
    match why.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &why[..end]),
        None => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ENTRIES;
    use super::super::cost::Cost;
    use super::*;

    fn flags() -> Flags {
        let flags = ["--rounds", "3", "--commit", "abc1234"].map(str::to_owned);
        Flags::parse(&flags).unwrap()
    }

    fn measured(wall: &[f64]) -> Outcome {
        Outcome { wall: wall.to_vec(), ..Outcome::default() }
    }

    fn failed(why: &str) -> Outcome {
        Outcome { failure: Some(why.to_owned()), ..Outcome::default() }
    }

    fn row(entry: usize, n_members: usize, sides: [Outcome; 3]) -> Row {
        let cost = Cost { flops: 1e12, bytes: Some(3 << 30) };
        Row { entry: ENTRIES[entry], precision: "tf32".into(), n_members, cost, sides }
    }

    fn reached() -> Result<Value, String> {
        Ok(json!({
            "card": "H", "driver": "580.1", "cuda": "13.0", "version": "2.11", "n": 8192,
            "flops_per_sec": {"tf32": 4e14, "bf16": 7.5e14}, "bytes_per_sec": 3e12,
        }))
    }

    #[test]
    fn a_row_has_times_ratio_and_shares() {
        let sides = [
            measured(&[0.010, 0.011, 0.012]),
            measured(&[0.008, 0.008, 0.008]),
            measured(&[0.005, 0.0055, 0.006]),
        ];
        let text = markdown(&reached(), &[row(0, 1, sides)], &flags());
        // 1 TFLOP in 11 ms of 400 TFLOP/s, and 3 GiB of 3 TB/s.
        let expected = "| `fflm-base` | tf32 | 11.0 (10.5-11.5) | 8.00 | 5.50 | **0.50** (0.50-0.50) | 22.7 % | 9.76 % |";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.starts_with(
                "On H (cuda:0), driver 580.1, CUDA 13.0, PyTorch 2.11, commit abc1234. "
            )
        );
        assert!(text.contains("400 TFLOP/s in tf32, 750 TFLOP/s in bf16, a copy 3.00 TB/s"));
        assert!(!text.contains("Missing") && !text.contains("cohort"), "{text}");
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        assert_eq!(shortened("no room"), "no room");
        assert_eq!(shortened(&"ä".repeat(160)), "ä".repeat(160));
        assert_eq!(shortened(&"ä".repeat(161)), "ä".repeat(160) + " ...");
    }

    #[test]
    fn a_cohort_has_rates() {
        let sides =
            [measured(&[0.001, 0.001, 0.002]), measured(&[0.004; 3]), measured(&[0.005; 3])];
        let text = markdown(&reached(), &[row(1, 25, sides)], &flags());
        let expected = "| `fflm-mid`, 25 at once | tf32 | 1000 (750-1000) | 250 | 200 | **4.00** (3.00-4.00) |";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("| workload |"), "{text}");
    }

    #[test]
    fn what_failed_and_what_there_was_no_time_for_is_said() {
        let rows = [
            row(0, 1, [failed("ours stopped: no bf16"), measured(&[0.1; 3]), measured(&[0.2])]),
            row(2, 1, [measured(&[0.1; 3]), failed("eager stopped: x"), measured(&[0.2; 3])]),
            row(3, 1, Default::default()),
        ];
        let text = markdown(&Err("ceiling: cannot start".into()), &rows, &flags());
        for expected in [
            "On cuda:0, whose rates are not known: ceiling: cannot start.",
            "| `fflm-base` | tf32 | failed | 100 | 200 | - | - | - |",
            "| `lstm` | tf32 | 100 (100-100) | failed | 200 | **2.00** (2.00-2.00) | - | - |",
            "| `birth` | tf32 | no time | no time | no time | - | - | - |",
            "- `fflm-base`, tf32, 0 of 3 rounds; ours stopped: no bf16\n",
            "- `fflm-base`, tf32, 1 of 3 rounds; compile: the 9 minutes were over\n",
            "- `lstm`, tf32, 0 of 3 rounds; eager stopped: x\n",
            "- `birth`, tf32: not measured, the 9 minutes were over\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}
