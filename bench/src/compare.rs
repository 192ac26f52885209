//! The coordinator: starts the sides, lets them take turns, and reports medians of ratios.

use std::path::{Path, PathBuf};
use std::process::Command;

use mnemoscope_lab::engine::device::{Device, Unavailable};
use serde_json::json;

use crate::side::{Finished, Side, append, ours};
use crate::workload::{ALL, Kind, Workload};
use crate::{say, tell};

/// What a person may choose.
pub(crate) struct Flags {
    python: String,
    /// The script of the other side.
    script: String,
    n_threads: usize,
    device: Device,
    precision: String,
    pub(crate) n_rounds: usize,
    pub(crate) only: Option<String>,
    history: Option<PathBuf>,
}

impl Flags {
    pub(crate) fn parse(args: &[String]) -> Result<Self, String> {
        let n_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut flags = Self {
            python: "python3".into(),
            script: "bench/pytorch/worker.py".into(),
            n_threads,
            device: Device::Cpu,
            precision: "f32".into(),
            n_rounds: 9,
            only: None,
            history: None,
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let count = || match value.parse() {
                Ok(count) if count > 0 => Ok(count),
                _ => Err(format!("{flag} is a whole number from 1, not {value}")),
            };
            match flag.as_str() {
                "--python" => flags.python.clone_from(value),
                "--script" => flags.script.clone_from(value),
                "--device" => {
                    flags.device =
                        value.parse().map_err(|unknown: Unavailable| unknown.to_string())?;
                    flags.device.precisions()[0].name().clone_into(&mut flags.precision);
                }
                "--precision" => flags.precision.clone_from(value),
                "--threads" => flags.n_threads = count()?,
                "--rounds" => flags.n_rounds = count()?,
                "--history" => flags.history = Some(value.into()),
                "--only" if ALL.iter().any(|workload| workload.name == value) => {
                    flags.only = Some(value.clone());
                }
                "--only" => {
                    let names: Vec<_> = ALL.iter().map(|workload| workload.name).collect();
                    return Err(format!("no workload {value}; there are {}", names.join(", ")));
                }
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        // What cannot be kept should not be measured first.
        flags.history.as_deref().map_or(Ok(()), |history| append(history, ""))?;
        Ok(flags)
    }
}

pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    say(
        "| workload | ours | eager, or loop | compiled, or batch | ratio (quartiles) | CPU ratio | peak, ours / theirs |",
    );
    say("|---|---|---|---|---|---|---|");
    let wanted = |workload: &&Workload| {
        let named = flags.only.as_ref().is_none_or(|only| only.as_str() == workload.name);
        named && (flags.device == Device::Cpu || !matches!(workload.kind, Kind::Draw(_)))
    };
    for workload in ALL.iter().filter(wanted) {
        let sides = measure(workload, flags)?;
        report(workload, &sides);
        if let Some(history) = &flags.history {
            remember(workload, flags, &sides, history)?;
        }
    }
    Ok(())
}

/// Ours first, then the other side in both forms.
fn measure(workload: &Workload, flags: &Flags) -> Result<Vec<Finished>, String> {
    let n_threads = workload.n_threads(flags.n_threads).to_string();
    let device = flags.device.to_string();
    let pytorch = |form: &str| {
        let mut command = Command::new(&flags.python);
        command.args([&flags.script, workload.name, form, &n_threads, &device, &flags.precision]);
        command
    };
    tell(&format!("{}: starting", workload.name));
    let [first, second] = workload.forms();
    let mut sides = vec![
        Side::start("ours", {
            let n_threads = workload.n_threads(flags.n_threads);
            let there = flags.device.precisions();
            let same = there.iter().find(|there| there.name() == flags.precision);
            ours(workload, n_threads, &device, same.unwrap_or(&there[0]).name(), 1)?
        })?,
        Side::start(first, pytorch(first))?,
        Side::start(second, pytorch(second))?,
    ];
    for round in 1..=flags.n_rounds {
        tell(&format!("{}: round {round} of {}", workload.name, flags.n_rounds));
        sides.iter_mut().try_for_each(Side::turn)?;
    }
    sides.into_iter().map(Side::finish).collect()
}

/// The other side whose median is the smaller.
fn better(sides: &[Finished]) -> &Finished {
    let [_, eager, compiled] = sides else { unreachable!("there are three sides") };
    if median(&compiled.wall) < median(&eager.wall) { compiled } else { eager }
}

/// Theirs over ours, round by round.
pub(crate) fn ratios(theirs: &[f64], ours: &[f64]) -> Vec<f64> {
    theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect()
}

fn report(workload: &Workload, sides: &[Finished]) {
    let [ours, eager, compiled] = sides else { unreachable!("there are three sides") };
    let best = better(sides);
    let ratio = ratios(&best.wall, &ours.wall);
    let time = |side: &Finished| duration(median(&side.wall));
    let mib = |side: &Finished| {
        side.peak_bytes.map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
    };
    say(&format!(
        "| `{}`, {} {} | {} | {} | {} | **{:.2}** ({:.2}-{:.2}) | {:.2} | {} / {} |",
        workload.name,
        if workload.unit.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" },
        workload.unit,
        time(ours),
        time(eager),
        time(compiled),
        median(&ratio),
        quantile(&ratio, 0.25),
        quantile(&ratio, 0.75),
        median(&ratios(&best.cpu, &ours.cpu)),
        mib(ours),
        mib(best),
    ));
}

/// One line of JSON for each workload: every round of every side.
fn remember(
    workload: &Workload,
    flags: &Flags,
    sides: &[Finished],
    history: &Path,
) -> Result<(), String> {
    let of = |side: &Finished| {
        json!({
            "hello": side.hello, "wall_secs": side.wall, "cpu_secs": side.cpu,
            "peak_bytes": side.peak_bytes,
        })
    };
    let ratio = ratios(&better(sides).wall, &sides[0].wall);
    let mut line = json!({
        "workload": workload.name, "about": workload.about, "unit": workload.unit,
        "device": flags.device.to_string(), "precision": flags.precision,
        "n_threads": workload.n_threads(flags.n_threads), "n_rounds": flags.n_rounds, "processor": processor(),
        "commit": commit(), "better": better(sides).name, "ratio": median(&ratio),
    });
    for side in sides {
        line[side.name] = of(side);
    }
    append(history, &format!("{line}\n"))
}

/// Seconds in the unit in which they are readable.
pub(crate) fn duration(secs: f64) -> String {
    let (scaled, unit) = match secs {
        secs if secs < 1e-6 => (secs * 1e9, "ns"),
        secs if secs < 1e-3 => (secs * 1e6, "us"),
        secs if secs < 1.0 => (secs * 1e3, "ms"),
        secs => (secs, "s"),
    };
    format!("{scaled:.3} {unit}")
}

/// The processor's name, where Linux tells it.
fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split(':').nth(1)?.trim().to_owned())
}

/// The commit that was checked out, where git tells it; the history does not count as a change to it.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let said = Command::new("git").args(args).output().ok()?;
        Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
    };
    let (commit, all_but) = (git(&["describe", "--always"])?, ":(top,exclude)bench/history.jsonl");
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":/", all_but])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The quantile at `share`, on a straight line between neighbours.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}

#[cfg(test)]
mod tests {
    use super::{Flags, quantile};

    #[test]
    fn quantiles_lie_on_lines_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        for (share, expected) in [(0.0, 1.0), (0.5, 2.5), (0.25, 1.75), (1.0, 4.0)] {
            assert!((quantile(&values, share) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_wrong_flag_says_what_there_is() {
        let parse = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
            Flags::parse(&flags).err()
        };
        assert!(parse(&["--only", "lstm", "--rounds", "3"]).is_none());
        assert!(parse(&["--only", "gru"]).unwrap().contains("fflm-base, fflm-mid"));
        assert!(parse(&["--rounds", "0"]).unwrap().contains("from 1"));
        assert!(parse(&["--rounds"]).unwrap().contains("needs a value"));
    }
}
