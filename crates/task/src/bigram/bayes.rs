//! The Bayes predictor: what the next token is likely to be for somebody who knows the language but
//! not the triggers of the example.
//!
//! A token is a trigger with some prior probability, its *inclusion*. If it is one, what followed it
//! so far is one output over and over; if not, what followed it are draws of the bigram law. After
//! `m` successors `s_1 .. s_m` of the token `a`
//!
//! ```text
//! p(trigger | s) = w / (w + v)      w = inclusion(a) pi_o(s_1 | a) [all s are equal]
//!                                   v = (1 - inclusion(a)) prod_i pi_b(s_i | a)
//! p(next)        = p(trigger | s) [next = s_1] + (1 - p(trigger | s)) pi_b(next | a)
//! ```
//!
//! and before the first one `pi_o` stands in the place of `[next = s_1]`. No model can do better on
//! average, up to one simplification: inclusions are treated as independent of each other, while in
//! truth the number of triggers is known. For fixed triggers, and for those that are shown before the
//! sequence, they are 0 or 1 and the predictor is exact. This is a bound for models, and with
//! [`oracle`](super::oracle) it shares nothing with the generator but the counts of the corpus.

use super::{Bigram, Corpus, OutputSplit, Outputs, Triggers};

/// What the predictor says at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The probability of the token that follows in truth; `-ln` of it is the loss in nats.
    pub p_next: f64,
    /// The likeliest token; of equally likely ones the first.
    pub guess: u16,
}

/// The Bayes predictor of one language.
///
/// # Example
///
/// ```
/// use mnemoscope_task::bigram::bayes::Bayes;
/// use mnemoscope_task::bigram::{Bigram, Triggers};
///
/// // With fixed triggers the second occurrence is certain: the most frequent token is a space (1).
/// let language = Bigram { triggers: Triggers::Fixed, ..Bigram::paper(1) };
/// let predictions = Bayes::of(&language).predictions(&[1, 20, 43, 1, 20]);
/// assert!((predictions[0].p_next - 1.0 / 65.0).abs() < 1e-12);
/// assert!((predictions[3].p_next - 1.0).abs() < 1e-12 && predictions[3].guess == 20);
/// ```
#[derive(Clone, Debug)]
pub struct Bayes {
    language: Bigram,
    inclusion: Vec<f64>,
    /// For each token the sum of the weights of its possible outputs.
    output_mass: Vec<f64>,
    /// For each token the likeliest next one by the bigram law.
    likeliest: Vec<u16>,
    /// For each token the likeliest next one while nothing is known to have followed it.
    likeliest_at_first: Vec<u16>,
}

/// What is known of one token in one example.
#[derive(Clone, Copy)]
struct Seen {
    successor: u16,
    /// `w` and `v` of the module's formula.
    if_trigger: f64,
    if_not: f64,
}

impl Bayes {
    /// The predictor of a language.
    ///
    /// # Panics
    ///
    /// If the language fails [`Bigram::check`].
    #[must_use]
    #[track_caller]
    pub fn of(language: &Bigram) -> Self {
        assert!(language.check().is_empty(), "`check` the language first");
        let inclusion = match language.triggers {
            Triggers::Fixed => {
                let fixed = language.fixed_triggers();
                let inclusion = |token| f64::from(u8::from(fixed.contains(&token)));
                (0..language.d_vocab() as u16).map(inclusion).collect()
            }
            Triggers::Random => inclusions(&language.corpus, language.n_triggers as usize),
        };
        let tokens = 0..language.d_vocab() as u16;
        let mass =
            |token| tokens.clone().map(|output| output_weight(language, token, output)).sum();
        let mut bayes = Self {
            language: language.clone(),
            inclusion,
            output_mass: tokens.clone().map(mass).collect(),
            likeliest: Vec::new(),
            likeliest_at_first: Vec::new(),
        };
        let (likeliest, at_first) = tokens
            .clone()
            .map(|token| {
                let by_chance = |next| language.corpus.p_bigram(token, next);
                // Among shown triggers the token is one; among others it is never asked about.
                let inclusion = bayes.inclusion_in(token, &[token]);
                let mixed = |next| bayes.mixed(token, inclusion, None, next);
                (argmax(tokens.clone(), by_chance), argmax(tokens.clone(), mixed))
            })
            .unzip();
        (bayes.likeliest, bayes.likeliest_at_first) = (likeliest, at_first);
        bayes
    }

    /// The prior probability of each token to be a trigger, `[d_vocab]`: before any is shown.
    ///
    /// For random triggers that of being among `n_triggers` tokens drawn without replacement,
    /// by numeric integration to about ten digits.
    #[must_use]
    pub fn inclusion(&self) -> &[f64] {
        &self.inclusion
    }

    /// The law of the token after `tokens`, `[d_vocab]`: from all of them at once, without a
    /// state.
    ///
    /// # Panics
    ///
    /// If there are no tokens after the triggers that are shown, or one is none of the corpus.
    #[must_use]
    #[track_caller]
    pub fn law_after(&self, tokens: &[u16]) -> Vec<f64> {
        let (latents, tokens) = self.parted(tokens);
        let (&token, _) = tokens.split_last().expect("a token to predict from");
        let inclusion = self.inclusion_in(token, latents);
        let successors = || tokens.windows(2).filter(|pair| pair[0] == token).map(|pair| pair[1]);
        let updated = |seen, next| Some(self.updated(token, inclusion, seen, next));
        let seen = successors().fold(None, updated);
        let law = |next| self.mixed(token, inclusion, seen, next);
        (0..self.inclusion.len() as u16).map(law).collect()
    }

    /// What it says at each position of the sequence that has a token after it,
    /// `[n_tokens - 1]`; where the triggers are shown before it, nothing is said at them and the
    /// first of `n_tokens - 1 - n_triggers` predictions is that at the first token after them.
    ///
    /// # Panics
    ///
    /// If a token is none of the corpus.
    #[must_use]
    #[track_caller]
    pub fn predictions(&self, tokens: &[u16]) -> Vec<Prediction> {
        let (latents, tokens) = self.parted(tokens);
        let mut seen = vec![None; self.inclusion.len()];
        let predict = |pair: &[u16]| {
            let (token, next) = (pair[0], pair[1]);
            let inclusion = self.inclusion_in(token, latents);
            let known = &mut seen[usize::from(token)];
            let p_next = self.mixed(token, inclusion, *known, next);
            let guess = self.guess(token, inclusion, *known);
            *known = Some(self.updated(token, inclusion, *known, next));
            Prediction { p_next, guess }
        };
        tokens.windows(2).map(predict).collect()
    }

    /// The triggers that are shown, and the sequence after them.
    fn parted<'t>(&self, tokens: &'t [u16]) -> (&'t [u16], &'t [u16]) {
        let n_latents = if self.language.show_latents { self.language.n_triggers } else { 0 };
        tokens.split_at((n_latents as usize).min(tokens.len()))
    }

    /// The probability that `token` is a trigger, for somebody who has seen the latents.
    fn inclusion_in(&self, token: u16, latents: &[u16]) -> f64 {
        match self.language.show_latents {
            true => f64::from(u8::from(latents.contains(&token))),
            false => self.inclusion[usize::from(token)],
        }
    }

    /// The likeliest token after `token`: the bigram law's, or the one seen before.
    fn guess(&self, token: u16, inclusion: f64, seen: Option<Seen>) -> u16 {
        let by_chance = self.likeliest[usize::from(token)];
        let Some(Seen { successor, .. }) = seen else {
            // A token that is certainly no trigger goes by chance, also where others are shown.
            return if inclusion > 0.0 {
                self.likeliest_at_first[usize::from(token)]
            } else {
                by_chance
            };
        };
        let (p_copy, p_chance) = (
            self.mixed(token, inclusion, seen, successor),
            self.mixed(token, inclusion, seen, by_chance),
        );
        if p_copy > p_chance || (p_copy >= p_chance && successor < by_chance) {
            successor
        } else {
            by_chance
        }
    }

    /// The probability of `next` after `token`, which is a trigger with probability `inclusion`.
    fn mixed(&self, token: u16, inclusion: f64, seen: Option<Seen>, next: u16) -> f64 {
        let (p_trigger, p_output) = match seen {
            None => (inclusion, self.p_output(token, next)),
            // Both are 0 only for tokens that cannot occur; then nothing is a trigger.
            Some(Seen { if_trigger, .. }) if if_trigger <= 0.0 => (0.0, 0.0),
            Some(Seen { successor, if_trigger, if_not }) => {
                (if_trigger / (if_trigger + if_not), f64::from(u8::from(next == successor)))
            }
        };
        p_trigger * p_output + (1.0 - p_trigger) * self.language.corpus.p_bigram(token, next)
    }

    /// What is known of `token` after one more successor.
    fn updated(&self, token: u16, inclusion: f64, seen: Option<Seen>, next: u16) -> Seen {
        let p_bigram = self.language.corpus.p_bigram(token, next);
        match seen {
            None => {
                let if_trigger = inclusion * self.p_output(token, next);
                Seen { successor: next, if_trigger, if_not: (1.0 - inclusion) * p_bigram }
            }
            Some(Seen { successor, if_trigger, if_not }) => Seen {
                successor,
                if_trigger: if next == successor { if_trigger } else { 0.0 },
                if_not: if_not * p_bigram,
            },
        }
    }

    /// The probability that `output` is the output of the trigger `token`.
    fn p_output(&self, token: u16, output: u16) -> f64 {
        let mass = self.output_mass[usize::from(token)];
        // A token that can have no output is no trigger either.
        if mass > 0.0 { output_weight(&self.language, token, output) / mass } else { 0.0 }
    }
}

/// The probability of an output up to a factor that depends on the trigger alone.
fn output_weight(language: &Bigram, trigger: u16, output: u16) -> f64 {
    let Bigram { corpus, outputs, output_split, no_repeat, .. } = language;
    let n_train = (corpus.d_vocab() * 3 / 4) as u16;
    let in_split = match output_split {
        OutputSplit::All => true,
        OutputSplit::Train => output < n_train,
        OutputSplit::Test => output >= n_train,
    };
    match outputs {
        _ if !in_split || (*no_repeat && output == trigger) => 0.0,
        Outputs::Uniform => 1.0,
        Outputs::Bigram => corpus.p_bigram(trigger, output),
    }
}

/// The first of the tokens with the largest value.
fn argmax(tokens: std::ops::Range<u16>, value: impl Fn(u16) -> f64) -> u16 {
    let mut best = (tokens.start, f64::NEG_INFINITY);
    for token in tokens {
        let value = value(token);
        if value > best.1 {
            best = (token, value);
        }
    }
    best.0
}

/// The probability of each token to be among the first `n_triggers` different ones.
///
/// Drawing without replacement is a race: token `a` arrives at a time that is exponential with rate
/// `p_a`, and the first to arrive win. So the inclusion of `a` is the integral over its time `t` of
/// `p_a exp(-p_a t)` times the probability that fewer than `n_triggers` others came before `t`, and
/// these come independently. In `ln t` the integrand is smooth and dies out on both sides, where
/// the trapezoid rule converges fast.
fn inclusions(corpus: &Corpus, n_triggers: usize) -> Vec<f64> {
    const STEP: f64 = 1.0 / 16.0;
    let d_vocab = corpus.d_vocab() as u16;
    if n_triggers >= usize::from(d_vocab) {
        return vec![1.0; usize::from(d_vocab)];
    }
    let p: Vec<f64> = (0..d_vocab).map(|token| corpus.p_unigram(token)).collect();
    let rarest = p.iter().copied().fold(1.0, f64::min);
    // Before exp(-40) nobody has arrived, and 40 mean waits later everybody has.
    let (from, to) = (-40.0, (40.0 / rarest).ln());
    let n_steps = ((to - from) / STEP).ceil() as u32;
    let mut inclusion = vec![0.0; p.len()];
    for step in 0..=n_steps {
        let t = (from + f64::from(step) * STEP).exp();
        for (token, value) in inclusion.iter_mut().enumerate() {
            let density = p[token] * t * (-p[token] * t).exp();
            if density > 1e-18 {
                *value += STEP * density * p_fewer(&p, token, t, n_triggers);
            }
        }
    }
    inclusion
}

/// The probability that fewer than `n` tokens besides `own` arrive before `t`.
fn p_fewer(p: &[f64], own: usize, t: f64, n: usize) -> f64 {
    // The probability of each number of arrivals below `n`, one more token at a time.
    let mut p_count = vec![0.0; n];
    p_count[0] = 1.0;
    for (token, &rate) in p.iter().enumerate() {
        if token == own {
            continue;
        }
        let arrived = -(-rate * t).exp_m1();
        for count in (1..n).rev() {
            p_count[count] += arrived * (p_count[count - 1] - p_count[count]);
        }
        p_count[0] *= 1.0 - arrived;
    }
    p_count.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition: all orders in which three of four tokens can be drawn.
    #[test]
    fn inclusions_are_those_of_drawing_without_replacement() {
        let corpus = Corpus::from_text("abacadabaabcba").unwrap();
        let p: Vec<f64> = (0..4).map(|token| corpus.p_unigram(token)).collect();
        let (mut two, mut three) = (vec![0.0; 4], vec![0.0; 4]);
        for a in 0..4 {
            for b in (0..4).filter(|&b| b != a) {
                let p_two = p[a] * p[b] / (1.0 - p[a]);
                two[a] += p_two;
                two[b] += p_two;
                for c in (0..4).filter(|&c| c != a && c != b) {
                    let p_three = p_two * p[c] / (1.0 - p[a] - p[b]);
                    for token in [a, b, c] {
                        three[token] += p_three;
                    }
                }
            }
        }
        for (n_triggers, expected) in [(1, &p), (2, &two), (3, &three), (4, &vec![1.0; 4])] {
            for (got, expected) in std::iter::zip(inclusions(&corpus, n_triggers), expected) {
                assert!((got - expected).abs() < 1e-9, "{n_triggers}: {got}, expected {expected}");
            }
        }
    }

    #[test]
    fn inclusions_of_the_built_in_corpus_add_up_to_the_number_of_triggers() {
        for n_triggers in [1, 3, 5] {
            let sum: f64 = inclusions(&Corpus::tiny_shakespeare(), n_triggers).iter().sum();
            assert!((sum - n_triggers as f64).abs() < 1e-9, "{sum} for {n_triggers}");
        }
    }

    /// The predictor with a state and the one that looks back over everything agree, laws add up
    /// to 1, and the guess is the likeliest token.
    #[test]
    fn predictions_are_those_of_the_law_after_everything_before() {
        let stream = mnemoscope_stats::stream::Stream::root(3).derive("bayes");
        let settings = [
            Bigram::paper(5),
            Bigram { outputs: Outputs::Bigram, no_repeat: true, ..Bigram::paper(3) },
            Bigram { output_split: OutputSplit::Test, ..Bigram::paper(1) },
            Bigram { triggers: Triggers::Fixed, offset: 2, ..Bigram::paper(3) },
            Bigram { show_latents: true, no_repeat: true, ..Bigram::paper(5) },
        ];
        for (index, language) in (0..).zip(settings) {
            let bayes = Bayes::of(&language);
            let mut tokens = vec![0; language.n_tokens()];
            language.batch_into(&stream, index, &mut tokens);
            let predictions = bayes.predictions(&tokens);
            assert_eq!(predictions.len(), 256 - language.n_latents());
            for (pos, got) in (language.n_latents()..).zip(predictions) {
                let law = bayes.law_after(&tokens[..=pos]);
                assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{language:?}, pos {pos}");
                let p_next = law[usize::from(tokens[pos + 1])];
                assert!((got.p_next - p_next).abs() < 1e-12 && p_next > 0.0);
                let best = law.iter().copied().fold(0.0, f64::max);
                assert!(law[usize::from(got.guess)] > best - 1e-12, "{language:?}, pos {pos}");
            }
        }
    }

    /// Whoever is shown the triggers needs to see an output once, and no more, in every example.
    #[test]
    fn shown_triggers_leave_nothing_to_guess_but_first_outputs_and_chance() {
        let stream = mnemoscope_stats::stream::Stream::root(3).derive("latents");
        let language = Bigram { show_latents: true, ..Bigram::paper(5) };
        let bayes = Bayes::of(&language);
        let (mut tokens, mut counts) = (vec![0; language.n_tokens()], Vec::new());
        let mut n_in_context = 0;
        for index in 0..40 {
            language.batch_into(&stream, index, &mut tokens);
            let triggers = language.triggers_at(&mut stream.at(index));
            language.occurrences(&tokens, &triggers, &mut counts);
            assert!(counts[..5].iter().all(|&count| count == -1));
            for (pos, said) in (5..).zip(bayes.predictions(&tokens)) {
                let expected = match counts[pos] {
                    0 => language.corpus.p_bigram(tokens[pos], tokens[pos + 1]),
                    1 => 1.0 / 65.0,
                    _ => 1.0,
                };
                assert!((said.p_next - expected).abs() < 1e-12, "example {index}, pos {pos}");
                n_in_context += usize::from(counts[pos] > 1);
                assert!(counts[pos] < 2 || said.guess == tokens[pos + 1]);
            }
        }
        assert!(n_in_context > 1_000);
    }
}
