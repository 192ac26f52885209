//! Light-switch stories: flip-flop strings told in sentences, for language models of any kind.
//!
//! ```text
//! sequence  w1               i0                  r1                w0              i1             r
//! told      Alice turns the  Then, Bob eats      Now, the light    Then, Alice     Then, Bob      Now, the
//!           light on.        a banana.           is on.            turns the       eats an        light is
//!                                                                  light off.      apple.
//! answer                                                                                           off
//! ```
//!
//! A story is a string of FFL(0.6); the answer to its last read is left to the model, as a choice of
//! two options, " on" and " off". Before it stands the story of another string, with its answer, as a
//! demonstration. No model is called here: a prompt goes out, and what a model made of it is
//! [scored](score()) when it comes back.
//!
//! Source: Liu, Ash, Goel, Krishnamurthy and Zhang, "Exposing Attention Glitches with Flip-Flop
//! Language Modeling", NeurIPS 2023, arXiv:2306.00946, figure 2 and appendix B.2.1. What the paper
//! leaves open is a field of [`Wording`].

mod answer;
pub mod oracle;

use mnemoscope_stats::stream::Stream;
use serde::{Deserialize, Serialize};

use crate::coding::Coding;
use crate::complaint::{Complaint, plain};
use crate::error::{Cause, Error};
use crate::flipflop::{FlipFlop, half_of_rest};
use crate::split;
use crate::task::{Target, reads};
use crate::text;
use crate::token::{FIRST_SYMBOL, READ, Token, WRITE};

pub use answer::{Said, Score, score};

/// What a model may answer, the option of bit 1 first. Each begins with the space before its word:
/// that is how most vocabularies of language models cut text.
pub const OPTIONS: [&str; 2] = [" on", " off"];

/// The most tokens of flip-flop that one prompt may tell: 2^20, about 16 MB of text.
const MAX_TOLD: u64 = 1 << 20;

/// A set of stories: which strings are told, and how.
///
/// # Example
///
/// ```
/// use mnemoscope_task::story::{Stories, Wording};
///
/// let stories = Stories { seq_lens: vec![8], n_shots: 0, ..Stories::paper() };
/// let story = stories.story(0, 8, 3);
/// assert_eq!(story.sequence, "w0i0i0r0");
/// assert_eq!(
///     story.prompt,
///     "Transcript of events: Alice turns the light off. Then, Bob eats a banana. Then, Bob \
///      eats a banana. Now, the light is"
/// );
/// assert_eq!((story.answer.as_str(), story.distance_ops), (" off", 3));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stories {
    /// Probability that a free instruction of a string is `i`; `w` and `r` share the rest.
    pub p_ignore: f64,
    /// Tokens of the strings that are asked about, the paper's `T`: one set for each.
    pub seq_lens: Vec<u32>,
    /// Stories of each length.
    pub n_per_len: u32,
    /// Stories with their answers before the one that is asked about.
    pub n_shots: u32,
    /// Tokens of the string of each of these.
    pub shot_len: u32,
    /// The words.
    pub wording: Wording,
}

/// How a string is told: everything that the paper leaves open, or prints in two ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wording {
    /// What stands before the first sentence of a story; nothing if empty.
    pub header: String,
    /// The word before each sentence about Alice or Bob but the first; none if empty.
    pub joint: String,
    /// The fruit that Bob eats for an ignored 0; for a 1 it is the other one.
    pub fruit_of_0: Fruit,
    /// What becomes of reads before the last one.
    pub inner_reads: InnerReads,
    /// What the model goes on from; an answered read is told by it and the answer.
    pub query: String,
}

/// A fruit that Bob eats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fruit {
    /// "Bob eats a banana."
    Banana,
    /// "Bob eats an apple."
    Apple,
}

/// What becomes of reads before the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InnerReads {
    /// The query and its answer, as a sentence: "Now, the light is on."
    Told,
    /// Nothing: only Alice and Bob are told of.
    Omitted,
}

/// One story, ready to be given to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Its address as one word, `s0-t50-17`: seed, length, index. Answers come back under it.
    pub id: String,
    /// Tokens of the string that is asked about.
    pub seq_len: u32,
    /// Which story of this length.
    pub index: u32,
    /// What the model is given.
    pub prompt: String,
    /// What it may answer: [`OPTIONS`].
    pub options: [String; 2],
    /// The right one of them.
    pub answer: String,
    /// Instructions from the last write to the query: 1 if nothing is between them.
    pub distance_ops: u32,
    /// The string in the public text form; its last symbol is the answer.
    pub sequence: String,
}

impl Wording {
    /// The words of figure 2, and for what it leaves open: a banana for 0, reads told by the query.
    #[must_use]
    pub fn paper() -> Self {
        Self {
            header: "Transcript of events:".to_owned(),
            joint: "Then,".to_owned(),
            fruit_of_0: Fruit::Banana,
            inner_reads: InnerReads::Told,
            query: "Now, the light is".to_owned(),
        }
    }

    fn check(&self) -> Vec<Complaint> {
        let fields = [("header", &self.header), ("joint", &self.joint), ("query", &self.query)];
        let mut complaints = Vec::new();
        for (field, words) in fields {
            if words.starts_with(char::is_whitespace) || words.ends_with(char::is_whitespace) {
                let message = format!(
                    "{field} is {words:?}, with a space at an end; leave it off: spaces between \
                     sentences are added, and an option begins with one"
                );
                complaints.push(Complaint::new(field, message));
            }
            if words.contains("turns the light") {
                let message =
                    format!("{field} is {words:?}, which tells of a switch; use other words");
                complaints.push(Complaint::new(field, message));
            }
        }
        if self.query.is_empty() {
            let message = "query is empty; say what is asked, such as \"Now, the light is\"";
            complaints.push(Complaint::new("query", message.to_owned()));
        }
        complaints
    }

    /// A string as a story up to its last read, which is asked and not answered.
    fn tell(&self, tokens: &[Token]) -> String {
        let (pairs, _) = tokens.as_chunks::<2>();
        let mut told = self.header.clone();
        for (idx, &[op, symbol]) in pairs.iter().enumerate().take(pairs.len() - 1) {
            let one = symbol != FIRST_SYMBOL;
            if op == READ {
                if self.inner_reads == InnerReads::Told {
                    push_sentence(&mut told, &self.answered(one));
                }
                continue;
            }
            if idx > 0 && !self.joint.is_empty() {
                push_sentence(&mut told, &self.joint);
            }
            let sentence = if op == WRITE {
                if one { "Alice turns the light on." } else { "Alice turns the light off." }
            } else if one == (self.fruit_of_0 == Fruit::Banana) {
                "Bob eats an apple."
            } else {
                "Bob eats a banana."
            };
            push_sentence(&mut told, sentence);
        }
        push_sentence(&mut told, &self.query);
        told
    }

    /// The query with its answer, as a sentence.
    fn answered(&self, one: bool) -> String {
        format!("{}{}.", self.query, option_of(one))
    }
}

/// Appends a sentence, after a space unless it is the first thing told.
fn push_sentence(told: &mut String, sentence: &str) {
    if !told.is_empty() {
        told.push(' ');
    }
    told.push_str(sentence);
}

/// The option that says what a light with this bit is.
fn option_of(one: bool) -> &'static str {
    let [on, off] = OPTIONS;
    if one { on } else { off }
}

impl Stories {
    /// The paper's set: 500 stories each of 50, 100, 150 and 200 tokens of FFL(0.6), after a story
    /// of 16 tokens. The paper prints these lengths on an axis and not as a list.
    #[must_use]
    pub fn paper() -> Self {
        Self {
            p_ignore: 0.6,
            seq_lens: vec![50, 100, 150, 200],
            n_per_len: 500,
            n_shots: 1,
            shot_len: 16,
            wording: Wording::paper(),
        }
    }

    /// Everything that is wrong with the set; empty if its stories can be told.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = self.wording.check();
        let mut complain = |field, message| complaints.push(Complaint::new(field, message));
        if !(0.0..=1.0).contains(&self.p_ignore) {
            let p = plain(self.p_ignore);
            complain("p_ignore", format!("p_ignore is {p}; use a probability between 0 and 1"));
        }
        if self.n_per_len == 0 {
            complain("n_per_len", "n_per_len is 0; tell at least one story".to_owned());
        }
        if self.seq_lens.is_empty() {
            complain("seq_lens", "seq_lens is empty; name at least one length".to_owned());
        }
        for (idx, seq_len) in self.seq_lens.iter().enumerate() {
            if self.seq_lens[..idx].contains(seq_len) {
                complain("seq_lens", format!("seq_lens has {seq_len} twice; name it once"));
            }
        }
        let shot = (self.n_shots > 0).then_some(("shot_len", self.shot_len));
        let lens = self.seq_lens.iter().map(|&len| ("seq_lens", len)).chain(shot);
        for (field, len) in lens.filter(|&(_, len)| len < 4 || len % 2 == 1) {
            complain(field, format!("{field} has {len}; use even numbers of tokens from 4 up"));
        }
        let longest = self.seq_lens.iter().copied().max().unwrap_or(0);
        let n_told = u64::from(longest) + u64::from(self.n_shots) * u64::from(self.shot_len);
        if n_told > MAX_TOLD {
            let message = format!(
                "a prompt would tell {n_told} tokens, at most {MAX_TOLD} are allowed; use shorter \
                 or fewer stories"
            );
            complain("seq_lens", message);
        }
        complaints
    }

    /// The set if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with all of [`Stories::check`]'s
    /// complaints.
    pub fn checked(self) -> Result<Self, Error> {
        let complaints = self.check();
        if complaints.is_empty() { Ok(self) } else { Err(Cause::Task { complaints }.into()) }
    }

    /// The story at the address `(seed, seq_len, index)`.
    ///
    /// # Randomness
    ///
    /// The string is item `index` of the stream `eval`, `stories`, `seq_len` of `seed`, and the string
    /// of shot `k` item `index` of that stream's `shots`, `k`: so the number of shots changes no
    /// story, and each story has demonstrations of its own.
    ///
    /// # Panics
    ///
    /// If the set was not [checked](Self::check).
    #[must_use]
    #[track_caller]
    pub fn story(&self, seed: u64, seq_len: u32, index: u32) -> Story {
        let stream = split::eval_stream(seed, "stories").derive(&seq_len.to_string());
        let mut prompt = String::new();
        for shot in 0..self.n_shots {
            let stream = stream.derive("shots").derive(&shot.to_string());
            let tokens = self.string(&stream, self.shot_len, index);
            prompt += &self.wording.tell(&tokens);
            prompt += last_read(&tokens).1;
            prompt += ".\n\n";
        }
        let tokens = self.string(&stream, seq_len, index);
        prompt += &self.wording.tell(&tokens);
        let (distance_ops, answer) = last_read(&tokens);
        Story {
            id: format!("s{seed}-t{seq_len}-{index}"),
            seq_len,
            index,
            prompt,
            options: OPTIONS.map(str::to_owned),
            answer: answer.to_owned(),
            distance_ops,
            sequence: text::to_text(&tokens),
        }
    }

    /// All stories of the set, length by length.
    ///
    /// # Panics
    ///
    /// If the set was not [checked](Self::check).
    pub fn stories(&self, seed: u64) -> impl Iterator<Item = Story> {
        self.seq_lens
            .iter()
            .flat_map(move |&len| (0..self.n_per_len).map(move |idx| self.story(seed, len, idx)))
    }

    /// Number of stories in the set.
    #[must_use]
    pub fn n_stories(&self) -> u64 {
        self.seq_lens.len() as u64 * u64::from(self.n_per_len)
    }

    #[track_caller]
    fn string(&self, stream: &Stream, seq_len: u32, index: u32) -> Vec<Token> {
        let p_write = half_of_rest(self.p_ignore);
        let Self { p_ignore, .. } = *self;
        let (n_symbols, coding) = (2, Coding::Tokens);
        let language = FlipFlop { seq_len, p_write, p_read: p_write, p_ignore, n_symbols, coding };
        let mut tokens = vec![0; seq_len as usize];
        language.generate_into(&mut stream.at(u64::from(index)), &mut tokens);
        tokens
    }
}

/// Instructions from the last read of a string back to its write, and the option that answers it.
fn last_read(tokens: &[Token]) -> (u32, &'static str) {
    let mut targets = Vec::new();
    reads(tokens, &mut targets);
    let last = targets.last().expect("a string of the language ends with a read");
    let Target { query_pos, write_pos, answer } = *last;
    ((query_pos - write_pos) / 2, option_of(answer != FIRST_SYMBOL))
}

#[cfg(test)]
mod tests;
