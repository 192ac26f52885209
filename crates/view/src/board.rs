//! A sweep while it runs: its arms with what is done, and the time that is left.

use crate::number;
use crate::sparkline::Trail;
use crate::table::{Align, Table};
use crate::text;

/// How one arm of a sweep stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmBoard {
    /// The arm.
    pub arm: String,
    /// Its runs.
    pub n_runs: u64,
    /// Those with a complete record.
    pub n_sealed: u64,
    /// Those under way in this process.
    pub n_running: u64,
    /// Those under way in another.
    pub n_elsewhere: u64,
    /// Those that came to no good end.
    pub n_failed: u64,
    /// The share of its work that is done, from 0 to 1.
    pub done: f64,
    /// Losses of the run of it that moved last.
    pub losses: Trail,
}

/// Cells of a bar.
const N_CELLS: usize = 10;
/// Columns of a curve.
const N_COLUMNS: usize = 12;

/// The table of a sweep's arms, at most `most` of them, and a line that sums up all.
///
/// Arms where something happens stand first. Where something is trained, each has the losses of the run that moved
/// last, between their lowest and their highest.
///
/// # Arguments
///
/// - `left_secs`: the time that the rest will take, if that can be told.
///
/// # Example
///
/// ```
/// use mnemoscope_view::board::{ArmBoard, page};
///
/// let lstm = ArmBoard { arm: "lstm".into(), n_runs: 4, n_sealed: 1, n_running: 2, done: 0.5, ..ArmBoard::default() };
/// let page = page(&[lstm], Some(90.0), 12);
/// assert!(page.contains("█████░░░░░  50 %"), "{page}");
/// assert!(page.ends_with("1 of 4 runs sealed, 2 running, 90 s left"), "{page}");
/// ```
#[must_use]
pub fn page(arms: &[ArmBoard], left_secs: Option<f64>, most: usize) -> String {
    let mut shown: Vec<&ArmBoard> = arms.iter().collect();
    if arms.len() > most {
        shown.sort_by_key(|arm| (arm.n_running == 0, arm.n_failed == 0, arm.done >= 1.0));
        shown.truncate(most);
    }
    let has_curves = shown.iter().any(|arm| !arm.losses.is_empty());
    let mut columns = vec![
        ("arm", Align::Left),
        ("sealed", Align::Right),
        ("running", Align::Right),
        ("failed", Align::Right),
        ("done", Align::Left),
    ];
    columns.extend(has_curves.then_some(("loss", Align::Left)));
    let mut table = Table::new(&columns);
    for arm in &shown {
        let mut row = vec![
            text::cut(&arm.arm, if has_curves { 18 } else { 32 }),
            format!("{} of {}", arm.n_sealed, arm.n_runs),
            (arm.n_running + arm.n_elsewhere).to_string(),
            arm.n_failed.to_string(),
            bar(arm.done),
        ];
        row.extend(has_curves.then(|| arm.losses.line(N_COLUMNS)));
        table.row(row);
    }
    let mut page = table.to_string();
    if shown.len() < arms.len() {
        let n_more = (arms.len() - shown.len()) as u64;
        page += &format!("  and {} more\n", number::counted(n_more, "arm", "arms"));
    }
    page + "  " + &line(arms, left_secs)
}

/// All arms of a sweep in a line.
#[must_use]
pub fn line(arms: &[ArmBoard], left_secs: Option<f64>) -> String {
    let sum = |of: fn(&ArmBoard) -> u64| arms.iter().map(of).sum::<u64>();
    let n_runs = sum(|arm| arm.n_runs);
    let mut line = format!(
        "{} of {} sealed",
        number::count(sum(|arm| arm.n_sealed)),
        number::counted(n_runs, "run", "runs")
    );
    let more = [
        (sum(|arm| arm.n_running), "running"),
        (sum(|arm| arm.n_elsewhere), "elsewhere"),
        (sum(|arm| arm.n_failed), "failed"),
    ];
    for (n, word) in more.into_iter().filter(|(n, _)| *n > 0) {
        line += &format!(", {} {word}", number::count(n));
    }
    if let Some(secs) = left_secs {
        line += &format!(", {} left", number::secs(secs));
    }
    line
}

/// A share as a bar and a whole number of per cent; only what is complete has 100.
fn bar(done: f64) -> String {
    let done = if done.is_finite() { done.clamp(0.0, 1.0) } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
    let (n_full, per_cent) = ((done * N_CELLS as f64) as usize, (done * 100.0) as u64);
    format!("{}{} {per_cent:>3} %", "█".repeat(n_full), "░".repeat(N_CELLS - n_full))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::assert_fits;

    fn arm(name: &str, n_sealed: u64, n_running: u64, n_failed: u64) -> ArmBoard {
        let done = n_sealed as f64 / 25.0;
        ArmBoard {
            arm: name.to_owned(),
            n_runs: 25,
            n_sealed,
            n_running,
            n_failed,
            done,
            ..ArmBoard::default()
        }
    }

    #[test]
    fn a_board_shows_where_something_happens_and_sums_up_all() {
        let mut arms: Vec<ArmBoard> =
            (0..40).map(|idx| arm(&format!("n_layers={idx} lr=0.0003"), 0, 0, 0)).collect();
        arms[1] = arm("n_layers=1 lr=0.0003", 25, 0, 0);
        arms[7] =
            arm("a long name of an arm that has no room on a page of eighty columns", 3, 2, 0);
        arms[30] = ArmBoard { n_elsewhere: 4, ..arm("n_layers=30 lr=0.0003", 20, 0, 1) };
        let page = page(&arms, Some(7_300.0), 4);
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn a_board_of_arms_in_training_has_their_losses_and_still_fits() {
        let mut arms =
            vec![arm("n_layers=1 lr=0.0003 d_model=128", 625, 2, 625), arm("lstm", 0, 0, 0)];
        arms[0].n_runs = 1250;
        for step in 0..5000 {
            arms[0].losses.push(1.0 / f64::from(step + 1).sqrt());
        }
        let page = page(&arms, Some(90.0), 12);
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn nothing_but_the_whole_is_a_hundred_per_cent() {
        assert_eq!(bar(0.999), "█████████░  99 %");
        assert_eq!(bar(1.0), "██████████ 100 %");
        assert_eq!(bar(f64::NAN), "░░░░░░░░░░   0 %");
    }
}
