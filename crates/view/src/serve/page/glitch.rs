//! A failing sequence, token by token: what the model answers, where its heads look, edited, at any checkpoint.
//!
//! The page holds what the record says and an empty place; the script draws the viewer there from two answers, one of
//! words and logits as JSON, one of all patterns in a compact form, and asks anew when a token is edited or the slider
//! moves. A model of 6 layers of 8 heads has 12 million shares over 512 tokens: they go as 16 bits each and are drawn as
//! pixels, not as shapes.

use std::sync::Arc;

use mnemoscope_store::RunReader;
use serde_json::{Value, json};

use super::run::named;
use super::{Live, Page, cell};
use crate::figure::escaped;
use crate::serve::Board;
use crate::serve::lab::{Asked, Refusal, RefusalKind, Seen, Waiting};
use crate::serve::web::{Query, Reply, encoded};

/// Tokens that are edited at once, at most: as many as an address holds.
const MOST_EDITS: usize = 512;

/// A kept error of a run.
pub(in crate::serve) struct Kept {
    record: RunReader,
    number: usize,
    n_glitches: usize,
    name: String,
    stored: Value,
}

impl Kept {
    /// Finds an error by its number, from 0.
    pub(in crate::serve) fn find(board: &Board, run: &str, number: &str) -> Result<Self, Refusal> {
        let record = board.run(run)?;
        let names = record.names("glitches")?;
        let idx = number.parse::<usize>().ok();
        let Some((number, name)) = idx.and_then(|idx| Some((idx, names.get(idx)?.clone()))) else {
            let kept = match names.len() {
                0 => "keeps no glitch".to_owned(),
                n => format!("keeps {n} glitches, numbered from 0 to {}", n - 1),
            };
            return Err(Refusal::new(RefusalKind::NotFound, format!("run {} {kept}", record.id())));
        };
        board.refuse_links(&record.path().join(&name))?;
        let stored = record.json(&name)?;
        Ok(Self { number, n_glitches: names.len(), record, name, stored })
    }

    fn number_of(&self, key: &str) -> Result<usize, Refusal> {
        let number = self.stored[key].as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| {
            Refusal::new(RefusalKind::Record, format!("{} has no `{key}`", self.name))
        })
    }

    /// Steps of the checkpoints that are kept.
    fn steps(&self) -> Vec<u64> {
        self.record.checkpoints().iter().map(|checkpoint| checkpoint.step).collect()
    }
}

/// The page.
pub(in crate::serve) fn page(board: &Board, run: &str, number: &str) -> Result<Reply, Refusal> {
    let kept = Kept::find(board, run, number)?;
    let id = encoded(kept.record.id());
    let (set, index, query_pos) = named(&kept.name).unwrap_or((&kept.name, "", ""));
    let beside = |number: Option<usize>, word: &str, name: &str| {
        let number = number.filter(|&number| number < kept.n_glitches);
        let link = |number| {
            format!(
                "<a rel=\"{name}\" id=\"glitch-{name}\" href=\"/run/{id}/glitch/{number}\">{word}</a> "
            )
        };
        number.map(link).unwrap_or_default()
    };
    let title = format!("Glitch {} of run {}", kept.number, kept.record.id());
    let head = format!(
        "<h1>Glitch {} of run <a href=\"/run/{id}\"><code>{}</code></a></h1>\n\
         <p class=\"lead\">{}, example {}, asked at place {}. {}{}</p>\n",
        kept.number,
        escaped(kept.record.id()),
        cell(set, 60),
        escaped(index),
        escaped(query_pos),
        beside(kept.number.checked_sub(1), "Glitch before", "prev"),
        beside(Some(kept.number + 1), "Next glitch", "next"),
    );
    let html = format!(
        "<div id=\"viewer\" data-source=\"/api/run/{id}/glitch/{}\"></div>\n\
         <noscript><p class=\"warning\">The viewer needs JavaScript; without it, the terminal shows the same sequence.</p></noscript>\n\
         <details><summary>The same in the terminal</summary><pre>mnemoscope replay {}:{}</pre></details>\n",
        kept.number,
        escaped(kept.record.id()),
        kept.number
    );
    // A kept error never changes: there is nothing to fetch again.
    let live = Live { source: String::new(), revision: String::new(), html };
    Ok(Page { title, place: "/", head, live }.reply(&board.name))
}

/// The edits of a question: `12:3,40:4`.
fn edits(query: &Query) -> Result<Vec<(usize, u32)>, Refusal> {
    let refuse = |part: &str| {
        let shown = crate::figure::label(part, 40);
        Refusal::new(
            RefusalKind::Asked,
            format!("`edit` has {shown:?} and should be places and tokens, such as `12:3,40:4`"),
        )
    };
    let pair = |part: &str| {
        let (pos, token) = part.split_once(':')?;
        Some((pos.parse().ok()?, token.parse().ok()?))
    };
    let parts = query.all("edit").flat_map(|edits| edits.split(','));
    let edits: Vec<(usize, u32)> =
        parts.map(|part| pair(part).ok_or_else(|| refuse(part))).collect::<Result<_, _>>()?;
    if edits.len() > MOST_EDITS {
        let words = format!("{} tokens are edited and at most {MOST_EDITS} can be", edits.len());
        return Err(Refusal::new(RefusalKind::Asked, words));
    }
    Ok(edits)
}

/// Answers the sequence as the question has it.
fn seen(
    board: &Board,
    kept: Kept,
    query: &Query,
    waiting: &Waiting,
) -> Result<(Kept, Arc<Seen>, bool), Refusal> {
    let (step, edits) = (query.number("step")?, edits(query)?);
    for checkpoint in kept.record.checkpoints() {
        if step.is_none_or(|step: u64| step == checkpoint.step) {
            board.refuse_links(&checkpoint.path)?;
        }
    }
    let is_edited = !edits.is_empty();
    let asked = Asked { glitch: kept.stored.clone(), step, edits };
    board.desk.ask(waiting, move |lab| {
        let seen = lab.see(&kept.record, &asked)?;
        Ok((kept, seen, is_edited))
    })
}

/// The sequence, its answers and logits.
pub(in crate::serve) fn data(
    board: &Board,
    run: &str,
    number: &str,
    query: &Query,
    waiting: &Waiting,
) -> Result<Reply, Refusal> {
    let (kept, seen, is_edited) = seen(board, Kept::find(board, run, number)?, query, waiting)?;
    let query_pos = kept.number_of("query_pos")?;
    let d_vocab = seen.vocab.len().max(1);
    let rows: Vec<&[f32]> = seen.logits.chunks_exact(d_vocab).collect();
    let places: Vec<Value> = seen
        .questions
        .iter()
        .filter_map(|question| {
            let predicted = largest(rows.get(question.query_pos)?);
            Some(json!({
                "pos": question.query_pos,
                "write_pos": question.write_pos,
                "expected": question.expected,
                "predicted": predicted,
                "right": predicted == question.expected as usize,
            }))
        })
        .collect();
    let same_bits =
        (!is_edited && kept.stored["checkpoint_blake3"] == seen.checkpoint).then(|| {
            same_bits(&kept.stored["logits"], rows.get(query_pos).copied().unwrap_or_default())
        });
    let said = json!({
        "run": kept.record.id(),
        "glitch": kept.number,
        "set": kept.stored["set"],
        "index": kept.stored["index"],
        "query_pos": query_pos,
        "step": seen.step,
        "steps": kept.steps(),
        "edited": is_edited,
        "same_bits": same_bits,
        "tokens": seen.tokens,
        "vocab": seen.vocab,
        "kinds": seen.kinds,
        "n_fed": seen.n_fed,
        "places": places,
        "maps": seen.patterns.iter().map(|it| [it.layer, it.head]).collect::<Vec<_>>(),
    });
    Ok(Reply::new("application/json", with_logits(&said, &rows)))
}

/// An object with logits written as the single precision numbers they are, with as many digits as tell them apart.
fn with_logits(said: &Value, rows: &[&[f32]]) -> String {
    let rows = serde_json::to_string(rows).unwrap_or_else(|_| "[]".to_owned());
    let said = said.to_string();
    format!("{},\"logits\":{rows}}}", said.strip_suffix('}').unwrap_or_default())
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, idx| if row[idx] > row[best] { idx } else { best })
}

/// Whether logits are the recorded ones to the bit.
fn same_bits(recorded: &Value, now: &[f32]) -> bool {
    let recorded = recorded.as_array().map_or(&[][..], Vec::as_slice);
    // A recorded number is a single precision one, written out.
    #[expect(clippy::cast_possible_truncation, reason = "it was one before it was written")]
    let bits = |value: &Value| value.as_f64().map(|number| (number as f32).to_bits());
    recorded.iter().map(bits).eq(now.iter().map(|logit| Some(logit.to_bits())))
}

/// Every pattern, in a compact form.
///
/// ```text
/// u32          number of patterns
/// u32          number of places n
/// u32, u32     layer and head, for each pattern
/// u16 ...      shares times 65 535, for each pattern row by row: row q has q + 1 of them
/// ```
///
/// All little-endian.
pub(in crate::serve) fn attention(
    board: &Board,
    run: &str,
    number: &str,
    query: &Query,
    waiting: &Waiting,
) -> Result<Reply, Refusal> {
    let (_, seen, _) = seen(board, Kept::find(board, run, number)?, query, waiting)?;
    Ok(Reply::new("application/octet-stream", packed(&seen)))
}

/// [`attention`] as bytes.
pub(in crate::serve) fn packed(seen: &Seen) -> Vec<u8> {
    let n = seen.n_fed;
    let mut bytes = Vec::with_capacity(8 + seen.patterns.len() * (8 + n * (n + 1)));
    let mut push =
        |number: usize| bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    push(seen.patterns.len());
    push(n);
    for pattern in &seen.patterns {
        push(pattern.layer);
        push(pattern.head);
    }
    for pattern in &seen.patterns {
        for (query, row) in pattern.shares.chunks_exact(n.max(1)).enumerate() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 65 535"
            )]
            let share =
                |share: &f32| ((share.clamp(0.0, 1.0) * 65_535.0).round() as u16).to_le_bytes();
            bytes.extend(row[..=query].iter().flat_map(share));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::lab::Pattern;

    #[test]
    fn edits_are_places_and_tokens() {
        let read = |text: &str| edits(&Query::parse(text));
        assert_eq!(read("edit=12:3,40:4&edit=1:0").unwrap(), [(12, 3), (40, 4), (1, 0)]);
        assert_eq!(read("").unwrap(), []);
        for wrong in ["edit=12", "edit=a:b", "edit=1:2,,", "edit=-1:2", "edit=1:99999999999999"] {
            let said = read(wrong).unwrap_err().message;
            assert!(said.ends_with("should be places and tokens, such as `12:3,40:4`"), "{said}");
        }
        let many = format!("edit={}", ["1:1"; 513].join(","));
        assert_eq!(
            read(&many).unwrap_err().message,
            "513 tokens are edited and at most 512 can be"
        );
    }

    #[test]
    fn patterns_are_packed_row_by_row_up_to_the_place_that_looks() {
        let shares = vec![1.0, 0.0, 0.25, 0.75];
        let seen = Seen {
            step: 1,
            checkpoint: String::new(),
            tokens: vec![0, 0, 0],
            n_fed: 2,
            vocab: vec!["a".into()],
            kinds: vec![0],
            logits: vec![0.0; 2],
            questions: Vec::new(),
            patterns: vec![Pattern { layer: 3, head: 7, shares }],
        };
        let words: Vec<u16> =
            packed(&seen).chunks(2).map(|it| u16::from_le_bytes([it[0], it[1]])).collect();
        assert_eq!(words, [1, 0, 2, 0, 3, 0, 7, 0, 65_535, 16_384, 49_151]);
    }

    #[test]
    fn logits_are_written_with_the_digits_of_single_precision() {
        let row = [0.1_f32, -6.191_973];
        assert_eq!(
            with_logits(&json!({"a": 1}), &[&row]),
            "{\"a\":1,\"logits\":[[0.1,-6.191973]]}"
        );
        assert!(same_bits(&json!([f64::from(row[0]), f64::from(row[1])]), &row));
        assert!(!same_bits(&json!([0.1]), &row));
    }
}
