//! From addressed examples to what a model is asked: tokens, the places of the questions, the answers.

use mnemoscope_engine::QueryRows;
use mnemoscope_engine::burn::tensor::backend::Backend;
use mnemoscope_engine::burn::tensor::{Int, Tensor, TensorData};
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::{Scoring, Target, Task, Token};

/// A question to the model: which example of the batch, where, and what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Index of the example within the batch.
    pub example: u32,
    /// Where the model answers, from 0.
    pub query_pos: u32,
    /// The token that is right.
    pub answer: Token,
    /// Place of the `w` whose symbol is read back, or of the trigger after which the answer was seen
    /// last; the query's own place for targets without such a place.
    pub write_pos: u32,
}

/// Some consecutive examples of a stream, and the questions they ask.
///
/// # Shapes
///
/// `tokens: [n_examples, seq_len]` holds whole examples. The model is fed the first
/// [`n_fed`](Task::n_fed) tokens of each, which leaves out a last one where nothing is asked:
/// `[n_examples, n_fed]`.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Index, within the stream, of the first example.
    pub first_index: u64,
    /// Number of examples.
    pub n_examples: usize,
    /// Tokens in an example.
    pub seq_len: usize,
    /// Those of them that the model is fed, from the first.
    pub n_fed: usize,
    /// All tokens, example after example.
    pub tokens: Vec<Token>,
    /// The questions, ordered by example and place.
    pub questions: Vec<Question>,
}

impl Batch {
    /// Draws the examples `first_index..first_index + n_examples` of `stream`.
    ///
    /// # Arguments
    ///
    /// - `scoring`: `Reads` asks at the task's scored places only; `All` asks for every next token.
    ///
    /// # Randomness
    ///
    /// Example `index` is a function of `(stream, index)` alone, so any batch of any size sees
    /// the same examples.
    #[must_use]
    pub fn draw(
        task: &Task,
        stream: &Stream,
        first_index: u64,
        n_examples: usize,
        scoring: Scoring,
    ) -> Self {
        let seq_len = task.seq_len();
        let mut tokens = Vec::with_capacity(n_examples * seq_len);
        task.batch_into(stream, first_index, n_examples, &mut tokens);
        let mut questions = Vec::new();
        let (mut targets, mut trained): (Vec<Target>, Vec<(u32, Token)>) = Default::default();
        for (example, example_tokens) in (0_u32..).zip(tokens.chunks_exact(seq_len)) {
            let index = first_index + u64::from(example);
            match scoring {
                Scoring::Reads => {
                    task.targets_into(stream, index, example_tokens, &mut targets);
                    questions.extend(targets.iter().map(|target| Question {
                        example,
                        query_pos: target.query_pos,
                        answer: target.answer,
                        write_pos: target.write_pos,
                    }));
                }
                Scoring::All => {
                    scoring.trained(example_tokens, &mut trained);
                    questions.extend(trained.iter().map(|&(query_pos, answer)| Question {
                        example,
                        query_pos,
                        answer,
                        write_pos: query_pos,
                    }));
                }
            }
        }
        Self { first_index, n_examples, seq_len, n_fed: task.n_fed(), tokens, questions }
    }

    /// The tokens of one example of the batch.
    ///
    /// # Panics
    ///
    /// If there is no such example.
    #[must_use]
    pub fn example(&self, example: usize) -> &[Token] {
        &self.tokens[example * self.seq_len..][..self.seq_len]
    }

    /// What the model is fed, `[n_examples, n_fed]`.
    #[must_use]
    pub fn inputs<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2, Int> {
        let fed: Vec<i32> = self.fed().collect();
        Tensor::from_data(TensorData::new(fed, [self.n_examples, self.n_fed]), device)
    }

    /// The tokens that the model is fed, example after example.
    pub(crate) fn fed(&self) -> impl Iterator<Item = i32> + '_ {
        let examples = self.tokens.chunks_exact(self.seq_len);
        examples.flat_map(|example| example[..self.n_fed].iter().map(|&token| i32::from(token)))
    }

    /// Where the model is asked, in the order of [`Batch::questions`].
    #[must_use]
    pub fn rows(&self) -> QueryRows {
        let places = self.questions.iter().map(|ask| (ask.example, ask.query_pos)).collect();
        QueryRows::new(self.n_fed, places)
    }

    /// The right answers, `[n_questions]`.
    #[must_use]
    pub fn answers<B: Backend>(&self, device: &B::Device) -> Tensor<B, 1, Int> {
        let answers: Vec<i32> = self.questions.iter().map(|ask| i32::from(ask.answer)).collect();
        let n_questions = answers.len();
        Tensor::from_data(TensorData::new(answers, [n_questions]), device)
    }
}

/// Where batches are filled up, they ask so many questions or a multiple of it, so that they have few shapes: a GPU compiles
/// some kernels anew for each kind of shape.
const ROWS: usize = 64;

/// What batches ask that are computed together, filled up so that each asks equally many questions.
pub(crate) struct Asked {
    pub(crate) rows: QueryRows,
    pub(crate) answers: Vec<i32>,
    /// One over the number of a batch's questions; 0 where it is filled up.
    pub(crate) weights: Vec<f32>,
}

impl Asked {
    /// # Panics
    ///
    /// If there is no batch, or they are not of one shape.
    pub(crate) fn of(batches: &[Batch]) -> Self {
        let n_most = batches.iter().map(|batch| batch.questions.len()).max().unwrap_or(0);
        let n_places = batches[0].n_examples * batches[0].n_fed;
        let n_most = n_most.next_multiple_of(ROWS).min(n_places);
        let n_all = n_most * batches.len();
        let mut places = Vec::with_capacity(n_all);
        let (mut answers, mut weights) = (Vec::with_capacity(n_all), Vec::with_capacity(n_all));
        let mut first = 0;
        for batch in batches {
            let mut n_filled = filled(batch, n_most - batch.questions.len());
            let weight = 1.0 / batch.questions.len() as f32;
            let mut questions = batch.questions.iter().peekable();
            for example in 0..batch.n_examples as u32 {
                for pos in 0..batch.n_fed as u32 {
                    let here = |ask: &&Question| (ask.example, ask.query_pos) == (example, pos);
                    let (answer, weight) = match questions.next_if(here) {
                        Some(ask) => (i32::from(ask.answer), weight),
                        None if n_filled[example as usize] > 0 => {
                            n_filled[example as usize] -= 1;
                            (0, 0.0)
                        }
                        None => continue,
                    };
                    places.push((first + example, pos));
                    answers.push(answer);
                    weights.push(weight);
                }
            }
            first += batch.n_examples as u32;
        }
        Self { rows: QueryRows::new(batches[0].n_fed, places), answers, weights }
    }
}

/// How many of `n` more questions each example of a batch takes: those with the fewest first, because what a device lays
/// out is as long as the example that has most.
fn filled(batch: &Batch, mut n: usize) -> Vec<usize> {
    let mut n_asked = vec![0_usize; batch.n_examples];
    batch.questions.iter().for_each(|ask| n_asked[ask.example as usize] += 1);
    let before = n_asked.clone();
    while n > 0 {
        let fewest = n_asked.iter().copied().min().expect("a batch has an example");
        assert!(fewest < batch.n_fed, "there is no place left to ask at");
        for asked in n_asked.iter_mut().filter(|asked| **asked == fewest).take(n) {
            *asked += 1;
            n -= 1;
        }
    }
    n_asked.iter().zip(before).map(|(now, before)| now - before).collect()
}

#[cfg(test)]
mod tests {
    use mnemoscope_task::bigram::oracle as looking_back;
    use mnemoscope_task::{Automaton, Bigram, FlipFlop, oracle};

    use super::*;

    #[test]
    fn a_batch_asks_what_the_oracle_answers() {
        let task = Task::FlipFlop(FlipFlop::paper(0.8).unwrap());
        let stream = Stream::root(3).derive("batch test");
        let batch = Batch::draw(&task, &stream, 5, 20, Scoring::Reads);
        let expected: Vec<(u32, usize, Token)> = (0_u32..)
            .zip(batch.tokens.chunks_exact(512))
            .flat_map(|(example, tokens)| {
                oracle::answers(tokens)
                    .into_iter()
                    .map(move |(query_pos, answer)| (example, query_pos, answer.unwrap()))
            })
            .collect();
        let asked: Vec<(u32, usize, Token)> = batch
            .questions
            .iter()
            .map(|ask| (ask.example, ask.query_pos as usize, ask.answer))
            .collect();
        assert_eq!(asked, expected);
    }

    #[test]
    fn batches_of_any_size_see_the_same_examples() {
        let task = Task::FlipFlop(FlipFlop::paper(0.1).unwrap());
        let stream = Stream::root(3).derive("batch test");
        let whole = Batch::draw(&task, &stream, 0, 8, Scoring::Reads);
        let part = Batch::draw(&task, &stream, 6, 1, Scoring::Reads);
        assert_eq!(whole.example(6), part.example(0));
    }

    #[test]
    fn generative_scoring_asks_at_every_place_that_has_a_successor() {
        let task = Task::FlipFlop(FlipFlop::paper(0.8).unwrap());
        let batch = Batch::draw(&task, &Stream::root(0), 0, 2, Scoring::All);
        assert_eq!(batch.questions.len(), 2 * 511);
        assert!(batch.questions.iter().all(|ask| {
            ask.answer == batch.example(ask.example as usize)[ask.query_pos as usize + 1]
        }));
    }

    #[test]
    fn a_batch_of_the_automaton_asks_for_the_state_at_every_place_and_feeds_them_all() {
        let task = Task::Automaton(Automaton { seq_len: 40, ..Automaton::paper() });
        let batch = Batch::draw(&task, &Stream::root(3), 5, 4, Scoring::Reads);
        assert_eq!((batch.n_fed, batch.questions.len()), (40, 4 * 40));
        for (example, asked) in batch.questions.chunks(40).enumerate() {
            let answers: Vec<Token> = asked.iter().map(|ask| ask.answer).collect();
            assert_eq!(answers, oracle::states(batch.example(example)));
        }
    }

    #[test]
    fn a_batch_of_bigrams_asks_where_the_answer_stands_in_the_context() {
        let language = Bigram::paper(5);
        let task = Task::Bigram(language.clone());
        let stream = Stream::root(3).derive("batch test");
        let batch = Batch::draw(&task, &stream, 5, 20, Scoring::Reads);
        let mut expected = Vec::new();
        for (example, tokens) in batch.tokens.chunks_exact(257).enumerate() {
            let triggers = language.triggers_at(&mut stream.at(5 + example as u64));
            let triggers: Vec<Token> = triggers.iter().map(|trigger| trigger.token).collect();
            for found in looking_back::answers(tokens, &triggers) {
                if let Some((write_pos, answer)) = found.seen {
                    expected.push((example, found.query_pos, write_pos, answer));
                }
            }
        }
        let asked: Vec<_> = batch
            .questions
            .iter()
            .map(|ask| {
                let (query_pos, write_pos) = (ask.query_pos as usize, ask.write_pos as usize);
                (ask.example as usize, query_pos, write_pos, ask.answer)
            })
            .collect();
        assert_eq!(asked, expected);
        assert!(asked.len() > 200);
    }

    #[test]
    fn batches_that_ask_less_are_filled_up_without_weight() {
        let task = Task::FlipFlop(FlipFlop { seq_len: 16, ..FlipFlop::paper(0.5).unwrap() });
        let batch = |seed| Batch::draw(&task, &Stream::root(seed), 0, 3, Scoring::Reads);
        let batches = [batch(1), batch(2), batch(3)];
        let counts = batches.each_ref().map(|batch| batch.questions.len());
        assert!(counts[0] != counts[1] && batches[0].n_fed < ROWS / 3);
        // 3 x 16 tokens have fewer places than a full count of rows.
        let most = 3 * batches[0].n_fed;
        let Asked { rows, answers, weights } = Asked::of(&batches);
        assert_eq!([rows.len(), answers.len(), weights.len()], [3 * most; 3]);
        for (i, batch) in batches.iter().enumerate() {
            let mine = i * most..(i + 1) * most;
            let asked: Vec<_> = mine.clone().filter(|&row| weights[row] > 0.0).collect();
            let total: f32 = mine.map(|row| weights[row]).sum();
            assert!((total - 1.0).abs() < 1e-5 && asked.len() == batch.questions.len());
            for (row, ask) in asked.into_iter().zip(&batch.questions) {
                let (example, pos) = rows.place(row);
                assert_eq!((example - 3 * i as u32, pos), (ask.example, ask.query_pos));
                assert_eq!(answers[row], i32::from(ask.answer));
            }
        }
    }
}
