//! Two runs side by side, one thread each, against one of them alone.

use crate::compare::{Flags, duration, median, quantile};
use crate::side::{Side, ours};
use crate::workload::{ALL, Kind, Workload};
use crate::{say, tell};

/// For every workload that trains or evaluates: how much more two processes do than one.
pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    say("| workload | alone | beside another | throughput of two over one (quartiles) |");
    say("|---|---|---|---|");
    let wanted = |workload: &&Workload| match &flags.only {
        Some(only) => only.as_str() == workload.name,
        None => !matches!(workload.kind, Kind::Draw(_)) && workload.name != "fflm-base",
    };
    for workload in ALL.iter().filter(wanted) {
        measure(workload, flags.n_rounds)?;
    }
    Ok(())
}

fn measure(workload: &Workload, n_rounds: usize) -> Result<(), String> {
    tell(&format!("{}: starting", workload.name));
    let mut first = Side::start("first", ours(workload, 1, "cpu", "f32", 1)?)?;
    let mut second = Side::start("second", ours(workload, 1, "cpu", "f32", 1)?)?;
    // One after the other, then both at once, in turns.
    for round in 1..=n_rounds {
        tell(&format!("{}: round {round} of {n_rounds}", workload.name));
        first.begin_turn()?;
        first.end_turn()?;
        second.begin_turn()?;
        second.end_turn()?;
        first.begin_turn()?;
        second.begin_turn()?;
        first.end_turn()?;
        second.end_turn()?;
    }
    let turns = |side: &Side, odd: usize| -> Vec<f64> {
        side.wall.iter().copied().skip(odd).step_by(2).collect()
    };
    let alone = [turns(&first, 0), turns(&second, 0)];
    let beside = [turns(&first, 1), turns(&second, 1)];
    let ratio: Vec<f64> = (0..n_rounds)
        .map(|round| {
            let one = 2.0 / (alone[0][round] + alone[1][round]);
            (beside[0][round].recip() + beside[1][round].recip()) / one
        })
        .collect();
    say(&format!(
        "| `{}`, a {} | {} | {} | **{:.2}** ({:.2}-{:.2}) |",
        workload.name,
        workload.unit,
        duration(median(&alone.concat())),
        duration(median(&beside.concat())),
        median(&ratio),
        quantile(&ratio, 0.25),
        quantile(&ratio, 0.75),
    ));
    Ok(())
}
