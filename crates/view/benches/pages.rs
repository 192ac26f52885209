//! The dashboard over a store of ten thousand synthetic runs: what a browser waits for, over a real socket.
//!
//! ```text
//! pages/first          the first page, by somebody who comes for the first time
//! pages/again          the same again
//! pages/last           the hundredth page
//! pages/where          a condition on plan and result
//! pages/sorted         sorted by a number of the result
//! pages/groups         grouped by arm, with mean, median and interval of every set
//! pages/unchanged      what an open page asks every second and a half, and is told that nothing has changed
//! ```
//!
//! Each answer is checked, then timed. `cargo bench --bench pages` makes 10 000 runs, in memory where the system has a
//! file system there; `cargo test` makes few and times nothing.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::unwrap_used, reason = "a wrong answer stops the benchmark")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mnemoscope_store::{RunReader, Store};
use mnemoscope_view::number;
use mnemoscope_view::serve::{Asked, Dashboard, Judged, Lab, Refusal, RefusalKind, Seen, Settings};

#[path = "../../store/benches/synthetic/mod.rs"]
mod synthetic;

use synthetic::{N_SEEDS, error_rate, id, make, n_layers};

/// Runs that are timed.
const N_RUNS: u64 = 10_000;
/// Enough for several pages.
const N_TESTED: u64 = 250;
/// What a first page may take.
const MOST_SECS: f64 = 0.3;

/// Synthetic runs have no models to ask.
struct Nobody;

impl Lab for Nobody {
    fn see(&mut self, _: &RunReader, _: &Asked) -> Result<Arc<Seen>, Refusal> {
        Err(Refusal::new(RefusalKind::NotFound, "there is no model"))
    }

    fn judge(&mut self, _: &str, _: &[RunReader]) -> Result<Judged, Refusal> {
        Ok(Judged::default())
    }
}

fn main() {
    let timing = std::env::args().any(|arg| arg == "--bench");
    let n_runs = if timing { N_RUNS } else { N_TESTED };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::open(&folder.path().join("runs")).unwrap();
    (0..n_runs).for_each(|idx| make(&store, idx));
    store.rebuild_index().unwrap();
    let settings =
        Settings { store, name: "synthetic".to_owned(), host: "127.0.0.1".to_owned(), token: None };
    let dashboard = Dashboard::bind("127.0.0.1:0".parse().unwrap(), settings).unwrap();
    let (address, stop) = (dashboard.address(), Arc::new(AtomicBool::new(false)));
    let asked = Arc::clone(&stop);
    let serve = move || dashboard.serve(Box::new(Nobody), move || asked.load(Ordering::SeqCst));
    let thread = std::thread::spawn(serve);
    questions(address, n_runs, timing);
    stop.store(true, Ordering::SeqCst);
    thread.join().unwrap().unwrap();
}

fn questions(address: SocketAddr, n_runs: u64, timing: bool) {
    let count = number::count;
    let counted = |from: u64, to: u64, n: u64| format!("Runs {from} to {to} of {}.", count(n));
    let youngest = format!("/run/{}", id(n_runs - 1));
    let first = [counted(1, 100, n_runs), youngest.clone()];
    let from = Instant::now();
    rung("first", timing, 1, || page(address, "/", &first));
    let secs = from.elapsed().as_secs_f64();
    assert!(!timing || secs < MOST_SECS, "the first page took {secs} s");
    rung("again", timing, 9, || page(address, "/", &first));
    let n_pages = n_runs.div_ceil(100);
    let last =
        format!("Runs {} to {} of {}.", count(n_pages * 100 - 99), count(n_runs), count(n_runs));
    rung("last", timing, 9, || {
        page(address, &format!("/?page={n_pages}"), std::slice::from_ref(&last))
    });
    let fits = |idx: &u64| n_layers(*idx) >= 4 && error_rate(*idx) > 0.5;
    let n_fit = (0..n_runs).filter(fits).count() as u64;
    let found = match n_fit {
        n if n > 100 => counted(1, 100, n),
        n => format!("{}.", number::counted(n, "run", "runs")),
    };
    let condition = "/?where=model.n_layers%3E=4+and+val_sparse.error_rate%3E0.5";
    rung("where", timing, 9, || page(address, condition, std::slice::from_ref(&found)));
    let lowest = (0..n_runs).min_by(|&a, &b| error_rate(a).total_cmp(&error_rate(b))).unwrap();
    let sorted = format!("{}\"><code>", id(lowest));
    rung("sorted", timing, 9, || {
        page(address, "/?sort=val.error_rate", std::slice::from_ref(&sorted))
    });
    let groups = number::counted(n_runs.div_ceil(N_SEEDS).min(6), "group", "groups");
    rung("groups", timing, 9, || page(address, "/?by=arm", std::slice::from_ref(&groups)));
    let (head, _) = get(address, "/live/runs");
    let revision = head
        .lines()
        .find_map(|line| line.strip_prefix("mnemoscope-revision: "))
        .unwrap()
        .to_owned();
    rung("unchanged", timing, 9, || {
        let (head, body) = get(address, &format!("/live/runs?since={revision}"));
        assert!(head.starts_with("HTTP/1.1 204") && body.is_empty());
        0
    });
}

fn get(address: SocketAddr, target: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Fetches a page, which holds these words, and returns its size.
fn page(address: SocketAddr, target: &str, words: &[String]) -> usize {
    let (_, body) = get(address, target);
    for word in words {
        assert!(body.contains(word.as_str()), "{target} does not say {word}");
    }
    body.len()
}

/// Asks once to check the answer, and several times to time it.
fn rung(name: &str, timing: bool, n_times: usize, mut question: impl FnMut() -> usize) {
    let mut secs = Vec::new();
    let mut n_bytes = 0;
    for _ in 0..if timing { n_times } else { 1 } {
        let from = Instant::now();
        n_bytes = question();
        secs.push(from.elapsed().as_secs_f64());
    }
    if timing {
        secs.sort_by(f64::total_cmp);
        let (median, most) = (secs[secs.len() / 2], secs[secs.len() - 1]);
        println!("pages/{name:<10} {median:>7.3} s, at most {most:.3} s ({n_bytes} bytes)");
    }
}
