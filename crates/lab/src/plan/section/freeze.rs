//! `train.freeze` and `train.learn`: which params stay as they are, by name or pattern.

use std::collections::BTreeMap;

use mnemoscope_model::{ModelSpec, layout};

use crate::plan::complaint::{Fault, Place};
use crate::plan::reader::{Notes, Section};
use crate::plan::suggest;
use crate::plan::types::Freeze;

/// The two lists as they were written.
#[derive(Debug)]
pub(super) struct Freezing<'t> {
    freeze: Vec<(&'t str, Place)>,
    learn: Vec<(&'t str, Place)>,
}

impl<'t> Freezing<'t> {
    pub(super) fn read(train: &mut Section<'t, '_>) -> Self {
        let mut list = |key, such_as| train.texts(key, such_as).unwrap_or_default();
        Self {
            freeze: list("freeze", r#"["blocks.*.attn.v.weight", "unembed.weight until 300"]"#),
            learn: list("learn", r#"["embed.weight"]"#),
        }
    }

    /// What is frozen of a model: what it freezes by itself but for `learn`, and what `freeze` says.
    ///
    /// Nothing is said of a model that cannot be made.
    pub(super) fn of(&self, model: &ModelSpec, notes: &Notes<'_>) -> BTreeMap<String, Freeze> {
        if !model.check().is_empty() {
            return BTreeMap::new();
        }
        let names: Vec<String> = layout(model).into_iter().map(|slot| slot.name).collect();
        let mut frozen: BTreeMap<String, Freeze> =
            model.frozen_by_default().into_iter().map(|name| (name, Freeze::Always)).collect();
        let complain = |key: &str, place, message| {
            notes.complain(Fault::Together, &format!("train.{key}"), place, message);
        };
        for &(pattern, place) in &self.learn {
            let found = matching(pattern, &names);
            if found.is_empty() {
                complain("learn", place, unknown(pattern, &names));
            }
            frozen.retain(|name, _| !found.contains(&name.as_str()));
        }
        let mut said: BTreeMap<&str, Freeze> = BTreeMap::new();
        for &(rule, place) in &self.freeze {
            let (pattern, freeze) = match parse(rule) {
                Ok(parsed) => parsed,
                Err(message) => {
                    complain("freeze", place, message);
                    continue;
                }
            };
            let found = matching(pattern, &names);
            if found.is_empty() {
                complain("freeze", place, unknown(pattern, &names));
            }
            for name in found {
                if said.insert(name, freeze).is_some_and(|before| before != freeze) {
                    let message = format!("`{name}` is frozen twice, for different times");
                    complain("freeze", place, message);
                }
            }
        }
        frozen.extend(said.into_iter().map(|(name, freeze)| (name.to_owned(), freeze)));
        frozen
    }
}

/// `PATTERN` or `PATTERN until STEP`.
fn parse(rule: &str) -> Result<(&str, Freeze), String> {
    let words: Vec<&str> = rule.split_whitespace().collect();
    match words[..] {
        [pattern] => Ok((pattern, Freeze::Always)),
        [pattern, "until", step] => match step.replace('_', "").parse() {
            Ok(step) if step > 0 => Ok((pattern, Freeze::Until(step))),
            _ => Err(format!("`{step}` is no step; write a whole number from 1")),
        },
        _ => Err(format!(
            "`{rule}` is no rule; write a param or a pattern, and perhaps `until` and a step, such as \
             `blocks.*.attn.k.weight until 300`"
        )),
    }
}

/// The names that a pattern means; `*` stands for any characters.
fn matching<'a>(pattern: &str, names: &'a [String]) -> Vec<&'a str> {
    names.iter().map(String::as_str).filter(|name| matches(pattern, name)).collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.any(|at| matches(after, &rest[at..]))
        }),
    }
}

fn unknown(pattern: &str, names: &[String]) -> String {
    let near = suggest::nearest(pattern, names.iter().map(String::as_str));
    let advice = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its params are {}", names.join(", ")),
    };
    format!("the model has no param `{pattern}`; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("embed.weight", "embed.weight", true),
            ("embed.weight", "unembed.weight", false),
            ("*", "embed.weight", true),
            ("blocks.*.attn.k.weight", "blocks.1.attn.k.weight", true),
            ("blocks.*.attn.k.weight", "blocks.1.attn.v.weight", false),
            ("*.attn.*", "blocks.1.attn.v.weight", true),
            ("*embed*", "unembed.weight", true),
            ("blocks.1.*", "blocks.1.", true),
            ("blocks.1.*x", "blocks.1.mlp.weight", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_rule_is_a_pattern_and_perhaps_a_step() {
        assert_eq!(parse("a.*"), Ok(("a.*", Freeze::Always)));
        assert_eq!(parse("a until 1_000"), Ok(("a", Freeze::Until(1000))));
        for wrong in ["a until", "a until 0", "a until soon", "a for 300", "a b", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
