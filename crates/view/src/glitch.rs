//! A glitch, token by token: the failing sequence, the write it forgot, the logits, the attention.
//!
//! A page speaks the words of its language: of reads and writes in flip-flop, of triggers, their
//! outputs and occurrences in the bigram language, of states in the automaton.

use crate::number;
use crate::sparkline::level;
use crate::table::{Align, Table};
use std::collections::BTreeSet;

mod automaton;
mod bigram;

/// What an example is made of, which decides the words of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Instructions and symbols in pairs: asked at an `r`, right is what a `w` wrote last.
    FlipFlop,
    /// Characters, of which some are triggers: asked at one, right is its output.
    Bigram {
        /// Which occurrence of the trigger the query is; 0 if the token there is no trigger.
        occurrence: i32,
    },
    /// Writes and no-ops: asked at every token, right is the state that the last write made.
    Automaton,
    /// Flip-flop whose tokens are not an instruction or a symbol each: asked before a token of a read,
    /// right is the same token of the last write.
    Spelt,
}

impl Language {
    /// What stands where the model is asked.
    fn query(self) -> &'static str {
        match self {
            Self::FlipFlop => "read",
            Self::Bigram { occurrence } if occurrence > 0 => "trigger",
            Self::Bigram { .. } | Self::Automaton | Self::Spelt => "token",
        }
    }
}

/// Everything the picture of a glitch needs.
///
/// Tokens come as the words that stand for them, so that this page knows no vocabulary.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What the example is made of.
    pub language: Language,
    /// The run whose model erred.
    pub run: String,
    /// Steps that model had been trained for.
    pub step: u64,
    /// The evaluation set.
    pub set: String,
    /// Which example of the set.
    pub index: u64,
    /// The word of each token of the example.
    pub words: Vec<String>,
    /// The word of each token of the vocabulary.
    pub vocab: Vec<String>,
    /// The place of the `r`, of the trigger, or of the token whose state is asked for.
    pub query_pos: usize,
    /// The place of the last `w` before it, or of the same trigger; its own place if there is none.
    pub write_pos: usize,
    /// The token that is right, as an index into `vocab`.
    pub expected: usize,
    /// The arg-max over the whole vocabulary, as an index into `vocab`.
    pub predicted: usize,
    /// The logits of the replay, `[d_vocab]`.
    pub logits: Vec<f32>,
    /// The logits in the record, `[d_vocab]`.
    pub logits_recorded: Vec<f32>,
    /// Where each head looked from the query; empty for models without attention.
    pub attention: Vec<Head>,
}

/// Where one head looked.
#[derive(Clone, Debug)]
pub struct Head {
    /// Layer, from 0.
    pub layer: usize,
    /// Head, from 0.
    pub head: usize,
    /// The share of attention on each place up to the query.
    pub weights: Vec<f32>,
}

/// Rows of the sequence shown in full; a longer one is shown around the write and the read.
const MOST_ROWS: usize = 12;
/// Positions in the attention picture, the write and the read not counted.
const MOST_POSITIONS: usize = 10;
/// Heads beside each other in the attention picture, gaps between layers included.
const GRID_WIDTH: usize = 54;

/// The page of a glitch.
#[must_use]
pub fn page(picture: &Picture) -> String {
    let mut page = format!(
        "Glitch: {}, example {}, the {} at position {}\n  run {}, after {}\n\n",
        picture.set,
        number::count(picture.index),
        picture.language.query(),
        picture.query_pos,
        picture.run,
        number::counted(picture.step, "step", "steps"),
    );
    let (sequence, answer) = match picture.language {
        Language::FlipFlop => (sequence(picture), answer(picture)),
        Language::Bigram { occurrence } => {
            (bigram::sequence(picture), bigram::answer(picture, occurrence))
        }
        Language::Automaton => (automaton::sequence(picture), automaton::answer(picture)),
        Language::Spelt => (automaton::sequence(picture), automaton::spelt_answer(picture)),
    };
    page += &sequence;
    page += "\n";
    page += &answer;
    page += "\n";
    page += &logits(picture);
    page += "\n";
    page += &attention(picture);
    page
}

/// The example up to the read, in rows of instruction and symbol, the write and the read marked.
fn sequence(picture: &Picture) -> String {
    let last_pair = picture.query_pos / 2;
    let word = |pos: usize| picture.words.get(pos).map_or("", String::as_str);
    let pairs: Vec<String> = (0..=last_pair)
        .map(|pair| match pair {
            _ if pair == last_pair => format!("{}?", word(picture.query_pos)),
            _ => format!("{}{}", word(2 * pair), word(2 * pair + 1)),
        })
        .collect();
    let pair_width = pairs.iter().map(|pair| pair.chars().count()).max().unwrap_or(2);
    let per_row = ((crate::WIDTH - 8) / (pair_width + 1) / 4 * 4).max(4);
    let rows: Vec<&[String]> = pairs.chunks(per_row).collect();
    let write_pair = picture.write_pos / 2;
    let shown = shown_rows(rows.len(), write_pair / per_row);
    let mut page = String::new();
    let mut next = 0;
    for row in shown {
        if row > next {
            let n_tokens = 2 * per_row * (row - next);
            page += &format!("         … {n_tokens} tokens …\n");
        }
        next = row + 1;
        let cells: Vec<String> =
            rows[row].iter().map(|pair| format!("{pair:<pair_width$}")).collect();
        page += &format!("  {:>5}  {}\n", 2 * row * per_row, cells.join(" ").trim_end());
        let marks = marks(row * per_row, rows[row].len(), write_pair, last_pair, pair_width);
        if !marks.is_empty() {
            page += &format!("         {marks}\n");
        }
    }
    page += "         ^^ the last write    == the read\n";
    page
}

/// Which rows are shown: all of a short sequence; else the ends of the story and their neighbours.
fn shown_rows(n_rows: usize, write_row: usize) -> BTreeSet<usize> {
    if n_rows <= MOST_ROWS {
        return (0..n_rows).collect();
    }
    let around = |row: usize| row.saturating_sub(1)..(row + 2).min(n_rows);
    around(write_row).chain(around(n_rows - 1)).collect()
}

fn marks(first: usize, n: usize, write_pair: usize, read_pair: usize, pair_width: usize) -> String {
    let mut line = String::new();
    for pair in first..first + n {
        let mark = match pair {
            _ if pair == read_pair => "==",
            _ if pair == write_pair => "^^",
            _ => "",
        };
        line += &format!("{mark:<width$}", width = pair_width + 1);
    }
    line.trim_end().to_owned()
}

fn answer(picture: &Picture) -> String {
    let Picture { query_pos, write_pos, vocab, expected, predicted, .. } = picture;
    let name = |token: usize| vocab.get(token).map_or("?", String::as_str);
    let n_back = query_pos.saturating_sub(*write_pos) / 2;
    format!(
        "  The register holds {} (written at position {write_pos}, {} back).\n  \
         The model answered {}.\n",
        name(*expected),
        number::counted(n_back as u64, "instruction", "instructions"),
        name(*predicted),
    )
}

/// The logits now and in the record, digit for digit.
fn logits(picture: &Picture) -> String {
    let Picture { logits, logits_recorded, vocab, .. } = picture;
    let mut table = Table::new(&[
        ("token", Align::Left),
        ("logit", Align::Right),
        ("recorded", Align::Right),
        ("probability", Align::Right),
        ("", Align::Left),
    ]);
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    for token in shown_tokens(picture) {
        let Some(&logit) = logits.get(token) else { continue };
        let note = match (token == picture.expected, token == picture.predicted) {
            (true, true) => "right, and the answer",
            (true, false) => "right",
            (false, true) => "the answer",
            (false, false) => "",
        };
        table.row([
            vocab.get(token).cloned().unwrap_or_default(),
            logit.to_string(),
            logits_recorded.get(token).map_or_else(|| "-".to_owned(), ToString::to_string),
            number::rate(f64::from(logit - highest).exp() / sum),
            note.to_owned(),
        ]);
    }
    format!("{table}\n  {}\n", sameness(picture))
}

/// Whether the replay gave the recorded numbers.
fn sameness(picture: &Picture) -> String {
    let Picture { logits, logits_recorded, .. } = picture;
    if picture.same_bits() {
        return "The logits are those of the record, to the bit.".to_owned();
    }
    if logits.len() != logits_recorded.len() {
        let (now, then) = (logits.len(), logits_recorded.len());
        return format!("The logits DIFFER from the record: {now} now, {then} then.");
    }
    let largest = std::iter::zip(logits, logits_recorded)
        .map(|(now, then)| f64::from((now - then).abs()))
        .fold(0.0, f64::max);
    format!("The logits DIFFER from the record, by up to {}.", number::rate(largest))
}

impl Picture {
    /// Whether the replay gave the recorded logits to the bit.
    #[must_use]
    pub fn same_bits(&self) -> bool {
        let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
        bits(&self.logits) == bits(&self.logits_recorded)
    }
}

/// Every token of a small vocabulary; of a large one the likeliest, and always the right one.
fn shown_tokens(picture: &Picture) -> Vec<usize> {
    const MOST_TOKENS: usize = 8;
    let mut tokens: Vec<usize> = (0..picture.logits.len()).collect();
    if tokens.len() > MOST_TOKENS {
        tokens.sort_by(|&a, &b| picture.logits[b].total_cmp(&picture.logits[a]));
        let place = tokens.iter().position(|&token| token == picture.expected);
        if let Some(place) = place.filter(|&place| place >= MOST_TOKENS) {
            tokens.swap(MOST_TOKENS - 1, place);
        }
        tokens.truncate(MOST_TOKENS);
    }
    tokens
}

/// One column a head, one row a position: how much of its attention each head spent where.
fn attention(picture: &Picture) -> String {
    if picture.attention.is_empty() {
        return "  This model has no attention to show.\n".to_owned();
    }
    let mut page = format!(
        "Attention from the {} (position {}) over positions 0 to {}\n",
        picture.language.query(),
        picture.query_pos,
        picture.query_pos
    );
    let positions = shown_positions(picture);
    for block in blocks(&picture.attention) {
        page += "\n";
        page += &grid(picture, &positions, &block);
    }
    page += "\n  A column is a head, a bar its share of attention: ▁ 0.01, ▃ 0.1, ▅ 0.3, █ 0.8.\n";
    page += match picture.language {
        Language::FlipFlop => {
            "  w the last write, s its symbol, r the read; `most` is the largest share there.\n"
        }
        Language::Bigram { .. } if picture.write_pos == picture.query_pos => {
            "  q the token asked at; `most` is the largest share there.\n"
        }
        Language::Bigram { .. } => {
            "  t the trigger before, o its output, q the query; `most` the largest share.\n"
        }
        Language::Automaton | Language::Spelt => {
            "  w the last write, q the token asked at; `most` is the largest share there.\n"
        }
    };
    page
}

/// The positions most attended by any head, in order, and always the write, its symbol, the read;
/// or the trigger before, its output, the trigger now.
fn shown_positions(picture: &Picture) -> BTreeSet<usize> {
    let mut strongest: Vec<(usize, f32)> =
        (0..=picture.query_pos).map(|pos| (pos, most_at(&picture.attention, pos))).collect();
    strongest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    // Where a write is one token, the one after it is like any other.
    let plain = matches!(picture.language, Language::Automaton | Language::Spelt);
    let after = picture.write_pos + usize::from(!plain);
    let always = [picture.write_pos, after, picture.query_pos];
    let most_attended = strongest.iter().map(|(pos, _)| *pos).filter(|pos| !always.contains(pos));
    let shown = most_attended.take(MOST_POSITIONS).chain(always);
    // Where nothing before tells the answer, the place after the query is none to look at.
    shown.filter(|&pos| pos <= picture.query_pos).collect()
}

fn most_at<'h>(heads: impl IntoIterator<Item = &'h Head>, pos: usize) -> f32 {
    heads.into_iter().filter_map(|head| head.weights.get(pos)).copied().fold(0.0, f32::max)
}

/// Layers, split so that each block of them fits beside the positions.
fn blocks(heads: &[Head]) -> Vec<Vec<&[Head]>> {
    let mut blocks: Vec<Vec<&[Head]>> = Vec::new();
    let mut width = 0;
    for layer in heads.chunk_by(|a, b| a.layer == b.layer) {
        if blocks.is_empty() || width + layer.len() + 1 > GRID_WIDTH {
            blocks.push(Vec::new());
            width = 0;
        }
        width += column_width(layer) + 1;
        if let Some(block) = blocks.last_mut() {
            block.push(layer);
        }
    }
    blocks
}

/// A layer's columns: one a head, and room for its heading.
fn column_width(layer: &[Head]) -> usize {
    layer.len().max(heading(layer).chars().count())
}

fn heading(layer: &[Head]) -> String {
    layer.first().map(|head| format!("L{}", head.layer)).unwrap_or_default()
}

fn grid(picture: &Picture, positions: &BTreeSet<usize>, block: &[&[Head]]) -> String {
    let headings: Vec<String> = block
        .iter()
        .map(|layer| format!("{:<w$}", heading(layer), w = column_width(layer)))
        .collect();
    let [query, write, symbol] = match picture.language {
        Language::FlipFlop => ['r', 'w', 's'],
        Language::Bigram { .. } => ['q', 't', 'o'],
        Language::Automaton | Language::Spelt => ['q', 'w', ' '],
    };
    let mut page = format!("      pos  token  {}  most\n", headings.join(" "));
    for &pos in positions {
        let mark = match pos {
            _ if pos == picture.query_pos => query,
            _ if pos == picture.write_pos => write,
            _ if pos == picture.write_pos + 1 => symbol,
            _ => ' ',
        };
        let cells: Vec<String> = block
            .iter()
            .map(|layer| {
                let bars: String = layer.iter().map(|head| bar(head, pos)).collect();
                format!("{bars:<w$}", w = column_width(layer))
            })
            .collect();
        let most = most_at(block.iter().copied().flatten(), pos);
        let word = picture.words.get(pos).map_or("", String::as_str);
        page += &format!("  {mark} {pos:>5}  {word:<5}  {}  {most:.2}\n", cells.join(" "));
    }
    page
}

fn bar(head: &Head, pos: usize) -> char {
    level(head.weights.get(pos).copied().map_or(0.0, f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::assert_fits;

    /// A text with a trigger at three places, the last of them the query.
    fn bigram_picture(occurrence: i32) -> Picture {
        let text = "so␣foul␣and␣fair␣a␣day␣I␣have␣not␣seen.\n".repeat(6);
        let words: Vec<String> = text.chars().map(|letter| letter.to_string()).collect();
        let words: Vec<String> = words
            .into_iter()
            .map(|word| if word == "\n" { "\\n".to_owned() } else { word })
            .collect();
        let query_pos = 180;
        let write_pos = if occurrence > 1 { 140 } else { query_pos };
        let head = |layer: usize| {
            let mut weights = vec![0.3 / query_pos as f32; query_pos + 1];
            weights[141] += 0.7;
            Head { layer, head: 0, weights }
        };
        Picture {
            language: Language::Bigram { occurrence },
            set: "val".to_owned(),
            words,
            vocab: ["\\n", "␣", "a", "y"].map(ToOwned::to_owned).to_vec(),
            query_pos,
            write_pos,
            expected: 3,
            predicted: 2,
            logits: vec![0.5, 1.25, 2.5, -3.0],
            logits_recorded: vec![0.5, 1.25, 2.5, -3.0],
            attention: vec![head(0), head(1)],
            ..picture(20, 4, 0, 0)
        }
    }

    #[test]
    fn a_glitch_on_bigrams_speaks_of_triggers() {
        let page = page(&bigram_picture(5));
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn a_glitch_on_the_automaton_speaks_of_states() {
        let words = "1--0-0----1--".repeat(6);
        let picture = |query_pos: usize, write_pos: usize, expected: usize| Picture {
            language: Language::Automaton,
            words: words.chars().map(|letter| letter.to_string()).collect(),
            vocab: ["-", "0", "1"].map(ToOwned::to_owned).to_vec(),
            expected,
            predicted: 1,
            logits: vec![-4.0, 1.5, 0.5],
            logits_recorded: vec![-4.0, 1.5, 0.5],
            query_pos,
            write_pos,
            ..self::picture(query_pos, write_pos.min(query_pos - 1), 2, 2)
        };
        let page = page(&picture(64, 62, 2));
        assert_fits(&page);
        insta::assert_snapshot!(page);
        assert!(super::page(&picture(62, 62, 2)).contains("The state is 1: this token writes it."));
        let unwritten = super::page(&picture(2, 2, 1));
        assert!(unwritten.contains("as at the beginning: nothing has been written"), "{unwritten}");
    }

    #[test]
    fn a_glitch_in_another_coding_is_told_token_by_token() {
        let words = ["w1", "i0", "i1", "w0", "i1", "i1", "r0"];
        let picture = Picture {
            language: Language::Spelt,
            words: words.map(ToOwned::to_owned).to_vec(),
            vocab: ["w0", "w1", "r0", "r1", "i0", "i1"].map(ToOwned::to_owned).to_vec(),
            expected: 2,
            predicted: 3,
            logits: vec![0.0, 0.0, 1.0, 1.5, 0.0, 0.0],
            logits_recorded: vec![0.0, 0.0, 1.0, 1.5, 0.0, 0.0],
            ..picture(5, 3, 1, 2)
        };
        let page = page(&picture);
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn what_stands_nowhere_before_is_said_so() {
        for (occurrence, says) in [(1, "first occurrence"), (0, "is no trigger in this example")] {
            let page = page(&bigram_picture(occurrence));
            assert_fits(&page);
            assert!(page.contains(says) && !page.contains("^^"), "{page}");
            assert!(page.contains("q   180") && !page.contains("181"), "{page}");
        }
    }

    #[test]
    fn no_page_on_bigrams_speaks_of_flip_flop() {
        for occurrence in [0, 1, 2] {
            let page = page(&bigram_picture(occurrence));
            for word in ["read", "write", "written", "register", "symbol", "instruction"] {
                assert!(!page.contains(word), "{word}: {page}");
            }
        }
    }

    /// A read at `query_pos` of a sequence whose only write is at `write_pos`.
    fn picture(query_pos: usize, write_pos: usize, n_layers: usize, n_heads: usize) -> Picture {
        let words = (0..query_pos + 2).map(|pos| match pos {
            _ if pos == query_pos => "r",
            _ if pos == write_pos => "w",
            _ if pos % 2 == 0 => "i",
            _ if pos == write_pos + 1 => "1",
            _ => ["0", "1"][pos / 2 % 2],
        });
        let head = |layer: usize, head: usize| {
            let at = (query_pos * (head + 1) / (n_heads + 1) + layer).min(query_pos);
            let mut weights = vec![0.2 / query_pos as f32; query_pos + 1];
            weights[at] += 0.5;
            weights[write_pos + 1] += 0.3;
            Head { layer, head, weights }
        };
        Picture {
            language: Language::FlipFlop,
            run: "3f2a9c0b1d2e4f56".to_owned(),
            step: 1000,
            set: "val_sparse".to_owned(),
            index: 12_345,
            words: words.map(ToOwned::to_owned).collect(),
            vocab: ["w", "r", "i", "0", "1"].map(ToOwned::to_owned).to_vec(),
            query_pos,
            write_pos,
            expected: 4,
            predicted: 3,
            logits: vec![-8.5, -9.25, -7.125, 3.310_532, 3.189_077],
            logits_recorded: vec![-8.5, -9.25, -7.125, 3.310_532, 3.189_077],
            attention: (0..n_layers)
                .flat_map(|layer| (0..n_heads).map(move |idx| head(layer, idx)))
                .collect(),
        }
    }

    #[test]
    fn a_glitch_of_a_small_transformer() {
        let page = page(&picture(158, 44, 2, 4));
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn a_glitch_of_the_base_transformer_fits_too() {
        let page = page(&picture(510, 0, 6, 8));
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn a_long_sequence_is_shown_where_it_matters() {
        let picture = picture(4000, 1000, 0, 0);
        let text = sequence(&picture);
        assert_fits(&text);
        assert!(text.contains(" tokens …"), "{text}");
        assert!(text.contains("^^\n") && text.contains("==\n"), "{text}");
        assert!(text.lines().count() < 15, "{text}");
    }

    #[test]
    fn a_wide_model_is_split_between_layers() {
        let page = attention(&picture(100, 4, 12, 12));
        assert_fits(&page);
        assert_eq!(page.matches("pos  token").count(), 3, "{page}");
    }

    #[test]
    fn a_single_flipped_bit_is_not_the_same() {
        let mut picture = picture(20, 4, 0, 0);
        assert!(picture.same_bits());
        picture.logits[4] = f32::from_bits(picture.logits[4].to_bits() ^ 1);
        assert!(!picture.same_bits());
        let page = page(&picture);
        assert!(page.contains("The logits DIFFER from the record, by up to 2.38e-7."), "{page}");
        assert!(page.contains("This model has no attention to show."), "{page}");
    }

    #[test]
    fn a_large_vocabulary_shows_the_likeliest_and_the_right_token() {
        let mut picture = picture(20, 4, 0, 0);
        picture.logits = (0..259).map(|token| token as f32 / 10.0).collect();
        picture.expected = 5;
        let shown = shown_tokens(&picture);
        assert_eq!(shown.len(), 8);
        assert!(shown.contains(&5) && shown.contains(&258));
    }
}
