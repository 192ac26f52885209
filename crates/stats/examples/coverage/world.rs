//! Simulated evaluations with a known true error rate, to check how often intervals contain it.
//!
//! The draws are the plainest possible, one number for each instruction and each read, and share
//! nothing with the binomial draws of the bootstrap.

use mnemoscope_stats::resample::ClusterCounts;
use mnemoscope_stats::stream::{Draws, Stream};

/// Sequences in one evaluation.
const N_CLUSTERS: u32 = 1_000;

/// Instructions of a sequence that may be reads, beside the last one, which is.
const N_FREE: u32 = 255;

/// The probability that a free instruction is a read, as in FFL(0.8).
const P_READ: f64 = 0.1;

/// A free instruction is a read if its word lies below this.
const READ_BELOW: u32 = (P_READ * 4_294_967_296.0) as u32;

/// Reads in a sequence, on average.
const READS_MEAN: f64 = 1.0 + N_FREE as f64 * P_READ;

/// How errors come about in sequences.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Each read errs by itself.
    Independent,
    /// A bad sequence errs in half of its reads.
    Half,
    /// A bad sequence errs in any share of its reads, all shares equally likely.
    AnyShare,
    /// Longer sequences are more often bad, and wrong throughout.
    Longer,
    /// Four bad sequences of five have a single error, the fifth errs throughout.
    Mixed,
}

impl Kind {
    /// The true error rate if `n_bad` sequences (errors, for independent reads) are expected in an
    /// evaluation: expected errors over expected reads of a sequence.
    pub(crate) fn error_rate(self, n_bad: f64) -> f64 {
        let p_bad = n_bad / f64::from(N_CLUSTERS);
        let reads_square_mean =
            READS_MEAN * READS_MEAN + f64::from(N_FREE) * P_READ * (1.0 - P_READ);
        match self {
            Self::Independent => p_bad / READS_MEAN,
            Self::Half | Self::AnyShare => 0.5 * p_bad,
            Self::Longer => p_bad * reads_square_mean / (READS_MEAN * READS_MEAN),
            Self::Mixed => p_bad * (0.8 / READS_MEAN + 0.2),
        }
    }

    /// The errors in a sequence of `n_reads` reads.
    fn errors(self, draws: &mut Draws, n_reads: u64, n_bad: f64) -> u64 {
        let p_bad = n_bad / f64::from(N_CLUSTERS);
        match self {
            Self::Independent => successes(draws, n_reads, p_bad / READS_MEAN),
            Self::Longer => {
                let stretch = n_reads as f64 / READS_MEAN;
                if draws.uniform() < p_bad * stretch { n_reads } else { 0 }
            }
            _ if draws.uniform() >= p_bad => 0,
            Self::Half => successes(draws, n_reads, 0.5),
            Self::AnyShare => {
                let share = draws.uniform();
                successes(draws, n_reads, share)
            }
            Self::Mixed if draws.uniform() < 0.8 => 1,
            Self::Mixed => n_reads,
        }
    }

    /// One simulated evaluation: item `index` of `stream`.
    pub(crate) fn evaluation(self, stream: &Stream, index: u64, n_bad: f64) -> ClusterCounts {
        let mut draws = stream.at(index);
        let mut counts = ClusterCounts::default();
        let mut instructions = [0; N_FREE as usize];
        for _ in 0..N_CLUSTERS {
            draws.fill_u32(&mut instructions);
            let n_free_reads = instructions.iter().map(|&word| u64::from(word < READ_BELOW));
            let n_reads = 1 + n_free_reads.sum::<u64>();
            let n_errors = self.errors(&mut draws, n_reads, n_bad);
            counts.add(n_errors, n_reads);
        }
        counts
    }
}

/// Successes in `n` trials, drawn one by one.
fn successes(draws: &mut Draws, n: u64, probability: f64) -> u64 {
    (0..n).map(|_| u64::from(draws.uniform() < probability)).sum()
}
