//! One word per thing: the words that public names do not use, and what they use instead.
//!
//! The lexicon itself, with the meaning of each word, is `STYLE.md`.

use crate::Finding;
use crate::source::{Name, Source};

/// A word that a public name does not contain, in lower case with `_` between its parts.
const BANNED: &[(&str, &str)] = &[
    ("accuracy", "error_rate"),
    ("artefact", "record"),
    ("artifact", "record"),
    ("campaign", "sweep"),
    ("config", "spec (as written) or plan (resolved)"),
    ("data_set", "task"),
    ("dataset", "task"),
    ("ensemble", "stack"),
    ("epoch", "step"),
    ("experiment", "study"),
    ("hallucination", "glitch"),
    ("hidden", "resid"),
    ("hidden_state", "resid"),
    ("hyperparameter", "plan"),
    ("hyperparams", "plan"),
    ("iteration", "step"),
    ("job", "run"),
    ("knock_out", "ablate"),
    ("lm_head", "unembed"),
    ("miss", "error"),
    ("mistake", "error"),
    ("num", "n_"),
    ("observation", "trial"),
    ("rng", "stream or draws"),
    ("sample", "example (what is drawn) or generate (to draw)"),
    ("samples", "examples"),
    ("timestep", "pos"),
];

/// A first word that says nothing.
const BANNED_FIRST: &[(&str, &str)] =
    &[("get", "the noun alone"), ("compute", "the noun alone"), ("num", "n_")];

/// Every public name of a file that uses a word the lexicon gave up.
///
/// # Example
///
/// ```
/// use xtask::{lexicon, source::Source};
///
/// let source = Source::parse("src/lib.rs", "pub struct TrainConfig;").unwrap();
/// assert_eq!(lexicon::check(&source).len(), 1);
/// ```
#[must_use]
pub fn check(source: &Source) -> Vec<Finding> {
    let shipped = source.public_names.iter().filter(|name| !source.is_test_line(name.line));
    shipped.flat_map(|name| complaints(source, name)).collect()
}

fn complaints(source: &Source, name: &Name) -> Vec<Finding> {
    let spelt = format!("_{}_", snake(&name.text));
    let anywhere = BANNED.iter().filter(|(word, _)| spelt.contains(&format!("_{word}_")));
    // A word that stands alone is free: `get(name)` is how Rust's own collections look things up.
    let first = BANNED_FIRST.iter().filter(|(word, _)| {
        spelt.strip_prefix(&format!("_{word}_")).is_some_and(|rest| !rest.is_empty())
    });
    let mut findings: Vec<Finding> = anywhere
        .chain(first)
        .map(|(word, instead)| {
            let message = format!("`{}`: not `{word}` but {instead}", name.text);
            Finding::new(source.at(name.line), message)
        })
        .collect();
    findings.dedup();
    findings
}

/// `TrainConfig`, `trainConfig` and `TRAIN_CONFIG` as `train_config`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut after_lower = false;
    for letter in name.chars() {
        if letter.is_uppercase() && after_lower {
            out.push('_');
        }
        after_lower = letter.is_lowercase() || letter.is_ascii_digit();
        out.extend(letter.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let source = Source::parse("src/lib.rs", text).unwrap();
        check(&source).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_banned_word_is_found_in_every_spelling() {
        for text in [
            "pub struct TrainConfig;",
            "pub const DEFAULT_CONFIG: u8 = 0;",
            "pub fn config() {}",
            "pub struct S { pub config: u8 }",
            "pub enum E { Config }",
        ] {
            let found = found(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].ends_with("not `config` but spec (as written) or plan (resolved)"));
        }
    }

    #[test]
    fn a_word_inside_another_and_a_private_name_are_free() {
        for text in [
            "pub fn n_resamples() {}",
            "pub fn reconfigure() {}",
            "pub fn log_sum_exp() {}",
            "pub fn target() {}",
            "fn config() {}",
            "#[cfg(test)]\nmod tests { pub fn config() {} }",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_function_is_named_by_what_it_gives() {
        assert_eq!(found("pub fn get_seed() {}"), ["`get_seed`: not `get` but the noun alone"]);
        assert_eq!(found("pub fn target_seed() {}"), Vec::<String>::new());
        assert_eq!(found("pub fn get(name: &str) {}"), Vec::<String>::new());
    }
}
