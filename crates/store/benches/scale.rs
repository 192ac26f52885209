//! The store at size: an index of many synthetic runs made anew, asked, and listed.
//!
//! ```text
//! scale/rebuild        every directory read, the index written
//! scale/page           the first page of a listing, oldest first
//! scale/where/...      conditions on fields of plan and result
//! scale/group          one number of every run, as a grouping by arm asks for
//! scale/latest         the youngest run
//! ```
//!
//! Each question is checked against the runs that were made, then timed as whoever gives the command meets it: the
//! directories are compared with the index each time. `cargo bench --bench scale` makes 100 000 runs, in memory where
//! the system has a file system there (fsync is then free, and what is read is the same); `cargo test` makes few and
//! times nothing.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::unwrap_used, reason = "a wrong answer stops the benchmark")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::time::Instant;

use mnemoscope_store::{Filter, Selection, Store};
use serde_json::json;

mod synthetic;

use synthetic::{N_SEEDS, error_rate, id, make, n_layers};

/// Runs that are timed.
const N_RUNS: u64 = 100_000;
/// Enough for a large store, packed.
const N_TESTED: u64 = 2_600;

fn main() {
    let timing = std::env::args().any(|arg| arg == "--bench");
    let n_runs = if timing { N_RUNS } else { N_TESTED };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::open(&folder.path().join("runs")).unwrap();
    let from = Instant::now();
    (0..n_runs).for_each(|idx| make(&store, idx));
    if timing {
        println!("{n_runs} runs made in {:.1} s", from.elapsed().as_secs_f64());
    }
    rung("rebuild", timing, 1, || {
        store.rebuild_index().unwrap();
        n_runs
    });
    rung("page", timing, 5, || {
        let page = Selection { most: Some(100), ..Selection::default() };
        let selected = store.select(&page).unwrap();
        assert_eq!(selected.runs[0].id, id(0));
        assert_eq!(selected.n_fit as u64, n_runs);
        selected.runs.len() as u64
    });
    let check = |name: &str, text: &str, expected: &dyn Fn(u64) -> bool| {
        let filters: Vec<Filter> = vec![text.parse().unwrap()];
        let n_expected = (0..n_runs).filter(|&idx| expected(idx)).count();
        rung(&format!("where/{name}"), timing, 5, || {
            let most = Some(100);
            let selection = Selection { filters: filters.clone(), most, ..Selection::default() };
            let selected = store.select(&selection).unwrap();
            assert_eq!(selected.n_fit, n_expected, "{text}");
            selected.n_fit as u64
        });
    };
    check("plan", "plan.model.n_layers>=4", &|idx| n_layers(idx) >= 4);
    check("both", "plan.model.n_layers>=4 and result.eval.val_sparse.error_rate>0.5", &|idx| {
        n_layers(idx) >= 4 && error_rate(idx) > 0.5
    });
    check(
        "many",
        "(plan.train.n_steps=1000 or meta.arm=n_layers=3) and not plan.seeds.data<20 and status=sealed",
        &|idx| n_layers(idx) == 3 && idx % N_SEEDS >= 20,
    );
    check("none", "result.eval.val.n_errors>1000000", &|_| false);
    rung("group", timing, 5, || {
        let paths = ["meta.arm", "result.eval.val_sparse.error_rate"].map(str::to_owned);
        let rows = store.values(&Selection::default(), &paths).unwrap();
        assert_eq!(rows[7][1], json!(error_rate(7)));
        rows.len() as u64
    });
    rung("latest", timing, 5, || {
        assert_eq!(store.find("latest").unwrap().id(), id(n_runs - 1));
        1
    });
}

/// Asks a question once to check it, and several times to time it.
fn rung(name: &str, timing: bool, n_times: usize, mut question: impl FnMut() -> u64) {
    let (first, cpu_before) = (Instant::now(), cpu_secs());
    let n = question();
    let mut secs = vec![first.elapsed().as_secs_f64()];
    if !timing {
        return;
    }
    for _ in 1..n_times {
        let from = Instant::now();
        question();
        secs.push(from.elapsed().as_secs_f64());
    }
    let cpu = (cpu_secs() - cpu_before) / n_times as f64;
    secs.sort_by(f64::total_cmp);
    let (median, most) = (secs[secs.len() / 2], secs[secs.len() - 1]);
    println!(
        "scale/{name:<14} {median:>8.3} s, at most {most:.3} s, {cpu:.3} s of a processor ({n})"
    );
}

/// Seconds that this process has computed, where the system tells it: what a busy machine does not change.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: user and system time are fields 14 and 15, in hundredths.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |idx: usize| fields.get(idx).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
