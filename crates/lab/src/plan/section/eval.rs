//! `[eval]`: the fixed sets, and what is reported about them.

use std::collections::{BTreeMap, BTreeSet};

use mnemoscope_task::Task;

use super::bigram;
use super::task::{self, Defaults};
use crate::plan::complaint::Fault;
use crate::plan::reader::{Allowed, Section};
use crate::plan::suggest;
use crate::plan::types::{EvalPlan, EvalSet};

/// A set of the paper, under the name that the public data set gives it.
struct Published {
    name: &'static str,
    p_ignore: f64,
    n_examples: u64,
    /// How many the learning curves look at: for `val_sparse` the first 1 %, as in the paper.
    curve_examples: u64,
}

const PUBLISHED: [Published; 3] = [
    Published { name: "val", p_ignore: 0.8, n_examples: 1_000, curve_examples: 1_000 },
    Published { name: "val_sparse", p_ignore: 0.98, n_examples: 100_000, curve_examples: 1_000 },
    Published { name: "val_dense", p_ignore: 0.1, n_examples: 3_000, curve_examples: 0 },
];

/// The plan, and the name of every set, also of those that are left out.
pub(super) fn read(mut section: Section<'_, '_>, trained: &Task) -> (EvalPlan, BTreeSet<String>) {
    let confidence = section.real("confidence", 0.95, Allowed::INSIDE);
    let max_glitches = section.whole32("max_glitches", 100, 0);
    let n_resamples = section.whole32("n_resamples", 2_000, 1);
    let (bigram, automaton) = match trained {
        Task::Bigram(language) => (Some(language), None),
        Task::Automaton(language) => (None, Some(language)),
        Task::FlipFlop(_) | Task::Mixture(_) => (None, None),
    };
    let own_keys: Option<&[&str]> = match trained {
        Task::Bigram(_) => Some(&bigram::KEYS),
        Task::Automaton(_) => Some(&task::AUTOMATON_KEYS),
        Task::FlipFlop(_) | Task::Mixture(_) => None,
    };
    let seq_len = match trained.flipflop() {
        Some(language) => language.seq_len,
        None => u32::try_from(trained.n_ctx()).unwrap_or(u32::MAX),
    };
    let shape = |p_ignore| Defaults {
        seq_len,
        n_symbols: trained.n_symbols(),
        p_ignore,
        coding: trained.coding(),
        bigram,
        automaton,
    };
    let mut sets = BTreeMap::new();
    let mut named = BTreeSet::new();
    for Published { name, p_ignore, n_examples, curve_examples } in PUBLISHED {
        let mut set = section.table(name);
        // Sparse and dense are words of flip-flop: of another language there is `val`.
        let left_out = own_keys.is_some() && name != PUBLISHED[0].name;
        let n_examples = if left_out { 0 } else { n_examples };
        let n_examples = set.whole("n_examples", n_examples, 0..=u64::MAX);
        read_set(set, name, shape(p_ignore), n_examples, curve_examples, &mut sets);
        named.insert(name.to_owned());
    }
    for (name, set) in section.tables_of_any_name() {
        section.accept(name);
        let mut set = set;
        named.insert(name.to_owned());
        if let Err(message) = check_own_set(name, &set, own_keys) {
            set.complain(Fault::Key, "", message);
            continue;
        }
        let n_examples = set.whole("n_examples", 0, 0..=u64::MAX);
        read_set(set, name, shape(PUBLISHED[0].p_ignore), n_examples, 0, &mut sets);
    }
    section.finish();
    (EvalPlan { sets, confidence, max_glitches, n_resamples }, named)
}

fn read_set(
    mut set: Section<'_, '_>,
    name: &str,
    defaults: Defaults<'_>,
    n_examples: u64,
    curve_examples: u64,
    sets: &mut BTreeMap<String, EvalSet>,
) {
    let task = task::read(&mut set, defaults);
    let curve_examples = set.whole("curve_examples", curve_examples.min(n_examples), 0..=u64::MAX);
    set.finish();
    if n_examples > 0 {
        sets.insert(name.to_owned(), EvalSet { task, n_examples, curve_examples });
    }
}

/// A set beside the published ones must say what it is: a misspelt name would otherwise measure
/// something nobody meant.
fn check_own_set(
    name: &str,
    set: &Section<'_, '_>,
    own_keys: Option<&[&str]>,
) -> Result<(), String> {
    let (keys, least) = match own_keys {
        Some(keys) => (keys, "a key of its language"),
        None => (&["p_ignore", "parts"][..], "p_ignore"),
    };
    let says_language = keys.iter().any(|key| set.has(key));
    if !(says_language && set.has("n_examples")) {
        let published = PUBLISHED.map(|set| set.name);
        let meant = match suggest::nearest(name, published) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", suggest::listed(published)),
        };
        return Err(format!(
            "unknown set; {meant} (a set of your own says at least {least} and n_examples)"
        ));
    }
    let plain = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_' | '-');
    if !name.starts_with(|letter: char| letter.is_ascii_lowercase())
        || !name.chars().all(plain)
        || name.len() > 64
    {
        return Err("a set's name becomes a file's name; use a to z, 0 to 9, `_` and `-`, from a \
                    letter, at most 64 characters"
            .to_owned());
    }
    Ok(())
}
