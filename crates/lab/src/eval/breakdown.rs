//! Where errors live: the reads of a flip-flop set, apart by what lies before them.
//!
//! ```text
//! pos     0  1  2  3  4  5  6  7  8  9 10 11
//! token   w  1  r  1  w  0  i  1  i  0  r  0
//!                     ^--------------+  |      distance 3, two writes, two ignores, position 5
//!                                    ^         the nearest distractor agrees: it says 0 too
//! ```
//!
//! | by | what is counted of a read | bins |
//! |---|---|---|
//! | `distance` | instructions from the last write to the read, at least 1 | powers of two |
//! | `writes` | writes before it, at least 1 | powers of two |
//! | `ignores` | ignores since the last read or write | 0, then powers of two |
//! | `position` | instructions before it | eighths of the example |
//! | `distractor` | whether the last ignore since the last write has the bit that is right | `none`, `agrees`, `disagrees` |
//!
//! Bin `k` of the powers of two holds the values from `2^k` to `2^(k+1) - 1`. Bins depend on the
//! task alone, so two runs have the same ones; a bin without a read is left out. Each read is in one
//! bin of each table, so the counts of a table add up to the set's own.
//!
//! # Source
//!
//! Distances and numbers of writes are what Liu et al. 2023, section 4, explain the two tails of
//! errors by: gaps that training hardly shows, and more writes than it shows. Apart by the
//! distractor, the difference of two rates says how much the most recent bit is taken for the
//! written one.

use std::collections::BTreeMap;

use mnemoscope_engine::Ops;
use mnemoscope_model::Model;
use mnemoscope_stats::difference::{PairedCounts, difference_bootstrap};
use mnemoscope_stats::resample::ClusterCounts;
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::token::{IGNORE, READ, WRITE};
use mnemoscope_task::{Coding, Task, Token};
use serde_json::{Value, json};

use super::{Answered, Exam, Measured, Tally, each_batch, examples_per_batch, tally};
use crate::Error;
use crate::batch::Batch;

/// By what reads are told apart; the table of the module says what each counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are in the table of the module")]
pub enum By {
    Distance,
    Writes,
    Ignores,
    Position,
    Distractor,
}

/// Parts of an example that positions are counted in.
const N_PARTS: u32 = 8;

/// The last ignore since the last write, beside what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distractor {
    /// No ignore stands between the write and the read.
    None,
    /// Its symbol is the right one.
    Agrees,
    /// Its symbol is another one.
    Disagrees,
}

/// What lies before a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The place of the `r`.
    pub query_pos: u32,
    /// Instructions from the last write to the read, at least 1.
    pub distance: u32,
    /// Writes before it, at least 1.
    pub n_writes: u32,
    /// Ignores since the last read or write.
    pub n_ignores: u32,
    /// The last ignore since the last write.
    pub distractor: Distractor,
}

/// What lies before each scored read of a flip-flop example, in order.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::eval::{Distractor, contexts};
///
/// let reads = contexts(&[0, 4, 1, 4, 0, 3, 2, 4, 2, 3, 1, 3]); // w1 r1 w0 i1 i0 r0
/// let last = reads[1];
/// assert_eq!((last.distance, last.n_writes, last.n_ignores), (3, 2, 2));
/// assert_eq!(last.distractor, Distractor::Agrees);
/// assert_eq!((reads[0].distance, reads[0].distractor), (1, Distractor::None));
/// ```
#[must_use]
pub fn contexts(tokens: &[Token]) -> Vec<Context> {
    let mut found = Vec::new();
    let (mut written, mut n_writes, mut n_ignores) = (None, 0, 0);
    let mut distractor = None;
    for (idx, &[op, symbol]) in (0_u32..).zip(tokens.as_chunks::<2>().0) {
        match (op, written) {
            (WRITE, _) => {
                (written, distractor) = (Some((symbol, idx)), None);
                n_writes += 1;
            }
            (READ, Some((right, write_idx))) => found.push(Context {
                query_pos: 2 * idx,
                distance: idx - write_idx,
                n_writes,
                n_ignores,
                distractor: match distractor {
                    None => Distractor::None,
                    Some(said) if said == right => Distractor::Agrees,
                    Some(_) => Distractor::Disagrees,
                },
            }),
            (IGNORE, _) => distractor = Some(symbol),
            _ => {}
        }
        n_ignores = if op == IGNORE { n_ignores + 1 } else { 0 };
    }
    found
}

/// Whether a task asks at the reads that [`contexts`] knows: a token each for instruction and symbol.
#[must_use]
pub fn has_reads(task: &Task) -> bool {
    task.flipflop().is_some() && task.coding() == Coding::Tokens
}

impl By {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 5] =
        [Self::Distance, Self::Writes, Self::Ignores, Self::Position, Self::Distractor];

    /// The word for it in commands and in what they print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Distance => "distance",
            Self::Writes => "writes",
            Self::Ignores => "ignores",
            Self::Position => "position",
            Self::Distractor => "distractor",
        }
    }

    /// What is counted, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Distance => "instructions from the last write to the read",
            Self::Writes => "writes before the read",
            Self::Ignores => "ignores since the last read or write",
            Self::Position => "instructions before the read",
            Self::Distractor => "the last ignored bit since the write, and the right one",
        }
    }

    /// How the bins are chosen, for people.
    #[must_use]
    pub fn binning(self) -> &'static str {
        match self {
            Self::Distance | Self::Writes | Self::Ignores => "powers of two",
            Self::Position => "eighths of the example",
            Self::Distractor => "none, agrees, disagrees",
        }
    }

    /// The bin of a read: its least and its largest value.
    fn bin(self, read: &Context, n_ops: u32) -> (u32, u32) {
        match self {
            Self::Distance => power_of_two(read.distance),
            Self::Writes => power_of_two(read.n_writes),
            Self::Ignores => power_of_two(read.n_ignores),
            Self::Position => {
                let width = n_ops.div_ceil(N_PARTS);
                let first = read.query_pos / 2 / width * width;
                (first, (first + width).min(n_ops) - 1)
            }
            Self::Distractor => (read.distractor as u32, read.distractor as u32),
        }
    }

    /// A bin's name, for people.
    fn label(self, (first, last): (u32, u32)) -> String {
        match self {
            Self::Distractor => ["none", "agrees", "disagrees"][first as usize].to_owned(),
            _ if first == last => first.to_string(),
            _ => format!("{first}-{last}"),
        }
    }
}

fn power_of_two(value: u32) -> (u32, u32) {
    match value.checked_ilog2() {
        None => (0, 0),
        Some(log) => (1 << log, (1 << log) + ((1 << log) - 1)),
    }
}

/// The counts of a set, apart by one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Breakdown {
    /// By what.
    pub by: By,
    /// From the least and the largest value of a bin to errors and trials by example.
    pub bins: BTreeMap<(u32, u32), ClusterCounts>,
    /// By the distractor: the reads whose distractor disagrees and those where it agrees, example by example.
    pub gap: Option<PairedCounts>,
}

impl Breakdown {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(by: By) -> Self {
        let gap = (by == By::Distractor).then(PairedCounts::default);
        Self { by, bins: BTreeMap::new(), gap }
    }

    /// Counts one example: what lies before each read, and whether it was answered wrong.
    pub fn add_example(&mut self, n_ops: u32, reads: &[(Context, bool)]) {
        let mut counts: BTreeMap<(u32, u32), (u64, u64)> = BTreeMap::new();
        for (read, wrong) in reads {
            let (n_errors, n_trials) = counts.entry(self.by.bin(read, n_ops)).or_default();
            *n_errors += u64::from(*wrong);
            *n_trials += 1;
        }
        if let Some(gap) = &mut self.gap {
            let of = |distractor: Distractor| {
                let bin = (distractor as u32, distractor as u32);
                counts.get(&bin).copied().unwrap_or_default()
            };
            gap.add([of(Distractor::Disagrees), of(Distractor::Agrees)]);
        }
        for (bin, (n_errors, n_trials)) in counts {
            self.bins.entry(bin).or_default().add(n_errors, n_trials);
        }
    }

    /// The numbers of each bin, each with its count and intervals, as for a whole set. By the distractor also
    /// the `gap`, the rate where it disagrees less that where it agrees, if there are reads of both.
    ///
    /// # Randomness
    ///
    /// The bootstrap over examples of a bin, and that of the gap, resamples from a stream of its own, derived
    /// from `stream`.
    #[must_use]
    pub fn to_json(&self, confidence: f64, n_resamples: u32, stream: &Stream) -> Value {
        let stream = stream.derive(self.by.name());
        let bin = |(&bin, counts): (&(u32, u32), &ClusterCounts)| {
            let label = self.by.label(bin);
            let stream = stream.derive(&label);
            let mut result = tally::judged(counts, confidence, n_resamples, &stream);
            result["bin"] = json!(label);
            result["n_clusters"] = json!(counts.n_clusters());
            if self.by != By::Distractor {
                result["values"] = json!([bin.0, bin.1]);
            }
            result
        };
        let mut result = json!({
            "what": self.by.title(),
            "binning": self.by.binning(),
            "bins": self.bins.iter().map(bin).collect::<Vec<_>>(),
        });
        let gap = self.gap.as_ref().and_then(|counts| {
            difference_bootstrap(counts, confidence, n_resamples, &stream.derive("gap"))
        });
        if let Some(gap) = gap {
            result["gap"] = json!(gap);
        }
        result
    }
}

/// [`evaluate`](super::evaluate), and the same counts apart by each of `by`.
///
/// # Arguments
///
/// - `batch_size`: examples at a time; `None` takes as many as fit. No count depends on it.
///
/// # Errors
///
/// As [`evaluate`](super::evaluate).
///
/// # Panics
///
/// If reads shall be told apart in a language that has none.
pub fn evaluate_apart<B: Ops>(
    batch_size: Option<u64>,
    model: &Model<B>,
    exam: &Exam<'_>,
    by: &[By],
    device: &B::Device,
    watch: &mut dyn FnMut(&Tally) -> bool,
) -> Result<(Measured, Vec<Breakdown>), Error> {
    assert!(
        by.is_empty() || has_reads(exam.task),
        "the {} language has no reads of one token each to tell apart",
        exam.task.name()
    );
    let batch_size =
        batch_size.unwrap_or_else(|| examples_per_batch(&model.spec(), exam.task.seq_len()));
    let mut measured = Measured::default();
    let mut breakdowns: Vec<Breakdown> = by.iter().map(|&by| Breakdown::new(by)).collect();
    measured.complete = each_batch(batch_size, model, exam, device, &mut |batch, logits| {
        measured.count(exam, batch, logits);
        if !breakdowns.is_empty() {
            count(&mut breakdowns, exam, batch, logits);
        }
        watch(&measured.tally)
    })?;
    Ok((measured, breakdowns))
}

/// Counts the answers to one batch in every table.
fn count(breakdowns: &mut [Breakdown], exam: &Exam<'_>, batch: &Batch, logits: &[f32]) {
    let d_vocab = logits.len() / batch.questions.len();
    let mut rows = batch.questions.iter().zip(logits.chunks_exact(d_vocab));
    let n_ops = u32::try_from(batch.seq_len / 2).expect("an example has at most 2^24 tokens");
    for example in 0..batch.n_examples {
        let reads: Vec<(Context, bool)> = contexts(batch.example(example))
            .into_iter()
            .zip(&mut rows)
            .map(|(read, (ask, row))| {
                let at = (ask.example as usize, ask.query_pos);
                assert_eq!(at, (example, read.query_pos), "a question is not at the next read");
                (read, Answered::from_logits(row, exam.task.symbols()).predicted != ask.answer)
            })
            .collect();
        for breakdown in &mut *breakdowns {
            breakdown.add_example(n_ops, &reads);
        }
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_task::FlipFlop;

    use super::*;

    /// The same by looking back from the read: no state is carried along.
    fn looking_back(tokens: &[Token], query_pos: usize) -> Context {
        let before = |op: Token| (0..query_pos).step_by(2).filter(move |&pos| tokens[pos] == op);
        let write_pos = before(0).next_back().unwrap();
        let last_other = (0..query_pos).step_by(2).rfind(|&pos| tokens[pos] != 2).unwrap();
        let distractor = match before(2).rfind(|&pos| pos > write_pos) {
            None => Distractor::None,
            Some(pos) if tokens[pos + 1] == tokens[write_pos + 1] => Distractor::Agrees,
            Some(_) => Distractor::Disagrees,
        };
        Context {
            query_pos: query_pos as u32,
            distance: ((query_pos - write_pos) / 2) as u32,
            n_writes: before(0).count() as u32,
            n_ignores: ((query_pos - last_other) / 2 - 1) as u32,
            distractor,
        }
    }

    #[test]
    fn what_lies_before_a_read_is_what_looking_back_finds() {
        for p_ignore in [0.8, 0.98, 0.1, 0.0] {
            let task = Task::FlipFlop(FlipFlop::paper(p_ignore).unwrap());
            for index in 0..20 {
                let tokens = task.example(&Stream::root(2).derive("contexts"), index);
                let reads = (0..512).step_by(2).filter(|&pos| tokens[pos] == READ);
                let expected: Vec<Context> = reads.map(|pos| looking_back(&tokens, pos)).collect();
                assert_eq!(contexts(&tokens), expected);
            }
        }
    }

    #[test]
    fn a_read_before_any_write_is_not_scored() {
        assert_eq!(contexts(&[1, 3, 2, 4, 0, 4, 1, 4]).len(), 1);
    }

    #[test]
    fn bins_hold_their_values_and_leave_no_gap() {
        for value in 0..2000 {
            let (first, last) = power_of_two(value);
            assert!(first <= value && value <= last);
            assert_eq!(power_of_two(last + 1).0, last + 1);
        }
        assert_eq!(power_of_two(u32::MAX), (1 << 31, u32::MAX));
        // Ten instructions make five bins of two; eighths of 256 are 32 wide.
        let read = |idx: u32| Context { query_pos: 2 * idx, ..looking_back(&[0, 3, 1, 3], 2) };
        assert_eq!(By::Position.bin(&read(9), 10), (8, 9));
        assert_eq!(By::Position.bin(&read(255), 256), (224, 255));
        assert_eq!(By::Position.bin(&read(8), 9), (8, 8));
    }

    #[test]
    fn a_bin_is_judged_like_a_set_and_counts_its_examples() {
        let mut breakdown = Breakdown::new(By::Distance);
        let read = |distance| Context { distance, ..looking_back(&[0, 3, 1, 3], 2) };
        breakdown.add_example(8, &[(read(1), false), (read(2), true), (read(3), true)]);
        breakdown.add_example(8, &[(read(1), false), (read(3), false)]);
        let said = breakdown.to_json(0.95, 200, &Stream::root(0));
        let bins = said["bins"].as_array().unwrap();
        assert_eq!(bins.len(), 2);
        assert_eq!((&bins[0]["bin"], &bins[0]["n_trials"]), (&json!("1"), &json!(2)));
        assert_eq!((&bins[1]["bin"], &bins[1]["values"]), (&json!("2-3"), &json!([2, 3])));
        assert_eq!((&bins[1]["n_trials"], &bins[1]["n_errors"]), (&json!(3), &json!(2)));
        assert_eq!(
            (&bins[1]["n_clusters"], &bins[1]["error_rate"]),
            (&json!(2), &json!(2.0 / 3.0))
        );
        assert_eq!(bins[0]["cluster_method"], "worst-case");
        assert!(said.get("gap").is_none());
    }

    #[test]
    fn the_gap_is_the_rate_where_the_distractor_disagrees_less_that_where_it_agrees() {
        let mut breakdown = Breakdown::new(By::Distractor);
        let read = |distractor| Context { distractor, ..looking_back(&[0, 3, 1, 3], 2) };
        let [agrees, disagrees] = [Distractor::Agrees, Distractor::Disagrees].map(read);
        let none = read(Distractor::None);
        for example in 0..50 {
            let bad = example % 5 == 0;
            let reads = [(agrees, false), (disagrees, bad), (disagrees, false), (none, bad)];
            breakdown.add_example(8, &reads);
        }
        let said = breakdown.to_json(0.95, 400, &Stream::root(0));
        let gap = &said["gap"];
        assert_eq!((&gap["difference"], &gap["n_clusters"]), (&json!(0.1), &json!(50)));
        let [low, high] = [0, 1].map(|end| gap["interval"][end].as_f64().unwrap());
        assert!(0.0 < low && low < 0.1 && 0.1 < high && high < 0.25, "{gap}");
        // Without a read of one kind there is nothing to hold against the other.
        let mut alone = Breakdown::new(By::Distractor);
        alone.add_example(8, &[(agrees, true), (none, false)]);
        assert!(alone.to_json(0.95, 400, &Stream::root(0)).get("gap").is_none());
    }
}
