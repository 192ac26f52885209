//! A spec as a tree of values that remember where they were written.
//!
//! Arms, sweep points and `--set` are trees too, laid one over the other before anything is read,
//! so that a complaint always points at the words that caused it.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::{Complaint, Fault, Place};

/// A value with the place where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// A value of a spec.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Whole(i128),
    Real(f64),
    Flag(bool),
    /// A date or a time; no field takes one.
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

/// A key's value, and where the key itself stands: unknown keys are shown there.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

/// A table of a spec.
pub(crate) type Table = BTreeMap<String, Entry>;

/// How a value is shown in a complaint, with its type where the look of it does not say.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Whole(number) => write!(f, "{number}"),
            // `{:?}` keeps the `.0` that makes a real number of 1.0.
            Self::Real(number) => write!(f, "{number:?}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Date(date) => write!(f, "the date {date}"),
            Self::List(items) if items.is_empty() => write!(f, "an empty list"),
            Self::List(items) => write!(f, "a list of {}", items.len()),
            Self::Table(_) => write!(f, "a table"),
        }
    }
}

/// Turns byte offsets into lines and columns.
struct Lines<'t> {
    text: &'t str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place::File { line: narrow(line), column: narrow(column) }
    }
}

/// Reads the text of a spec.
///
/// # Errors
///
/// Every syntax error, each with its line.
pub(crate) fn parse(text: &str) -> Result<Table, Vec<Complaint>> {
    let lines = Lines { text };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table_of(table.get_ref(), &|offset| lines.place(offset)));
    }
    let complaint = |error: &toml::de::Error| {
        // The parser takes a bare word for a misspelt `true` or `false`.
        let bare_word = error.message().starts_with("invalid boolean");
        let hint = if bare_word { "; words stand between quotes" } else { "" };
        Complaint {
            path: String::new(),
            place: error.span().map_or(Place::Default, |span| lines.place(span.start)),
            message: format!("not TOML: {}{hint}", error.message()),
            fault: Fault::Syntax,
        }
    };
    Err(errors.iter().map(complaint).collect())
}

/// Reads one `--set` argument, `path=value`.
///
/// The value is TOML; what is not TOML is taken as a string, so that a shell needs no quotes
/// inside quotes: `--set model.name=lstm`.
pub(crate) fn parse_set(argument: &str) -> Result<Table, Complaint> {
    let complaint = |path: &str, message: String| Complaint {
        path: path.to_owned(),
        place: Place::Set,
        message,
        fault: Fault::Syntax,
    };
    let Some((path, value)) = argument.split_once('=') else {
        let message = "no `=` found; write `--set path=value`, such as `--set model.n_layers=1`";
        return Err(complaint(argument, message.to_owned()));
    };
    let (path, value) = (path.trim(), value.trim());
    let node = match DeValue::parse(value) {
        Ok(value) => node_of(&value, &|_| Place::Set),
        Err(_) => Node { value: Value::Text(value.to_owned()), place: Place::Set },
    };
    let skeleton = format!("{path} = 0");
    let keys = match DeTable::parse(&skeleton) {
        Ok(keys) if !path.contains(['\n', '#', '=']) => keys,
        _ => {
            let message = "not a path; allowed: keys joined by dots, such as `model.n_layers`";
            return Err(complaint(path, message.to_owned()));
        }
    };
    let mut table = table_of(keys.get_ref(), &|_| Place::Set);
    replace_leaf(&mut table, node);
    Ok(table)
}

/// Puts `node` at the end of the only path of `table`.
fn replace_leaf(table: &mut Table, node: Node) {
    let Some(entry) = table.values_mut().next() else { return };
    match &mut entry.node.value {
        Value::Table(inner) => replace_leaf(inner, node),
        _ => entry.node = node,
    }
}

fn table_of(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Table {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key_place = place(key.span().start);
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        let mut node = node_of(value, place);
        if matches!(node.value, Value::Table(_)) {
            // The span of a table begins at its first header; its own key is what a person wrote.
            node.place = key_place;
        }
        (name.to_string(), Entry { key_place, node })
    };
    table.iter().map(entry).collect()
}

fn node_of(value: &Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Place) -> Node {
    let read = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Whole(number),
            // Beyond 128 bits; as a real number it is still outside every field's range.
            Err(_) => Value::Real(number.as_str().parse().unwrap_or(f64::INFINITY)),
        },
        DeValue::Float(number) => Value::Real(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| node_of(item, place)).collect())
        }
        DeValue::Table(table) => Value::Table(table_of(table, place)),
    };
    Node { value: read, place: place(value.span().start) }
}

/// What `[train]` says of its optimizer, and what means something else to another one.
const OF_OPTIMIZERS: [&str; 8] =
    ["lr", "beta1", "beta2", "epsilon", "momentum", "dampening", "nesterov", "weight_decay"];

/// Lays `over` on `base`: tables key by key, everything else replaced.
///
/// Four rules keep a part of a spec from meaning something it does not say:
///
/// - a `task`, `model` or evaluation set that becomes another kind (`name`, `preset`) starts
///   afresh, because the old kind's fields do not belong to the new one;
/// - likewise an optimizer that becomes another one drops the settings of the old one;
/// - `n_ops` and `seq_len` say the same thing twice, so the upper one drops the lower one;
/// - `p_ignore` alone is the shorthand for all three probabilities, so it drops the lower two.
pub(crate) fn lay_over(base: &mut Table, over: &Table) {
    lay_over_at("", base, over);
}

fn lay_over_at(path: &str, base: &mut Table, over: &Table) {
    if !path.is_empty() {
        if kind(over).is_some_and(|kind_over| kind_over != kind(base).unwrap_or(default_kind(path)))
        {
            base.clear();
        }
        let optimizer = text(over, "optimizer").filter(|_| path == "train");
        if optimizer.is_some_and(|name| name != text(base, "optimizer").unwrap_or("adamw")) {
            base.retain(|key, _| !OF_OPTIMIZERS.contains(&key.as_str()));
        }
        for (one, other) in [("n_ops", "seq_len"), ("seq_len", "n_ops")] {
            if over.contains_key(one) && !over.contains_key(other) {
                base.remove(other);
            }
        }
        let given = |key| over.contains_key(key);
        if given("p_ignore") && !given("p_write") && !given("p_read") {
            base.remove("p_write");
            base.remove("p_read");
        }
    }
    merge(base, over, &|key, under, over| {
        let inner_path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        lay_over_at(&inner_path, under, over);
    });
}

/// Joins two parts of one layer: tables key by key, of two other values the later one.
pub(crate) fn join(base: &mut Table, later: &Table) {
    merge(base, later, &|_, under, later| join(under, later));
}

/// Merges `over` into `base`; what happens to two tables under one key is up to `tables`.
fn merge(base: &mut Table, over: &Table, tables: &dyn Fn(&str, &mut Table, &Table)) {
    for (key, entry) in over {
        match (base.get_mut(key).map(|under| &mut under.node.value), &entry.node.value) {
            (Some(Value::Table(under)), Value::Table(over)) => tables(key, under, over),
            _ => {
                base.insert(key.clone(), entry.clone());
            }
        }
    }
}

fn kind(table: &Table) -> Option<&str> {
    text(table, "preset").or_else(|| text(table, "name"))
}

fn text<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    match &table.get(key)?.node.value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    }
}

fn default_kind(path: &str) -> &'static str {
    if path == "model" { "transformer" } else { "flipflop" }
}

/// Puts `node` at `path` in `table`, making the tables on the way; the keys stand at `key_place`.
pub(crate) fn insert(table: &mut Table, path: &[String], key_place: Place, node: Node) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), Entry { key_place, node });
        return;
    }
    let entry = table.entry(first.clone()).or_insert_with(|| Entry {
        key_place,
        node: Node { value: Value::Table(Table::new()), place: key_place },
    });
    if let Value::Table(inner) = &mut entry.node.value {
        insert(inner, rest, key_place, node);
    }
}

/// Where the value at a dotted path was written; `[1]` in a path is a place in a list.
pub(crate) fn place(table: &Table, path: &str) -> Option<Place> {
    walk(table, path).and_then(|(place, complete)| complete.then_some(place))
}

/// Where the value at a dotted path, or else the innermost table around it, was written.
pub(crate) fn nearest_place(table: &Table, path: &str) -> Option<Place> {
    walk(table, path).map(|(place, _)| place)
}

/// Follows a path as far as it goes: the last place reached, and whether that was the end.
fn walk(table: &Table, path: &str) -> Option<(Place, bool)> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let (key, idx) = match first.strip_suffix(']').and_then(|first| first.split_once('[')) {
        Some((key, idx)) => (key, idx.parse::<usize>().ok()),
        None => (first, None),
    };
    let mut node = &table.get(key)?.node;
    if let (Some(idx), Value::List(items)) = (idx, &node.value) {
        node = items.get(idx)?;
    }
    match (rest, &node.value) {
        (None, _) => Some((node.place, true)),
        (Some(rest), Value::Table(inner)) => Some(walk(inner, rest).unwrap_or((node.place, false))),
        (Some(_), _) => Some((node.place, false)),
    }
}
