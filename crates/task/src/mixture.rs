//! Mixtures: each example is drawn from one of several flip-flop languages.
//!
//! The paper's best intervention trains on an equal mixture of FFL(0.9) (in its appendix
//! FFL(0.8)), FFL(0.98) and FFL(0.1). It does not say whether the language is drawn for each
//! example or for each batch; here it is for each example, from the example's own draws, so that
//! a mixture has the same addresses as any other task.

use mnemoscope_stats::stream::Draws;
use serde::{Deserialize, Serialize};

use crate::complaint::{Complaint, plain};
use crate::error::{Cause, Error};
use crate::flipflop::FlipFlop;
use crate::token::Token;

/// Several flip-flop languages of one shape, each with a weight.
///
/// # Randomness
///
/// Two words choose the part, then the part draws as it would alone.
///
/// # Example
///
/// ```
/// use mnemoscope_task::{FlipFlop, Mixture, Part};
///
/// let part = |p_ignore| Ok::<_, mnemoscope_task::Error>(Part {
///     weight: 1.0,
///     task: FlipFlop::paper(p_ignore)?,
/// });
/// let mixture = Mixture::new(vec![part(0.8)?, part(0.98)?, part(0.1)?])?;
/// // A third each of 26.4, 3.54 and 115.3 reads.
/// assert!((mixture.expected_reads() - 48.41).abs() < 0.01);
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixture {
    /// The languages; all have the same `seq_len`, `n_symbols` and `coding`.
    pub parts: Vec<Part>,
}

/// One language of a [`Mixture`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How often this language is drawn, relative to the other weights.
    pub weight: f64,
    /// The language.
    pub task: FlipFlop,
}

impl Mixture {
    /// A mixture with every number checked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with all of [`Mixture::check`]'s
    /// complaints.
    pub fn new(parts: Vec<Part>) -> Result<Self, Error> {
        let mixture = Self { parts };
        let complaints = mixture.check();
        if complaints.is_empty() { Ok(mixture) } else { Err(Cause::Task { complaints }.into()) }
    }

    /// Everything that is wrong with the parts and with how they fit together.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let Some(first) = self.parts.first() else {
            let message = "a mixture has no parts; give it at least one".to_owned();
            return vec![Complaint::new("parts", message)];
        };
        let mut complaints = Vec::new();
        for (part_idx, part) in self.parts.iter().enumerate() {
            let mut complain = |complaint: Complaint| {
                complaints.push(Complaint { part: Some(part_idx), ..complaint });
            };
            part.task.check().into_iter().for_each(&mut complain);
            let weight = part.weight;
            if !(weight.is_finite() && weight >= 0.0) {
                let weight = plain(weight);
                let message = format!("weight is {weight}; use a finite number from 0 up");
                complain(Complaint::new("weight", message));
            }
            for (field, got, expected) in [
                ("seq_len", part.task.seq_len, first.task.seq_len),
                ("n_symbols", part.task.n_symbols, first.task.n_symbols),
            ] {
                if got != expected {
                    let message = format!(
                        "{field} is {got}, but {expected} in part 0; all parts need the same"
                    );
                    complain(Complaint::new(field, message));
                }
            }
            if part.task.coding != first.task.coding {
                let message = "coding is another one than in part 0; all parts need the same";
                complain(Complaint::new("coding", message.to_owned()));
            }
        }
        let total = self.total_weight();
        if !(total > 0.0 && total.is_finite()) && complaints.is_empty() {
            let total = plain(total);
            let message =
                format!("the weights of the parts add up to {total}; make one of them above 0");
            complaints.push(Complaint::new("parts", message));
        }
        complaints
    }

    fn total_weight(&self) -> f64 {
        self.parts.iter().map(|part| part.weight).sum()
    }

    /// Expected number of reads in one example.
    #[must_use]
    pub fn expected_reads(&self) -> f64 {
        self.mean(FlipFlop::expected_reads)
    }

    /// Standard deviation of the number of reads in one example: within the languages and
    /// between them.
    #[must_use]
    pub fn sd_reads(&self) -> f64 {
        let mean = self.expected_reads();
        let variance = self.mean(|language| {
            language.sd_reads().powi(2) + (language.expected_reads() - mean).powi(2)
        });
        variance.sqrt()
    }

    /// The weighted mean over the parts.
    fn mean(&self, value: impl Fn(&FlipFlop) -> f64) -> f64 {
        let sum: f64 = self.parts.iter().map(|part| part.weight * value(&part.task)).sum();
        sum / self.total_weight()
    }

    /// Draws a part, then an example from it.
    #[track_caller]
    pub(crate) fn generate_into(&self, draws: &mut Draws, out: &mut [Token]) {
        let language = self.part_at(draws.uniform());
        language.generate_into(draws, out);
    }

    /// The language that owns `place` when the parts share `[0, 1)` by weight.
    #[track_caller]
    fn part_at(&self, place: f64) -> &FlipFlop {
        let mut rest = place * self.total_weight();
        let mut last = None;
        // A part of weight 0 owns nothing; rounding may leave a rest, which the last owner gets.
        for part in self.parts.iter().filter(|part| part.weight > 0.0) {
            last = Some(&part.task);
            if rest < part.weight {
                break;
            }
            rest -= part.weight;
        }
        last.expect("a mixture has a part with weight above 0: `check` it first")
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_stats::stream::Stream;

    use super::*;
    use crate::Task;

    fn mixture(weighted: &[(f64, f64)]) -> Mixture {
        let part = |&(weight, p_ignore)| Part { weight, task: FlipFlop::paper(p_ignore).unwrap() };
        Mixture { parts: weighted.iter().map(part).collect() }
    }

    #[track_caller]
    fn check(mixture: &Mixture, expected: &[&str]) {
        let messages: Vec<String> =
            mixture.check().iter().map(|complaint| complaint.to_string()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn each_wrong_part_gets_a_message_with_its_number() {
        check(&mixture(&[(1.0, 0.8), (0.0, 0.1)]), &[]);
        check(&mixture(&[]), &["a mixture has no parts; give it at least one"]);
        check(
            &mixture(&[(0.0, 0.8), (0.0, 0.1)]),
            &["the weights of the parts add up to 0; make one of them above 0"],
        );
        let mut wrong = mixture(&[(1.0, 0.8), (-1.0, 0.1)]);
        wrong.parts[1].task.seq_len = 256;
        wrong.parts[1].task.n_symbols = 4;
        wrong.parts[1].task.p_read = 3.0;
        check(
            &wrong,
            &[
                "part 1: p_read is 3; use a probability between 0 and 1",
                "part 1: weight is -1; use a finite number from 0 up",
                "part 1: seq_len is 256, but 512 in part 0; all parts need the same",
                "part 1: n_symbols is 4, but 2 in part 0; all parts need the same",
            ],
        );
    }

    #[test]
    fn parts_share_the_unit_interval_by_weight() {
        let mixture = mixture(&[(0.0, 0.5), (1.0, 0.8), (0.0, 0.6), (3.0, 0.1), (0.0, 0.7)]);
        let check = |place: f64, p_ignore: f64| {
            assert!((mixture.part_at(place).p_ignore - p_ignore).abs() < 1e-12, "{place}");
        };
        check(0.0, 0.8);
        check(0.2499, 0.8);
        check(0.25, 0.1);
        check(1.0 - f64::EPSILON, 0.1);
        // Not reachable by a draw, but no place may belong to nobody.
        check(1.0, 0.1);
    }

    /// The number of examples of each part in 40,000: five standard deviations are allowed, so
    /// the test fails by chance once in 10^6 choices of the stream, and the stream is fixed.
    #[test]
    fn parts_are_drawn_as_often_as_their_weights_say() {
        let stream = Stream::root(5).derive("parts");
        let mixture = mixture(&[(1.0, 1.0), (3.0, 0.0)]);
        // With p_ignore 1 an example has one read; with p_ignore 0 at least a hundred.
        let task = Task::Mixture(mixture);
        let n_examples = 40_000;
        let mut tokens = vec![0; task.seq_len()];
        let n_sparse = (0..n_examples)
            .filter(|&index| {
                task.example_into(&stream, index, &mut tokens);
                tokens.iter().filter(|&&token| token == 1).count() == 1
            })
            .count() as f64;
        let expected = 0.25 * n_examples as f64;
        let sd = (n_examples as f64 * 0.25 * 0.75).sqrt();
        assert!((n_sparse - expected).abs() < 5.0 * sd, "{n_sparse}, expected {expected}");
    }

    #[test]
    fn a_mixture_of_one_is_that_language_after_two_words() {
        let one = mixture(&[(2.0, 0.8)]);
        let stream = Stream::root(1);
        let mut got = vec![0; 512];
        one.generate_into(&mut stream.at(0), &mut got);
        let mut draws = stream.at(0);
        draws.fill_u32(&mut [0; 2]);
        let mut expected = vec![0; 512];
        FlipFlop::paper(0.8).unwrap().generate_into(&mut draws, &mut expected);
        assert_eq!(got, expected);
    }
}
