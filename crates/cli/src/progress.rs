//! Progress on standard error: bars with rate and remaining time, or plain lines when nobody
//! watches a terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mnemoscope_lab::clock::{Clock as _, SystemClock};
use mnemoscope_lab::event::{Progress, Watcher};
use mnemoscope_view::sparkline::{self, Trail};
use mnemoscope_view::{number, text};

use crate::interrupt::Interrupt;

/// Seconds between two plain lines about the same work.
const LINE_EVERY_SECS: f64 = 5.0;

/// Columns of the words after a bar.
const WORDS_COLUMNS: usize = 30;
/// Columns of a live curve.
const CURVE_COLUMNS: usize = 40;
/// Columns of its name.
const NAME_COLUMNS: usize = 12;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A bar that moves.
    Bars,
    /// A line now and then.
    Lines,
    /// Not at all.
    Silent,
}

/// Shows what happens, and passes on the wish to stop.
pub(crate) struct Watch {
    mode: Mode,
    interrupt: Interrupt,
    clock: SystemClock,
    bar: ProgressBar,
    /// What the bar is about: training, or an evaluation set.
    work: String,
    /// The run in words, such as `2/10 lstm`.
    run: String,
    curves: Curves,
    line_secs: f64,
    work_began_secs: f64,
    said_stopping: AtomicBool,
}

/// What a run has shown of itself so far.
#[derive(Debug, Default)]
struct Curves {
    losses: Trail,
    first_loss: Option<f64>,
    /// Rates by set, and the counts of the last one.
    rates: BTreeMap<String, (Vec<f64>, u64, u64)>,
}

impl Curves {
    fn loss(&mut self, loss_nats: f64) {
        self.first_loss.get_or_insert(loss_nats);
        self.losses.push(loss_nats);
    }

    fn rate(&mut self, set: &str, n_errors: u64, n_trials: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a picture")]
        let rate = n_errors as f64 / n_trials.max(1) as f64;
        let (rates, errors, trials) = self.rates.entry(set.to_owned()).or_default();
        rates.push(rate);
        (*errors, *trials) = (n_errors, n_trials);
    }

    /// Lines beneath a bar, each beginning with a line break.
    fn lines(&self, loss: f64) -> String {
        let name = |name: &str| format!("{:>NAME_COLUMNS$}", text::cut(name, NAME_COLUMNS));
        let mut lines = String::new();
        if let (Some(first), false) = (self.first_loss, self.losses.is_empty()) {
            let line = self.losses.line(CURVE_COLUMNS);
            let [first, now] = [first, loss].map(number::rate);
            lines += &format!("\n{}  {line:<CURVE_COLUMNS$}  {first} → {now}", name("loss"));
        }
        for (set, (rates, n_errors, n_trials)) in &self.rates {
            let line = sparkline::log_rates(rates, CURVE_COLUMNS);
            let of = format!("{} of {}", number::count(*n_errors), number::count(*n_trials));
            lines += &format!("\n{}  {line:<CURVE_COLUMNS$}  {of}", name(set));
        }
        lines
    }
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn new(shown: bool, interrupt: Interrupt, clock: SystemClock) -> Self {
        let mode = match (shown, std::io::stderr().is_terminal()) {
            (true, true) => Mode::Bars,
            (true, false) => Mode::Lines,
            (false, _) => Mode::Silent,
        };
        Self {
            mode,
            interrupt,
            clock,
            bar: ProgressBar::hidden(),
            work: String::new(),
            run: String::new(),
            curves: Curves::default(),
            line_secs: clock.elapsed_secs(),
            work_began_secs: clock.elapsed_secs(),
            said_stopping: AtomicBool::new(false),
        }
    }

    /// Says which run of how many comes next.
    pub(crate) fn next_run(&mut self, arm: &str, idx: usize, n_runs: usize) {
        self.finish();
        self.curves = Curves::default();
        self.run = match n_runs {
            1 => arm.to_owned(),
            _ => format!("{}/{n_runs} {arm}", idx + 1),
        };
    }

    /// Moves a piece of work on: how much is done, and a few words about it.
    pub(crate) fn advance(&mut self, work: &str, done: u64, total: u64, words: &str) {
        if self.work != work {
            self.begin(work, done, total);
        }
        match self.mode {
            Mode::Silent => {}
            Mode::Bars => {
                self.bar.set_position(done);
                self.bar.set_message(text::cut(words, WORDS_COLUMNS));
            }
            Mode::Lines => self.line(done, total, words),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.work.clear();
    }

    /// Says something between the bars.
    pub(crate) fn note(&self, words: &str) {
        match self.mode {
            Mode::Silent => {}
            Mode::Bars => self.bar.suspend(|| print_line(words)),
            Mode::Lines => print_line(words),
        }
    }

    fn begin(&mut self, work: &str, done: u64, total: u64) {
        self.finish();
        work.clone_into(&mut self.work);
        self.work_began_secs = self.clock.elapsed_secs();
        if self.mode == Mode::Bars {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{prefix:<21!} {bar:10} {percent:>3}% {eta:>4} left  {msg}",
            );
            // The template is a constant of ours; a bar without it would still be a bar.
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("█▌░"));
            bar.set_prefix(text::cut(&self.title(), 21));
            bar.set_position(done);
            bar.reset_eta();
            self.bar = bar;
        }
    }

    fn title(&self) -> String {
        match (self.run.as_str(), self.work.as_str()) {
            ("", work) => work.to_owned(),
            // The work first: a long name of an arm is cut, and the work is what changes.
            (run, work) => format!("{work} {run}"),
        }
    }

    fn line(&mut self, done: u64, total: u64, words: &str) {
        let now = self.clock.elapsed_secs();
        if now - self.line_secs < LINE_EVERY_SECS && done < total {
            return;
        }
        self.line_secs = now;
        let left = remaining_secs(done, total, now - self.work_began_secs);
        let left = left.map(|secs| format!(", {} left", number::secs(secs))).unwrap_or_default();
        let (done, total) = (number::count(done), number::count(total));
        print_line(&format!("{}: {done} of {total}, {words}{left}", self.title()));
    }
}

/// What is left to wait if the work goes on as it went.
fn remaining_secs(done: u64, total: u64, secs: f64) -> Option<f64> {
    if done == 0 || done >= total || secs <= 0.0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    Some(secs * (total - done) as f64 / done as f64)
}

fn print_line(words: &str) {
    // With standard error closed there is nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "{words}"));
}

impl Watcher for Watch {
    fn event(&mut self, event: &Progress) {
        match event {
            Progress::Started { run, .. } => self.note(&format!("{}: run {run}", self.run)),
            Progress::Resumed { run, step, n_steps, .. } => {
                let words = format!("{}: run {run} goes on at step {step} of {n_steps}", self.run);
                self.note(&words);
            }
            Progress::Step { step, n_steps, loss_nats, tokens_per_sec } => {
                self.curves.loss(*loss_nats);
                let loss = number::rate(*loss_nats);
                let speed = number::quantity(*tokens_per_sec, "tokens/s");
                self.advance("train", *step, *n_steps, &format!("loss {loss}, {speed}"));
                if self.mode == Mode::Bars {
                    let words = text::cut(&format!("loss {loss}, {speed}"), WORDS_COLUMNS);
                    self.bar.set_message(words + &self.curves.lines(*loss_nats));
                }
            }
            // Where nobody watches a terminal a line for each point would drown the others; it is in the record.
            Progress::Curve { set, n_trials, n_errors, .. } => {
                self.curves.rate(set, *n_errors, *n_trials);
            }
            Progress::Eval { set, n_examples_done, n_examples, n_trials, n_errors } => {
                let errors = number::counted(*n_errors, "error", "errors");
                let words = format!("{errors} in {}", number::count(*n_trials));
                self.advance(set, *n_examples_done, *n_examples, &words);
            }
            Progress::Sealed { .. } => self.finish(),
            Progress::AlreadySealed { run, .. } => {
                self.note(&format!("{}: run {run} was done before", self.run));
            }
            Progress::Note(words) => self.note(words),
        }
    }

    fn stop_requested(&self) -> bool {
        let asked = self.interrupt.asked();
        if asked && !self.said_stopping.swap(true, Ordering::SeqCst) {
            self.note("stopping: saving the state; Ctrl-C again aborts at once");
        }
        asked
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_is_a_proportion_or_nothing() {
        assert_eq!(remaining_secs(0, 10, 5.0), None);
        assert_eq!(remaining_secs(10, 10, 5.0), None);
        assert_eq!(remaining_secs(5, 10, 0.0), None);
        assert!((remaining_secs(5, 20, 10.0).unwrap() - 30.0).abs() < 1e-9);
    }

    #[test]
    fn live_curves_fit_beneath_a_bar() {
        let mut curves = Curves::default();
        assert_eq!(curves.lines(0.7), "");
        for step in 0..1000 {
            curves.loss(0.7 - 0.0005 * f64::from(step));
        }
        curves.rate("val", 1_300, 26_508);
        curves.rate("val", 0, 26_508);
        curves.rate("a_set_with_a_long_name", 4, 3_538_750);
        let lines = curves.lines(0.2005);
        let lines: Vec<String> =
            lines.split('\n').skip(1).map(|it| it.replace('\u{2009}', "_")).collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        assert!(
            lines[0].starts_with("        loss  ██") && lines[0].ends_with("▁  0.700 → 0.201"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("a_set_with_…  ▁ ") && lines[1].ends_with("  4 of 3_538_750"),
            "{lines:?}"
        );
        assert!(
            lines[2].contains("         val  ▇· ") && lines[2].ends_with("  0 of 26_508"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_watch_passes_on_the_wish_to_stop() {
        let interrupt = Interrupt::default();
        let watch = Watch::new(false, interrupt.clone(), SystemClock);
        assert!(!watch.stop_requested());
        interrupt.ask();
        assert!(watch.stop_requested());
    }
}
