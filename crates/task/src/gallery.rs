//! The gallery: every task with a drawn example, for a person who wants to see it first.
//!
//! Pictures are drawn from the addressed stream `gallery`, so they are the same on every machine.
//! They show short examples (an example of 512 tokens fits no page) of the same proportions.

use mnemoscope_stats::stream::Stream;

use crate::automaton::{Automaton, letter_of};
use crate::bigram::{Bigram, Trigger, Triggers, oracle as looking_back};
use crate::coding::Coding;
use crate::flipflop::{FlipFlop, half_of_rest};
use crate::mixture::{Mixture, Part};
use crate::oracle;
use crate::story::Stories;
use crate::task::Task;
use crate::text;
use crate::token::Token;

/// One picture of the gallery.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The word that asks for it: `flipflop`.
    pub name: &'static str,
    /// A title.
    pub title: &'static str,
    /// What it asks of a model, in a few sentences.
    pub what: &'static str,
    /// Who published it, and where.
    pub source: &'static str,
    /// The task at the size of the paper; of stories the language whose strings are told.
    pub task: Task,
    /// A short example as drawn by [`draw`], line by line.
    pub example_lines: Vec<String>,
}

/// Tokens in a drawn example: two blocks of [`BLOCK_LEN`].
const DRAWN_LEN: u32 = 48;

/// Positions in one block of a drawing: with two digits and a space each they fit 80 columns.
const BLOCK_LEN: usize = 24;

/// Characters in a line of a drawn story, which is indented by two.
const STORY_WIDTH: usize = 78;

const FFLM: &str = "Liu, Ash, Goel, Krishnamurthy and Zhang, \"Exposing Attention Glitches with \
                     Flip-Flop Language Modeling\", NeurIPS 2023, arXiv:2306.00946";

const BIRTH: &str = "Bietti, Cabannes, Bouchacourt, Jegou and Bottou, \"Birth of a Transformer: A \
                     Memory Viewpoint\", NeurIPS 2023, arXiv:2306.00802";

/// Every task with a drawn example, in the order to read them.
///
/// # Example
///
/// ```
/// use mnemoscope_task::gallery;
///
/// let names: Vec<&str> = gallery::entries().iter().map(|entry| entry.name).collect();
/// assert_eq!(names[0], "flipflop");
/// ```
#[must_use]
pub fn entries() -> Vec<Entry> {
    let mut entries = flipflops();
    entries.extend(bigrams());
    entries
}

/// A picture of a task, with a short example of it.
fn entry(name: &'static str, title: &'static str, what: &'static str, task: Task) -> Entry {
    let example_lines = match name {
        "stories" => drawn_story(),
        _ => drawn_example(name, &task),
    };
    let source = match task {
        Task::FlipFlop(_) | Task::Mixture(_) | Task::Automaton(_) => FFLM,
        Task::Bigram(_) => BIRTH,
    };
    Entry { name, title, what, source, task, example_lines }
}

/// The family of flip-flop.
fn flipflops() -> Vec<Entry> {
    vec![
        entry(
            "flipflop",
            "Flip-flop language, FFL(0.8): training set and `val`",
            "A one-bit register. After `w` comes a bit to store, after `i` a bit to ignore, and \
             after `r` the bit last stored. Four instructions in five are distractors. Only the \
             bits after `r` are scored.",
            flipflop(0.8, 2),
        ),
        entry(
            "flipflop-sparse",
            "Flip-flop language, FFL(0.98): `val_sparse`",
            "Writes and reads are rare, so a read must look back over long runs of distractors: \
             half of them over more than 50 instructions, which training almost never shows.",
            flipflop(0.98, 2),
        ),
        entry(
            "flipflop-dense",
            "Flip-flop language, FFL(0.1): `val_dense`",
            "Few distractors but many writes. The answer is near; the many stale bits before it \
             compete for attention.",
            flipflop(0.1, 2),
        ),
        entry(
            "flipflop-symbols",
            "Flip-flop language with 16 symbols",
            "The register holds one of M symbols instead of a bit; the vocabulary has M + 3 \
             tokens. The paper tries M up to 256.",
            flipflop(0.8, 16),
        ),
        entry(
            "flipflop-bits",
            "Flip-flop language with 4 symbols, spelt in two bits each",
            "The paper's \"2*2\": a datum is a string of two bits, and each bit of a read is scored.",
            spelt(Coding::Bits, 4),
        ),
        entry(
            "flipflop-pairs",
            "Flip-flop language with one token for an instruction and its bit",
            "The coarser tokens of the paper's appendix A.3. The answer to a read is the whole pair, \
             asked for at the pair before it.",
            spelt(Coding::Pairs, 2),
        ),
        entry(
            "mixture",
            "Mixture of FFL(0.8), FFL(0.98) and FFL(0.1)",
            "Each example is drawn from one of three flip-flop languages, equally often. Training \
             on it is the paper's most effective remedy. Its appendix has 0.8 in the mixture, its \
             main text 0.9.",
            mixture(&[0.8, 0.98, 0.1]),
        ),
        entry(
            "automaton",
            "Flip-flop automaton, every second token a no-op",
            "The register alone, in the form in which attention was looked at: `0` and `1` write, `-` \
             does nothing, and the state is told at every position. Nothing that is answered is \
             ever fed back.",
            Task::Automaton(Automaton::paper()),
        ),
        entry(
            "stories",
            "Light-switch stories of FFL(0.6)",
            "Flip-flop told in sentences, for language models of any kind: a story with its answer, \
             then one that ends in a question with two options, on and off. `generate stories` writes \
             them, and `score` counts what a model answered.",
            flipflop(0.6, 2),
        ),
    ]
}

/// The family of bigrams.
fn bigrams() -> Vec<Entry> {
    vec![
        entry(
            "bigram",
            "Bigram language with 5 random triggers",
            "Characters follow each other by the bigram law of tiny Shakespeare, but each example \
             has five triggers of its own, and after a trigger stands the same output each time. \
             Which ones they are must be found out in context, and what is scored is the output \
             from the second occurrence of a trigger on (`␣` is a space, `count` the occurrence).",
            Task::Bigram(Bigram::paper(5)),
        ),
        entry(
            "bigram-fixed",
            "Bigram language with 3 fixed triggers: t, e and space",
            "The triggers are the three most frequent characters in all examples; only their \
             outputs change from one to the next. The triggers can be learned by heart, the \
             outputs must be read from the context.",
            Task::Bigram(Bigram { triggers: Triggers::Fixed, ..Bigram::paper(3) }),
        ),
    ]
}

/// The entry called `name`.
#[must_use]
pub fn find(name: &str) -> Option<Entry> {
    entries().into_iter().find(|entry| entry.name == name)
}

fn language(seq_len: u32, p_ignore: f64, n_symbols: u32) -> FlipFlop {
    let p_write = half_of_rest(p_ignore);
    let coding = Coding::Tokens;
    FlipFlop { seq_len, p_write, p_read: p_write, p_ignore, n_symbols, coding }
}

fn flipflop(p_ignore: f64, n_symbols: u32) -> Task {
    Task::FlipFlop(language(512, p_ignore, n_symbols))
}

fn spelt(coding: Coding, n_symbols: u32) -> Task {
    Task::FlipFlop(FlipFlop { coding, ..language(512, 0.8, n_symbols) })
}

fn mixture(p_ignores: &[f64]) -> Task {
    let part = |&p_ignore| Part { weight: 1.0, task: language(512, p_ignore, 2) };
    Task::Mixture(Mixture { parts: p_ignores.iter().map(part).collect() })
}

/// A short example of the same proportions.
fn drawn_example(name: &str, task: &Task) -> Vec<String> {
    let stream = Stream::root(0).derive("gallery").derive(name);
    let shorten = |language: &FlipFlop| FlipFlop { seq_len: DRAWN_LEN, ..language.clone() };
    let short = match task {
        Task::FlipFlop(language) if language.coding != Coding::Tokens => {
            // As many tokens as elsewhere, or one instruction fewer.
            let n_per_op = language.coding.n_per_op(language.n_symbols);
            let short = FlipFlop { seq_len: DRAWN_LEN / n_per_op * 2, ..language.clone() };
            let task = Task::FlipFlop(short);
            return draw_spelt(&task, &task.example(&stream, 0));
        }
        Task::FlipFlop(language) => Task::FlipFlop(shorten(language)),
        Task::Mixture(mixture) => {
            let part = |part: &Part| Part { weight: part.weight, task: shorten(&part.task) };
            Task::Mixture(Mixture { parts: mixture.parts.iter().map(part).collect() })
        }
        Task::Automaton(language) => {
            let short = Automaton { seq_len: DRAWN_LEN, ..language.clone() };
            return draw_automaton(&Task::Automaton(short).example(&stream, 0));
        }
        Task::Bigram(language) => {
            let short = Bigram { seq_len: DRAWN_LEN - 1, ..language.clone() };
            let mut tokens = vec![0; short.n_tokens()];
            short.batch_into(&stream, 0, &mut tokens);
            return draw_bigram(&short, &tokens, &short.triggers_at(&mut stream.at(0)));
        }
    };
    draw(&short.example(&stream, 0))
}

/// A story short enough for a page, its answer in brackets.
fn drawn_story() -> Vec<String> {
    let story = Stories { seq_lens: vec![16], ..Stories::paper() }.story(0, 16, 0);
    let mut lines: Vec<String> = Vec::new();
    for paragraph in format!("{} [{}]", story.prompt, story.answer.trim()).lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.len() + 1 + word.len() > STORY_WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Draws a flip-flop string in another coding: its tokens, and the answer under each scored one.
///
/// The answers come from the oracle.
///
/// # Panics
///
/// If the coding is `tokens`, which [`draw`] draws.
#[must_use]
#[track_caller]
pub fn draw_spelt(task: &Task, tokens: &[Token]) -> Vec<String> {
    let n_symbols = task.n_symbols();
    let found = match task.coding() {
        Coding::Bits => oracle::bit_answers(tokens, task.coding().n_per_symbol(n_symbols) as usize),
        Coding::Pairs => oracle::pair_answers(tokens, n_symbols as Token),
        Coding::Tokens => panic!("`draw` draws strings in tokens"),
    };
    let mut answers = vec![".".to_owned(); tokens.len()];
    let mut scored = vec![String::new(); tokens.len()];
    for (query_pos, answer) in found {
        answers[query_pos + 1] = task.token_text(answer);
        scored[query_pos + 1] = "^".to_owned();
    }
    laid_out(&[
        ("pos", (0..tokens.len()).map(|pos| pos.to_string()).collect()),
        ("token", tokens.iter().map(|&token| task.token_text(token)).collect()),
        ("answer", answers),
        ("scored", scored),
    ])
}

/// Draws an example of the automaton: its tokens, and under each the state after it.
///
/// The states come from the oracle.
///
/// # Example
///
/// ```
/// use mnemoscope_task::gallery;
///
/// assert_eq!(
///     gallery::draw_automaton(&[2, 0, 1, 0]).join("\n"),
///     "pos     0  1  2  3\n\
///      token   1  -  0  -\n\
///      answer  1  1  0  0\n\
///      scored  ^  ^  ^  ^",
/// );
/// ```
#[must_use]
pub fn draw_automaton(tokens: &[Token]) -> Vec<String> {
    let letters = |tokens: &[Token]| tokens.iter().map(|&it| letter_of(it).to_string()).collect();
    laid_out(&[
        ("pos", (0..tokens.len()).map(|pos| pos.to_string()).collect()),
        ("token", letters(tokens)),
        ("answer", letters(&oracle::states(tokens))),
        ("scored", vec!["^".to_owned(); tokens.len()]),
    ])
}

/// Draws an example: its tokens, and the answer under the symbol after each read.
///
/// The answers come from the oracle, so a drawing of a string with a wrong symbol shows both.
/// Long examples are broken into blocks.
///
/// # Example
///
/// ```
/// use mnemoscope_task::gallery;
///
/// assert_eq!(
///     gallery::draw(&[0, 4, 2, 3, 2, 4, 1, 4]).join("\n"),
///     "pos     0  1  2  3  4  5  6  7\n\
///      token   w  1  i  0  i  1  r  1\n\
///      answer  .  .  .  .  .  .  .  1\n\
///      scored                       ^",
/// );
/// ```
#[must_use]
pub fn draw(tokens: &[Token]) -> Vec<String> {
    let mut answers = vec![None; tokens.len()];
    for (query_pos, answer) in oracle::answers(tokens) {
        if let Some(cell) = answers.get_mut(query_pos + 1) {
            *cell = answer;
        }
    }
    laid_out(&[
        ("pos", (0..tokens.len()).map(|pos| pos.to_string()).collect()),
        ("token", tokens.iter().map(|&token| text::token_text(token)).collect()),
        (
            "answer",
            answers.iter().map(|answer| answer.map_or(".".into(), text::token_text)).collect(),
        ),
        ("scored", answers.iter().map(|answer| answer.map_or("", |_| "^").to_owned()).collect()),
    ])
}

/// Draws an example of a bigram language whose triggers are known: its tokens, the occurrence
/// counter, and under the token after each trigger what belongs there.
///
/// The answers come from looking back, so a first output has none. A space is drawn as `␣`, and
/// triggers that are shown before the sequence have the count -1.
///
/// # Panics
///
/// If a token is none of the corpus.
///
/// # Example
///
/// ```
/// use mnemoscope_task::bigram::{Bigram, Corpus, Trigger};
/// use mnemoscope_task::gallery;
///
/// let language = Bigram { corpus: Corpus::from_text("them or the")?, ..Bigram::paper(1) };
/// let trigger = Trigger { token: 1, output: 3 };
/// assert_eq!(
///     gallery::draw_bigram(&language, &[6, 2, 1, 3, 1, 3, 0], &[trigger]).join("\n"),
///     "pos     0  1  2  3  4  5  6\n\
///      token   t  h  e  m  e  m  ␣\n\
///      count   .  .  1  .  2  .  .\n\
///      answer  .  .  .  .  .  m  .\n\
///      scored                 ^",
/// );
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
#[must_use]
#[track_caller]
pub fn draw_bigram(language: &Bigram, tokens: &[Token], triggers: &[Trigger]) -> Vec<String> {
    let shown = |token: Token| language.corpus.shown(token);
    let tokens_of_triggers: Vec<Token> = triggers.iter().map(|trigger| trigger.token).collect();
    let blank = || vec![".".to_owned(); tokens.len()];
    let (mut counts, mut answers) = (blank(), blank());
    let n_latents = language.n_latents().min(tokens.len());
    counts[..n_latents].fill("-1".to_owned());
    for found in looking_back::answers(&tokens[n_latents..], &tokens_of_triggers) {
        let query_pos = n_latents + found.query_pos;
        counts[query_pos] = found.count.to_string();
        if let Some((_, answer)) = found.seen {
            answers[query_pos + 1] = shown(answer);
        }
    }
    let mut targets = Vec::new();
    language.targets(tokens, triggers, &mut targets);
    let mut scored = vec![String::new(); tokens.len()];
    for target in targets {
        scored[target.query_pos as usize + 1] = "^".to_owned();
    }
    laid_out(&[
        ("pos", (0..tokens.len()).map(|pos| pos.to_string()).collect()),
        ("token", tokens.iter().map(|&token| shown(token)).collect()),
        ("count", counts),
        ("answer", answers),
        ("scored", scored),
    ])
}

/// Rows of cells below each other, broken into blocks.
fn laid_out(rows: &[(&str, Vec<String>)]) -> Vec<String> {
    let n_cells = rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
    let cells = rows.iter().flat_map(|(_, cells)| cells);
    let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(2);
    let mut lines = Vec::new();
    for first in (0..n_cells).step_by(BLOCK_LEN) {
        if first > 0 {
            lines.push(String::new());
        }
        for (label, cells) in rows {
            let cells = &cells[first..cells.len().min(first + BLOCK_LEN)];
            let cells: String = cells.iter().map(|cell| format!(" {cell:>width$}")).collect();
            lines.push(format!("{label:<6}{cells}").trim_end().to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigram::Corpus;

    #[test]
    fn every_entry_can_be_generated_and_found() {
        for entry in entries() {
            assert_eq!(entry.task.check(), [], "{}", entry.name);
            let n_tokens = match entry.name {
                "automaton" => 500,
                "flipflop-bits" => 768,
                "flipflop-pairs" => 256,
                name if name.starts_with("bigram") => 257,
                _ => 512,
            };
            assert_eq!(entry.task.seq_len(), n_tokens);
            assert_eq!(find(entry.name).as_ref(), Some(&entry));
            assert!(entry.example_lines.iter().all(|line| line.chars().count() <= 78));
        }
        assert_eq!(find("trigram"), None);
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<&str> = entries().iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), entries().len());
    }

    #[test]
    fn a_wrong_symbol_shows_beside_the_answer() {
        assert_eq!(
            draw(&[0, 4, 1, 3, 0, 258, 1, 258]).join("\n"),
            "pos      0   1   2   3   4   5   6   7\n\
             token    w   1   r   0   w 255   r 255\n\
             answer   .   .   .   1   .   .   . 255\n\
             scored               ^               ^",
        );
    }

    #[test]
    fn triggers_that_are_shown_stand_before_the_sequence_and_are_not_counted() {
        let corpus = Corpus::from_text("thém or the é").unwrap();
        let language = Bigram { corpus, show_latents: true, ..Bigram::paper(1) };
        let tokens: Vec<Token> = "éthémém"
            .chars()
            .map(|letter| language.corpus.characters().binary_search(&letter).unwrap() as Token)
            .collect();
        let trigger = Trigger { token: tokens[0], output: tokens[4] };
        assert_eq!(
            draw_bigram(&language, &tokens, &[trigger]).join("\n"),
            "pos     0  1  2  3  4  5  6\n\
             token   é  t  h  é  m  é  m\n\
             count  -1  .  .  1  .  2  .\n\
             answer  .  .  .  .  .  .  m\n\
             scored                    ^",
        );
    }

    #[test]
    fn the_gallery_looks_so() {
        let pages: Vec<String> = entries()
            .iter()
            .map(|entry| format!("{}\n{}", entry.title, entry.example_lines.join("\n")))
            .collect();
        insta::assert_snapshot!(pages.join("\n\n"));
    }
}
