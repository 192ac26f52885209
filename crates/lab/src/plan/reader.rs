//! Reading one table of a spec, field by field, without stopping at the first mistake.
//!
//! A field that is wrong is complained about and read as its default, so that reading goes on; a
//! key that nobody asked for is complained about at the end. The reader also remembers every path
//! it was asked for: that list is what the default spec is held against.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use mnemoscope_task::Corpus;

use super::complaint::{Complaint, Complaints, Fault, Place};
use super::corpora::Corpora;
use super::suggest;
use super::tree::{Node, Table, Value};

/// What is learned while a spec is read.
#[derive(Debug)]
pub(crate) struct Notes<'n> {
    complaints: RefCell<Complaints>,
    /// Paths whose value could not be used; a default stands in for it.
    failed: RefCell<BTreeSet<String>>,
    /// Paths the reader was asked for while the vocabulary is made, list positions left out.
    known: RefCell<BTreeSet<String>>,
    /// Every path any spec may have, to say where a misplaced key belongs.
    vocabulary: &'n BTreeSet<String>,
    /// The texts that the spec names.
    corpora: &'n Corpora,
}

impl<'n> Notes<'n> {
    /// No notes yet about the spec called `file`, which finds its texts in `corpora`.
    pub(crate) fn about(
        file: &str,
        vocabulary: &'n BTreeSet<String>,
        corpora: &'n Corpora,
    ) -> Self {
        Self {
            vocabulary,
            corpora,
            complaints: RefCell::new(Complaints::about(file)),
            failed: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// Notes a complaint.
    pub(crate) fn push(&self, complaint: Complaint) {
        self.complaints.borrow_mut().push(complaint);
    }

    /// Notes a complaint made of its parts.
    pub(crate) fn complain(&self, fault: Fault, path: &str, place: Place, message: String) {
        self.push(Complaint { path: path.to_owned(), place, message, fault });
    }

    /// Whether a default stands in for the value at `path`.
    pub(crate) fn failed(&self, path: &str) -> bool {
        self.failed.borrow().contains(path)
    }

    /// Every path any spec may have; empty while that list is made.
    pub(crate) fn vocabulary(&self) -> &'n BTreeSet<String> {
        self.vocabulary
    }

    /// The texts that the spec names.
    pub(crate) fn corpora(&self) -> &'n Corpora {
        self.corpora
    }

    /// Complaints so far.
    pub(crate) fn n_complaints(&self) -> usize {
        self.complaints.borrow().items().len()
    }

    /// Every path that was asked for.
    pub(crate) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// The complaints.
    pub(crate) fn into_complaints(self) -> Complaints {
        self.complaints.into_inner()
    }
}

/// What a real number may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    says: &'static str,
    holds: fn(f64) -> bool,
}

impl Allowed {
    /// Larger than 0.
    pub(crate) const POSITIVE: Self = Self { says: "a number above 0", holds: |x| x > 0.0 };
    /// 0 or larger.
    pub(crate) const NOT_NEGATIVE: Self = Self { says: "a number from 0", holds: |x| x >= 0.0 };
    /// In `[0, 1]`.
    pub(crate) const SHARE: Self =
        Self { says: "a number from 0 to 1", holds: |x| (0.0..=1.0).contains(&x) };
    /// In `[0, 1)`.
    pub(crate) const BELOW_ONE: Self =
        Self { says: "a number from 0 to below 1", holds: |x| (0.0..1.0).contains(&x) };
    /// In `(0, 1)`.
    pub(crate) const INSIDE: Self =
        Self { says: "a number between 0 and 1, such as 0.95", holds: |x| 0.0 < x && x < 1.0 };
    /// 0, 1, 2, ...
    pub(crate) const COUNT: Self =
        Self { says: "a whole number from 0", holds: |x| x >= 0.0 && x.fract().abs() <= 0.0 };
    /// Any.
    pub(crate) const ANY: Self = Self { says: "a number", holds: |_| true };
}

/// One table of a spec while it is read.
#[derive(Debug)]
pub(crate) struct Section<'t, 'n> {
    path: String,
    table: &'t Table,
    place: Place,
    asked: Vec<&'t str>,
    notes: &'n Notes<'n>,
}

impl<'t, 'n> Section<'t, 'n> {
    /// The table at `path` of a spec, written at `place`; the path of the whole spec is empty.
    pub(crate) fn new(path: String, table: &'t Table, place: Place, notes: &'n Notes<'n>) -> Self {
        Self { path, table, place, asked: Vec::new(), notes }
    }

    /// The path of this table.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where the table begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Where the value of `key` was written, or else where the table begins.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or(self.place, |entry| entry.node.place)
    }

    /// Everything in the table, unread.
    pub(crate) fn values(&self) -> &'t Table {
        self.table
    }

    /// The path of a key of this table.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`; from now on the key is known.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'t Node> {
        self.know(key);
        self.table.get(key).map(|entry| &entry.node)
    }

    /// Makes `key` known without reading it.
    pub(crate) fn know(&mut self, key: &'static str) {
        self.asked.push(key);
        // Once the vocabulary is made, every path is in it.
        if self.notes.vocabulary.is_empty() {
            self.notes.known.borrow_mut().insert(without_positions(&self.path_of(key)));
        }
    }

    /// Accepts a key that the author of the spec named.
    pub(crate) fn accept(&mut self, key: &'t str) {
        self.asked.push(key);
    }

    /// Whether `key` was written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The tables among the values that no key was asked for: their names are up to the author.
    pub(crate) fn tables_of_any_name(&self) -> Vec<(&'t str, Self)> {
        self.table
            .iter()
            .filter(|(key, _)| !self.asked.contains(&key.as_str()))
            .filter_map(|(key, entry)| match &entry.node.value {
                Value::Table(table) => {
                    let path = self.path_of(key);
                    Some((key.as_str(), Self::new(path, table, entry.key_place, self.notes)))
                }
                _ => None,
            })
            .collect()
    }

    /// Complains about `key`, where it was written, or else where the table begins.
    ///
    /// An empty key complains about the table itself.
    pub(crate) fn complain(&self, fault: Fault, key: &str, message: String) {
        let place = self.place_of(key);
        let path = if key.is_empty() { self.path.clone() } else { self.path_of(key) };
        self.notes.complain(fault, &path, place, message);
    }

    fn refuse(&mut self, key: &'static str, found: &Value, allowed: &str) {
        self.notes.failed.borrow_mut().insert(self.path_of(key));
        self.complain(Fault::Value, key, format!("found {found}; allowed: {allowed}"));
    }

    /// A whole number in `range`.
    pub(crate) fn whole(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(node) = self.get(key) else { return default };
        match whole_of(&node.value).and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => number,
            _ => {
                let allowed = match (*range.start(), *range.end()) {
                    (start, u64::MAX) => format!("a whole number from {start}"),
                    (start, end) => format!("a whole number from {start} to {end}"),
                };
                self.refuse(key, &node.value, &allowed);
                default
            }
        }
    }

    /// A whole number of at least `least` that fits 32 bits.
    pub(crate) fn whole32(&mut self, key: &'static str, default: u32, least: u32) -> u32 {
        let range = u64::from(least)..=u64::from(u32::MAX);
        u32::try_from(self.whole(key, u64::from(default), range)).unwrap_or(default)
    }

    /// A width or a count of things in memory, at least 1; what is too large is for others to say.
    pub(crate) fn size(&mut self, key: &'static str, default: usize) -> usize {
        let range = 1..=usize::MAX as u64;
        usize::try_from(self.whole(key, default as u64, range)).unwrap_or(default)
    }

    /// A finite number; whole ones are welcome.
    pub(crate) fn real(&mut self, key: &'static str, default: f64, allowed: Allowed) -> f64 {
        self.real_if_given(key, allowed).unwrap_or(default)
    }

    /// A finite number, if it was written.
    pub(crate) fn real_if_given(&mut self, key: &'static str, allowed: Allowed) -> Option<f64> {
        let node = self.get(key)?;
        let number = match &node.value {
            Value::Real(number) => Some(*number),
            Value::Whole(number) => Some(*number as f64),
            _ => None,
        };
        let number = number.filter(|&number| number.is_finite() && (allowed.holds)(number));
        if number.is_none() {
            self.refuse(key, &node.value, allowed.says);
        }
        number
    }

    /// A finite number, or the word `none`.
    pub(crate) fn real_or_none(&mut self, key: &'static str, allowed: Allowed) -> Option<f64> {
        match self.table.get(key).map(|entry| &entry.node.value) {
            Some(Value::Text(word)) if word == "none" => {
                self.know(key);
                None
            }
            Some(found @ (Value::Text(_) | Value::Flag(_))) => {
                self.know(key);
                self.refuse(key, found, &format!("{}, or \"none\"", allowed.says));
                None
            }
            _ => self.real_if_given(key, allowed),
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.get(key).map(|node| &node.value) {
            None => default,
            Some(Value::Flag(flag)) => *flag,
            Some(found) => {
                self.refuse(key, found, "true or false");
                default
            }
        }
    }

    /// Words, if they were written.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<&'t str> {
        match self.get(key).map(|node| &node.value)? {
            Value::Text(text) if !text.trim().is_empty() => Some(text),
            found => {
                self.refuse(key, found, "words between quotes");
                None
            }
        }
    }

    /// A list of words, if it was written, each with its place.
    ///
    /// # Arguments
    ///
    /// - `such_as`: what one may look like, for complaints.
    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        such_as: &str,
    ) -> Option<Vec<(&'t str, Place)>> {
        let node = self.get(key)?;
        let texts = match &node.value {
            Value::List(nodes) => nodes
                .iter()
                .map(|node| match &node.value {
                    Value::Text(text) => Some((text.as_str(), node.place)),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        if texts.is_none() {
            self.refuse(key, &node.value, &format!("a list of words, such as {such_as}"));
        }
        texts
    }

    /// A list of layers; empty for all of them, which is what `"all"` says, and the default.
    pub(crate) fn layers(&mut self, key: &'static str) -> Vec<usize> {
        let allowed = "\"all\", or a list of layers from 0, such as [0, 1]";
        self.layer_list(key, &[("all", 0)], allowed)
    }

    /// A list of layers in full: none of them is the default, and what `"none"` says.
    pub(crate) fn layers_out(&mut self, key: &'static str, n_layers: usize) -> Vec<usize> {
        /// More than any machine holds; where there are as many, the model is refused for that.
        const MOST: usize = 1 << 20;
        let allowed = "\"none\", \"all\", or a list of layers from 0, such as [0, 1]";
        self.layer_list(key, &[("none", 0), ("all", n_layers.min(MOST))], allowed)
    }

    /// A list of layers, or a word for the first so many.
    fn layer_list(
        &mut self,
        key: &'static str,
        words: &[(&str, usize)],
        allowed: &str,
    ) -> Vec<usize> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let layer = |node: &Node| match node.value {
            Value::Whole(layer) => usize::try_from(layer).ok(),
            _ => None,
        };
        let layers = match &node.value {
            Value::Text(said) => words
                .iter()
                .find(|(word, _)| word == said)
                .map(|&(_, n_layers)| (0..n_layers).collect()),
            Value::List(nodes) if !nodes.is_empty() => nodes.iter().map(layer).collect(),
            _ => None,
        };
        if layers.is_none() {
            self.refuse(key, &node.value, allowed);
        }
        layers.unwrap_or_default()
    }

    /// A list of finite numbers, if it was written.
    pub(crate) fn reals(&mut self, key: &'static str) -> Option<Vec<f64>> {
        self.know(key);
        self.reals_of_any_name(key)
    }

    /// A list of finite numbers under a key that the author of the spec named.
    pub(crate) fn reals_of_any_name(&mut self, key: &str) -> Option<Vec<f64>> {
        let (key, entry) = self.table.get_key_value(key)?;
        self.accept(key);
        let number = |node: &Node| match node.value {
            Value::Real(number) => Some(number).filter(|number| number.is_finite()),
            Value::Whole(number) => Some(number as f64),
            _ => None,
        };
        let numbers = match &entry.node.value {
            Value::List(nodes) => nodes.iter().map(number).collect(),
            _ => None,
        };
        if numbers.is_none() {
            self.notes.failed.borrow_mut().insert(self.path_of(key));
            let message = format!("found {}; allowed: a list of numbers", entry.node.value);
            self.complain(Fault::Value, key, message);
        }
        numbers
    }

    /// The counts of a text, if one was named.
    pub(crate) fn corpus_if_given(&mut self, key: &'static str) -> Option<Corpus> {
        let name = self.text(key)?;
        match self.notes.corpora.corpus(name) {
            Ok(corpus) => Some(corpus),
            Err(message) => {
                self.notes.failed.borrow_mut().insert(self.path_of(key));
                self.complain(Fault::Value, key, message);
                None
            }
        }
    }

    /// One of a closed set of words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        all: &[(&str, T)],
        default: T,
    ) -> T {
        self.choice_if_given(key, all).unwrap_or(default)
    }

    /// One of a closed set of words, if it was written.
    pub(crate) fn choice_if_given<T: Copy>(
        &mut self,
        key: &'static str,
        all: &[(&str, T)],
    ) -> Option<T> {
        let found = &self.get(key)?.value;
        let word = match found {
            Value::Text(word) => Some(word),
            _ => None,
        };
        if let Some((_, meant)) = all.iter().find(|(name, _)| word.is_some_and(|w| w == name)) {
            return Some(*meant);
        }
        let allowed = words_allowed(word.map(String::as_str), all);
        self.refuse(key, found, &allowed);
        None
    }

    /// Several of a closed set of words, in the order in which they are written; none if left out.
    pub(crate) fn choices<T: Copy>(&mut self, key: &'static str, all: &[(&str, T)]) -> Vec<T> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Value::List(nodes) = &node.value else {
            let allowed = format!("a list of {}", words_allowed(None, all));
            self.refuse(key, &node.value, &allowed);
            return Vec::new();
        };
        let mut chosen = Vec::new();
        for node in nodes {
            let word = match &node.value {
                Value::Text(word) => Some(word.as_str()),
                _ => None,
            };
            match all.iter().find(|(name, _)| word == Some(*name)) {
                Some(&(_, meant)) => chosen.push(meant),
                None => self.refuse(key, &node.value, &words_allowed(word, all)),
            }
        }
        chosen
    }

    /// The table at `key`; what is not a table is complained about and read as an empty one.
    pub(crate) fn table(&mut self, key: &'static str) -> Self {
        static NOTHING: Table = Table::new();
        let path = self.path_of(key);
        match self.get(key) {
            None => Self::new(path, &NOTHING, Place::Default, self.notes),
            Some(Node { value: Value::Table(table), place }) => {
                Self::new(path, table, *place, self.notes)
            }
            Some(node) => {
                self.refuse(key, &node.value, &format!("a table, such as `[{path}]`"));
                Self::new(path, &NOTHING, node.place, self.notes)
            }
        }
    }

    /// The tables of the list at `key`, if it was written.
    pub(crate) fn tables(&mut self, key: &'static str) -> Option<Vec<Self>> {
        let node = self.get(key)?;
        let Value::List(items) = &node.value else {
            let path = self.path_of(key);
            self.refuse(key, &node.value, &format!("a list of tables, such as `[[{path}]]`"));
            return None;
        };
        let mut sections = Vec::new();
        for (idx, item) in items.iter().enumerate() {
            let path = format!("{}[{idx}]", self.path_of(key));
            match &item.value {
                Value::Table(table) => {
                    sections.push(Self::new(path, table, item.place, self.notes));
                }
                found => {
                    let message = format!("found {found}; allowed: a table");
                    self.notes.failed.borrow_mut().insert(self.path_of(key));
                    self.notes.complain(Fault::Value, &path, item.place, message);
                }
            }
        }
        Some(sections)
    }

    /// Complains about every key that nobody asked for.
    pub(crate) fn finish(self) {
        for (key, entry) in self.table {
            if self.asked.contains(&key.as_str()) {
                continue;
            }
            let message = self.unknown(key);
            self.notes.complain(Fault::Key, &self.path_of(key), entry.key_place, message);
        }
    }

    /// What to say about a key that nobody asked for.
    fn unknown(&self, key: &str) -> String {
        let here = |name: &&'static str| self.asked.iter().any(|asked| asked == name);
        if key == "betas" && self.asked.contains(&"beta1") {
            return "unknown key; did you mean `beta1` and `beta2`, one number each?".to_owned();
        }
        if let Some(name) = suggest::our_name(key).filter(here) {
            return format!("unknown key; did you mean `{name}`?");
        }
        let elsewhere = |name: &str| {
            let sections = self.notes.vocabulary.iter().filter_map(|path| {
                let (section, leaf) = path.rsplit_once('.').unwrap_or(("", path));
                (leaf == name).then_some(section)
            });
            // An evaluation set has the fields of `[task]` too: the shorter answer is the likelier.
            sections.min_by_key(|section| section.len())
        };
        let ours = suggest::our_name(key).unwrap_or(key);
        let section_here = without_positions(&self.path);
        let here_at_times = self.notes.vocabulary.contains(&match section_here.as_str() {
            "" => ours.to_owned(),
            section => format!("{section}.{ours}"),
        });
        match elsewhere(ours) {
            Some(_) if here_at_times => {
                let known = suggest::listed(self.asked.iter().copied());
                let kind = match section_here.as_str() {
                    "train" => "optimizer",
                    section => section,
                };
                return format!(
                    "`{ours}` does not go with this kind of {kind}; known here: {known}"
                );
            }
            Some("") => return format!("unknown key here; `{ours}` stands at the top of a spec"),
            Some(section) if suggest::nearest(key, self.asked.iter().copied()).is_none() => {
                return format!("unknown key here; `{ours}` is a key of `[{section}]`");
            }
            _ => {}
        }
        match suggest::nearest(key, self.asked.iter().copied()) {
            Some(near) => format!("unknown key; did you mean `{near}`?"),
            None => {
                let known = suggest::listed(self.asked.iter().copied());
                format!("unknown key; known here: {known}")
            }
        }
    }
}

/// The words of a closed set, and which of them may have been meant.
fn words_allowed<T>(word: Option<&str>, all: &[(&str, T)]) -> String {
    let names = || all.iter().map(|(name, _)| *name);
    let quoted: Vec<String> = names().map(|name| format!("{name:?}")).collect();
    let mut allowed = quoted.join(", ");
    if let Some(near) = word.and_then(|word| suggest::nearest(word, names())) {
        allowed.push_str(&format!("; did you mean {near:?}?"));
    }
    allowed
}

/// The whole number a value stands for; `1e4` is one too.
pub(crate) fn whole_of(value: &Value) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Whole(number) => Some(*number),
        Value::Real(number) if number.abs() <= EXACT && number.fract().abs() <= 0.0 => {
            Some(*number as i128)
        }
        _ => None,
    }
}

/// The number a person would have written: 0.1 + 2 * 0.1 is 0.3, not 0.30000000000000004.
pub(crate) fn as_written(number: f64) -> f64 {
    format!("{number:.12e}").parse().unwrap_or(number)
}

/// A path with list positions left out: `task.parts[1].weight` becomes `task.parts.weight`.
pub(crate) fn without_positions(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for letter in path.chars() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            letter if !inside => out.push(letter),
            _ => {}
        }
    }
    out
}
