//! Drawing an example: its triggers, their outputs, and the chain of its tokens.
//!
//! ```text
//! rows       a ─> law of a    e ─> law of e    ...    one for each token
//! triggers            e with output m: the row of `e` becomes "always m" for this example
//! chain      first by the unigram law, then each by the row of the one before it
//! out        e | t h e m ...    the triggers stand before the chain if the language shows them
//! ```
//!
//! A trigger is a row like any other, so the chain has no branch: each token costs one word and
//! one look at a table, whether or not it was chance.

use mnemoscope_stats::stream::Draws;

use super::alias::{Row, Tables};
use super::{Bigram, Outputs, Trigger, Triggers};
use crate::token::Token;

/// Words fetched at a time. All of them are used, so it is no part of the format.
const CHUNK: usize = 256;

/// What it takes to draw examples one after the other.
pub(super) struct Drawer<'a> {
    language: &'a Bigram,
    tables: &'a Tables,
    fixed: Vec<Token>,
    /// The row of each token, that of a trigger changed while its example is drawn.
    rows: Vec<Row>,
    triggers: Vec<Trigger>,
}

impl<'a> Drawer<'a> {
    pub(super) fn of(language: &'a Bigram) -> Self {
        let tables = language.corpus.tables();
        let fixed = fixed_triggers(language);
        Self { language, tables, fixed, rows: tables.rows().to_vec(), triggers: Vec::new() }
    }

    /// The triggers of the example drawn last.
    pub(super) fn triggers(&self) -> &[Trigger] {
        &self.triggers
    }

    pub(super) fn draw(&mut self, draws: &mut Draws, out: &mut [Token]) {
        draw_triggers(self.language, &self.fixed, draws, &mut self.triggers);
        for trigger in &self.triggers {
            self.rows[usize::from(trigger.token)] = self.tables.constant(trigger.output);
        }
        let sequence = show_latents(self.language, &self.triggers, out);
        let mut row = self.tables.unigrams();
        let mut words = [0; CHUNK];
        for tokens in sequence.chunks_mut(CHUNK) {
            let words = &mut words[..tokens.len()];
            draws.fill_u32(words);
            for (token, &word) in std::iter::zip(tokens, &*words) {
                *token = self.tables.token(row, word);
                row = self.rows[usize::from(*token)];
            }
        }
        for trigger in &self.triggers {
            let token = usize::from(trigger.token);
            self.rows[token] = self.tables.rows()[token];
        }
    }
}

/// Writes the triggers before the sequence if the language shows them; the space that is left.
fn show_latents<'o>(
    language: &Bigram,
    triggers: &[Trigger],
    out: &'o mut [Token],
) -> &'o mut [Token] {
    let (latents, sequence) = out.split_at_mut(language.n_latents());
    for (latent, trigger) in std::iter::zip(latents, triggers) {
        *latent = trigger.token;
    }
    sequence
}

/// The triggers that need no draw: all of the fixed ones, none of the random ones.
fn fixed_triggers(language: &Bigram) -> Vec<Token> {
    match language.triggers {
        Triggers::Fixed => language.fixed_triggers(),
        Triggers::Random => Vec::new(),
    }
}

/// The triggers of the example that begins at `draws`.
pub(super) fn triggers(language: &Bigram, draws: &mut Draws) -> Vec<Trigger> {
    let mut triggers = Vec::new();
    draw_triggers(language, &fixed_triggers(language), draws, &mut triggers);
    triggers
}

fn draw_triggers(
    language: &Bigram,
    fixed: &[Token],
    draws: &mut Draws,
    triggers: &mut Vec<Trigger>,
) {
    triggers.clear();
    let trigger = |token| Trigger { token, output: token };
    match language.triggers {
        Triggers::Fixed => triggers.extend(fixed.iter().copied().map(trigger)),
        Triggers::Random => {
            for _ in 0..language.n_triggers {
                let (place, token) = draw_other(language, triggers, draws);
                triggers.insert(place, trigger(token));
            }
        }
    }
    for trigger in triggers {
        trigger.output = draw_output(language, trigger.token, draws);
    }
}

/// Draws a token by the unigram law among those that are not in `taken`, and its place there.
///
/// The characters of the text lie side by side, ordered by token. One of those that are left is
/// drawn evenly, and what is taken before it is stepped over.
fn draw_other(language: &Bigram, taken: &[Trigger], draws: &mut Draws) -> (usize, Token) {
    let ends = language.corpus.unigram_ends();
    let span = |token: Token| {
        let idx = usize::from(token);
        let start = if idx == 0 { 0 } else { ends[idx - 1] };
        (start, ends[idx] - start)
    };
    let n_taken: u32 = taken.iter().map(|trigger| span(trigger.token).1).sum();
    let mut character = draws.below(ends[ends.len() - 1] - n_taken);
    let mut place = 0;
    for trigger in taken {
        let (start, count) = span(trigger.token);
        if character < start {
            break;
        }
        character += count;
        place += 1;
    }
    (place, ends.partition_point(|&end| end <= character) as Token)
}

/// Draws the output of a trigger.
fn draw_output(language: &Bigram, trigger: Token, draws: &mut Draws) -> Token {
    match language.outputs {
        Outputs::Uniform => {
            let split = language.output_tokens();
            let excluded = language.no_repeat && split.contains(&trigger);
            let output =
                split.start + draws.below(split.len() as u32 - u32::from(excluded)) as Token;
            output + Token::from(excluded && output >= trigger)
        }
        Outputs::Bigram => {
            let n: u32 = language.bigram_outputs(trigger).map(|(_, count)| count).sum();
            let mut rest = draws.below(n);
            let owner = language.bigram_outputs(trigger).find(|&(_, count)| {
                let owns = rest < count;
                rest = rest.wrapping_sub(count);
                owns
            });
            owner.expect("what was drawn lies below the sum of the counts").0
        }
    }
}

/// The same examples from the same draws, one token at a time.
pub(super) fn reference(language: &Bigram, draws: &mut Draws, out: &mut [Token]) {
    let tables = language.corpus.tables();
    let triggers = triggers(language, draws);
    let mut previous: Option<Token> = None;
    for (pos, token) in out.iter_mut().enumerate() {
        if language.show_latents && pos < triggers.len() {
            *token = triggers[pos].token;
            continue;
        }
        let word = draws.next_u32();
        let trigger = triggers.iter().find(|trigger| previous == Some(trigger.token));
        *token = match (previous, trigger) {
            (None, _) => tables.token(tables.unigrams(), word),
            (_, Some(trigger)) => trigger.output,
            (Some(previous), None) => tables.token(tables.rows()[usize::from(previous)], word),
        };
        previous = Some(*token);
    }
}
