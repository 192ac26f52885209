//! `[task]`, and the language of an evaluation set.

use mnemoscope_task::{Automaton, Bigram, Coding, FlipFlop, Mixture, Part, Task};

use super::bigram;
use crate::plan::complaint::Fault;
use crate::plan::reader::{Allowed, Section, as_written};

/// What a language is where a spec says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults<'a> {
    pub(super) seq_len: u32,
    pub(super) n_symbols: u32,
    pub(super) p_ignore: f64,
    pub(super) coding: Coding,
    /// The bigram language that the model is trained on, if it is one.
    pub(super) bigram: Option<&'a Bigram>,
    /// The same of the automaton.
    pub(super) automaton: Option<&'a Automaton>,
}

impl Defaults<'_> {
    /// The paper's training set, FFL(0.8).
    const TRAIN: Self = Self {
        seq_len: 512,
        n_symbols: 2,
        p_ignore: 0.8,
        coding: Coding::Tokens,
        bigram: None,
        automaton: None,
    };
}

#[derive(Clone, Copy)]
enum Name {
    FlipFlop,
    Mixture,
    Bigram,
    Automaton,
}

/// Triggers of a bigram language where a spec says nothing: as in most figures of its paper.
const N_TRIGGERS: u32 = 5;

/// The language a model is trained on.
pub(super) fn read_train_task(mut section: Section<'_, '_>) -> Task {
    let task = read(&mut section, Defaults::TRAIN);
    section.finish();
    task
}

/// The language that a table describes; the table may hold more.
pub(super) fn read(section: &mut Section<'_, '_>, defaults: Defaults<'_>) -> Task {
    const NAMES: &[(&str, Name)] = &[
        ("flipflop", Name::FlipFlop),
        ("mixture", Name::Mixture),
        ("bigram", Name::Bigram),
        ("automaton", Name::Automaton),
    ];
    let usual = match (defaults.bigram, defaults.automaton) {
        (Some(_), _) => Name::Bigram,
        (_, Some(_)) => Name::Automaton,
        (None, None) => Name::FlipFlop,
    };
    let name = section.choice("name", NAMES, usual);
    match name {
        Name::Bigram => {
            let paper = Bigram::paper(N_TRIGGERS);
            return Task::Bigram(bigram::read(section, defaults.bigram.unwrap_or(&paper)));
        }
        Name::Automaton => {
            let paper = Automaton::paper();
            let base = defaults.automaton.unwrap_or(&paper);
            return Task::Automaton(read_automaton(section, base));
        }
        Name::FlipFlop | Name::Mixture => {}
    }
    let shape = Defaults {
        seq_len: read_seq_len(section, defaults.seq_len),
        n_symbols: section.whole32("n_symbols", defaults.n_symbols, 0),
        coding: section.choice(
            "coding",
            &[("tokens", Coding::Tokens), ("bits", Coding::Bits), ("pairs", Coding::Pairs)],
            defaults.coding,
        ),
        ..defaults
    };
    match name {
        Name::Mixture => Task::Mixture(read_mixture(section, shape)),
        _ => Task::FlipFlop(read_language(section, shape)),
    }
}

/// The keys that say what a language of the automaton is; a set of one's own has at least one.
pub(super) const AUTOMATON_KEYS: [&str; 4] = ["name", "seq_len", "p_ignore", "first_write"];

/// A language of the automaton; what the table leaves out is as in `base`.
fn read_automaton(section: &mut Section<'_, '_>, base: &Automaton) -> Automaton {
    Automaton {
        seq_len: section.whole32("seq_len", base.seq_len, 0),
        p_ignore: section.real("p_ignore", base.p_ignore, Allowed::SHARE),
        first_write: section.flag("first_write", base.first_write),
    }
}

/// Tokens, or instructions with their symbols: two words for one thing.
fn read_seq_len(section: &mut Section<'_, '_>, default: u32) -> u32 {
    let seq_len = section.whole32("seq_len", default, 0);
    if !section.has("n_ops") {
        section.know("n_ops");
        return seq_len;
    }
    let n_ops = section.whole("n_ops", u64::from(default / 2), 2..=u64::from(u32::MAX / 2));
    let from_ops = u32::try_from(2 * n_ops).unwrap_or(default);
    if section.has("seq_len") && from_ops != seq_len {
        let message = format!(
            "n_ops = {n_ops} makes {from_ops} tokens, but seq_len is {seq_len}; give one of the two"
        );
        section.complain(Fault::Together, "n_ops", message);
    }
    from_ops
}

fn read_language(section: &mut Section<'_, '_>, defaults: Defaults<'_>) -> FlipFlop {
    let p_ignore = section.real("p_ignore", defaults.p_ignore, Allowed::SHARE);
    let p_write = section.real_if_given("p_write", Allowed::SHARE);
    let p_read = section.real_if_given("p_read", Allowed::SHARE);
    let given = ["p_write", "p_read", "p_ignore"].map(|key| section.has(key));
    let in_between = half_of_the_rest(p_ignore);
    match given {
        [true, true, true] | [false, false, _] => {}
        _ => {
            let key = if given[0] { "p_write" } else { "p_read" };
            let message = "p_write, p_read and p_ignore go together; give all three, or p_ignore \
                           alone: then p_write = p_read = (1 - p_ignore) / 2";
            section.complain(Fault::Together, key, message.to_owned());
            // One complaint is enough: the rest is read as the shorthand would have it.
            return shorthand(defaults);
        }
    }
    FlipFlop {
        seq_len: defaults.seq_len,
        p_write: p_write.unwrap_or(in_between),
        p_read: p_read.unwrap_or(in_between),
        p_ignore,
        n_symbols: defaults.n_symbols,
        coding: defaults.coding,
    }
}

/// What the shorthand means by `p_write` and by `p_read`: 0.1 beside 0.8, so that the shorthand and
/// the three numbers written out are one plan.
fn half_of_the_rest(p_ignore: f64) -> f64 {
    as_written((1.0 - p_ignore) / 2.0)
}

fn shorthand(defaults: Defaults<'_>) -> FlipFlop {
    let Defaults { seq_len, n_symbols, p_ignore, coding, .. } = defaults;
    let p_write = half_of_the_rest(p_ignore);
    FlipFlop { seq_len, p_write, p_read: p_write, p_ignore, n_symbols, coding }
}

fn read_mixture(section: &mut Section<'_, '_>, defaults: Defaults<'_>) -> Mixture {
    let Some(sections) = section.tables("parts") else {
        if !section.has("parts") {
            let message = "a mixture needs parts, such as \
                           `parts = [{ p_ignore = 0.8 }, { p_ignore = 0.98 }]`";
            section.complain(Fault::Together, "parts", message.to_owned());
        }
        return Mixture { parts: vec![Part { weight: 1.0, task: shorthand(defaults) }] };
    };
    let read_part = |mut part: Section<'_, '_>| {
        let weight = part.real("weight", 1.0, Allowed::NOT_NEGATIVE);
        let task = read_language(&mut part, defaults);
        part.finish();
        Part { weight, task }
    };
    Mixture { parts: sections.into_iter().map(read_part).collect() }
}
