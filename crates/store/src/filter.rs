//! Conditions on runs, in a small language.
//!
//! ```text
//! condition  = all { "or" all }
//! all        = one { "and" one }
//! one        = "not" one | "(" condition ")" | field comparison value
//! comparison = "=" | "==" | "!=" | "<" | "<=" | ">" | ">="
//! field      = words with points between them; a whole number counts items of a list
//! value      = number | true | false | null | "text" | text up to the next `and`, `or` or closing bracket
//! ```
//!
//! Numbers are compared with numbers and text with text: a run where the field is not there, or holds another kind of
//! value, fits `!=` only. What is not there counts as null.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::error::{Cause, Error};

/// A condition on a run.
///
/// A field begins with `id`, `status`, `created_secs`, `problem`, `plan`, `meta` or `result`. A text that looks like a
/// number, or has `and` or `or` in it, is written in quotes: `meta.host="7"`.
///
/// # Example
///
/// ```
/// use mnemoscope_store::Filter;
/// use serde_json::json;
///
/// let filter: Filter = "plan.model.n_layers>=2 and not (meta.arm = lstm or result=null)".parse()?;
/// let run = json!({"plan": {"model": {"n_layers": 4}}, "meta": {"arm": "gpt"}, "result": {}});
/// assert!(filter.fits(&run));
/// assert_eq!(
///     filter.to_string(),
///     "plan.model.n_layers>=2 and not (meta.arm=lstm or result=null)"
/// );
/// assert!("plan.model.n_layers".parse::<Filter>().is_err());
/// # Ok::<(), mnemoscope_store::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Is(Comparison),
}

#[derive(Clone, Debug, PartialEq)]
struct Comparison {
    path: String,
    op: &'static str,
    value: Value,
}

/// Comparisons, the longer before those they begin with.
const OPS: [&str; 7] = ["!=", "<=", ">=", "==", "=", "<", ">"];
const ROOTS: [&str; 7] = ["id", "status", "created_secs", "problem", "plan", "meta", "result"];

/// Brackets and `not`s within each other, at most.
const MOST_NESTED: usize = 64;

/// What a path leads to that leads nowhere.
pub(crate) static NOTHING: Value = Value::Null;

impl Filter {
    /// Reads a condition whose fields have other names than the store's.
    ///
    /// # Arguments
    ///
    /// - `full`: gives the store's name of a field.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid), with what is wrong.
    pub fn read(text: &str, full: &dyn Fn(&str) -> String) -> Result<Self, Error> {
        let mut reader = Reader { rest: text, depth: 0, nested: 0, full };
        let node = reader.any().and_then(|node| match reader.rest.trim_start() {
            "" => Ok(node),
            _ => Err("goes on where it should end"),
        });
        node.map(Self).map_err(|why| Cause::Filter { text: text.to_owned(), why }.into())
    }

    /// The condition that holds where all of `filters` do.
    pub(crate) fn all(filters: &[Self]) -> Self {
        Self(Node::All(filters.iter().map(|filter| filter.0.clone()).collect()))
    }

    /// Whether it holds for a run, given as a listing has it.
    #[must_use]
    pub fn fits(&self, listed: &Value) -> bool {
        self.holds(&|path| at(listed, path))
    }

    /// Whether it holds for values that are looked up by path.
    pub(crate) fn holds<'v>(&self, field: &dyn Fn(&str) -> &'v Value) -> bool {
        self.0.holds(field)
    }

    /// Every field it asks for.
    #[must_use]
    pub fn fields(&self) -> Vec<&str> {
        let mut fields = Vec::new();
        self.0.collect(&mut fields);
        fields
    }
}

/// What a path of a listing leads to; null if that is nowhere.
pub(crate) fn at<'v>(listed: &'v Value, path: &str) -> &'v Value {
    let mut value = listed;
    for word in path.split('.') {
        let next = match value {
            Value::Array(items) => word.parse::<usize>().ok().and_then(|idx| items.get(idx)),
            other => other.get(word),
        };
        let Some(next) = next else { return &NOTHING };
        value = next;
    }
    value
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::read(text, &str::to_owned)
    }
}

impl Node {
    fn holds<'v>(&self, field: &dyn Fn(&str) -> &'v Value) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(field)),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(field)),
            Self::Not(node) => !node.holds(field),
            Self::Is(comparison) => comparison.holds(field(&comparison.path)),
        }
    }

    fn collect<'n>(&'n self, fields: &mut Vec<&'n str>) {
        match self {
            Self::Any(nodes) | Self::All(nodes) => {
                nodes.iter().for_each(|node| node.collect(fields));
            }
            Self::Not(node) => node.collect(fields),
            Self::Is(comparison) => fields.push(&comparison.path),
        }
    }
}

impl Comparison {
    fn holds(&self, found: &Value) -> bool {
        let ordering = ordering(found, &self.value);
        match self.op {
            "=" => ordering == Some(Ordering::Equal),
            "!=" => ordering != Some(Ordering::Equal),
            // Nothing is less than nothing, or as much.
            _ if self.value.is_null() => false,
            "<" => ordering == Some(Ordering::Less),
            "<=" => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            ">" => ordering == Some(Ordering::Greater),
            _ => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// How two values of one kind compare; none for values of two kinds, and for lists and objects.
fn ordering(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        _ => None,
    }
}

/// An order of all values, for sorting: nothing first, then flags, numbers, text, and the rest.
pub(crate) fn total_order(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        _ => 4,
    };
    ordering(a, b).unwrap_or_else(|| rank(a).cmp(&rank(b)))
}

/// Whether what follows leaves a word of the language for itself.
fn is_end_of_word(after: &str) -> bool {
    after.is_empty() || after.starts_with(|next: char| next.is_whitespace() || next == '(')
}

/// A condition while it is read.
struct Reader<'t> {
    rest: &'t str,
    /// Open brackets.
    depth: usize,
    /// Brackets and `not`s that what is read now stands in.
    nested: usize,
    full: &'t dyn Fn(&str) -> String,
}

impl Reader<'_> {
    fn any(&mut self) -> Result<Node, &'static str> {
        let first = self.all()?;
        let mut nodes = vec![first];
        while self.word("or") {
            nodes.push(self.all()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn all(&mut self) -> Result<Node, &'static str> {
        let first = self.one()?;
        let mut nodes = vec![first];
        while self.word("and") {
            nodes.push(self.one()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn one(&mut self) -> Result<Node, &'static str> {
        // A reader that calls itself has as much room as its stack, and conditions come from anywhere.
        if self.nested > MOST_NESTED {
            return Err("has more than 64 brackets and nots within each other");
        }
        self.nested += 1;
        let node = self.one_of_them();
        self.nested -= 1;
        node
    }

    fn one_of_them(&mut self) -> Result<Node, &'static str> {
        if self.word("not") {
            return Ok(Node::Not(Box::new(self.one()?)));
        }
        self.rest = self.rest.trim_start();
        if let Some(inside) = self.rest.strip_prefix('(') {
            self.rest = inside;
            self.depth += 1;
            let node = self.any()?;
            self.rest = self
                .rest
                .trim_start()
                .strip_prefix(')')
                .ok_or("has a bracket that is not closed")?;
            self.depth -= 1;
            return Ok(node);
        }
        self.comparison().map(Node::Is)
    }

    /// Takes a word of the language, if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start();
        let Some(after) = rest.strip_prefix(word) else { return false };
        let ends = is_end_of_word(after);
        if ends {
            self.rest = after;
        }
        ends
    }

    fn comparison(&mut self) -> Result<Comparison, &'static str> {
        let at = self.rest.find(['!', '<', '>', '=']).ok_or("compares nothing")?;
        let (path, rest) = self.rest.split_at(at);
        let op = OPS.into_iter().find(|op| rest.starts_with(op));
        let op = op.ok_or("has no comparison among = != < <= > >=")?;
        let path = path.trim();
        let plain = |word: &str| {
            !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "\"'()".contains(c))
        };
        if !path.split('.').all(plain) {
            return Err("has a path that is not words with points between them");
        }
        let path = (self.full)(path);
        let root = path.split('.').next().unwrap_or_default();
        if !ROOTS.contains(&root) {
            return Err(
                "does not begin with id, status, created_secs, problem, plan, meta or result",
            );
        }
        self.rest = rest[op.len()..].trim_start();
        let value = self.value(root == "id")?;
        Ok(Comparison { path, op: if op == "==" { "=" } else { op }, value })
    }

    fn value(&mut self, is_id: bool) -> Result<Value, &'static str> {
        if self.rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Value>();
            let Some(Ok(text)) = values.next() else {
                return Err("has a quote that is not closed");
            };
            self.rest = &self.rest[values.byte_offset()..];
            return Ok(text);
        }
        let end = self.end_of_bare();
        let bare = self.rest[..end].trim();
        self.rest = &self.rest[end..];
        if bare.is_empty() {
            return Err("compares with nothing");
        }
        Ok(match serde_json::from_str(bare) {
            // An id of digits alone is still a text.
            Ok(scalar @ (Value::Number(_) | Value::Bool(_) | Value::Null)) if !is_id => scalar,
            _ => bare.into(),
        })
    }

    /// Where a text without quotes ends: before the next word of the language.
    fn end_of_bare(&self) -> usize {
        let mut before_is_space = false;
        for (at, letter) in self.rest.char_indices() {
            if letter == ')' && self.depth > 0 {
                return at;
            }
            let ahead = &self.rest[at..];
            let word = |word: &str| ahead.strip_prefix(word).is_some_and(is_end_of_word);
            if before_is_space && (word("and") || word("or")) {
                return at;
            }
            before_is_space = letter.is_whitespace();
        }
        self.rest.len()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, nodes: &[Self], word: &str| {
            for (idx, node) in nodes.iter().enumerate() {
                let before = if idx == 0 { "" } else { word };
                match node {
                    Self::Any(_) | Self::All(_) => write!(f, "{before}({node})")?,
                    Self::Not(_) | Self::Is(_) => write!(f, "{before}{node}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Any(nodes) => joined(f, nodes, " or "),
            Self::All(nodes) => joined(f, nodes, " and "),
            Self::Not(node) => write!(f, "not ({node})"),
            Self::Is(comparison) => write!(f, "{comparison}"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |text: &str| {
            let plain = |c: char| c.is_alphanumeric() || "-_./=:,".contains(c);
            // Behind `<` a text that begins with `=` would be read as `<=`.
            !text.is_empty()
                && !text.starts_with('=')
                && text.chars().all(plain)
                && serde_json::from_str::<Value>(text).is_err()
        };
        match &self.value {
            Value::String(text) if bare(text) => write!(f, "{}{}{text}", self.path, self.op),
            value => write!(f, "{}{}{value}", self.path, self.op),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fits(text: &str) -> bool {
        let run = json!({
            "id": "12", "status": "sealed", "created_secs": 5.5, "problem": null,
            "plan": {"model": {"n_layers": 4, "name": "gpt", "tied": true, "widths": [8, 9]}},
            "meta": {"arm": "n_layers=4 lr=0.1", "host": "this and that"},
            "result": {"eval": {"val": {"error_rate": 0.25}}},
        });
        text.parse::<Filter>().unwrap().fits(&run)
    }

    #[test]
    fn words_bind_as_in_arithmetic_and_brackets_group() {
        for (text, expected) in [
            ("status=sealed and plan.model.n_layers=4", true),
            ("status=failed or plan.model.n_layers=4", true),
            ("status=failed and status=failed or plan.model.n_layers=4", true),
            ("status=failed and (status=failed or plan.model.n_layers=4)", false),
            ("not status=failed", true),
            ("not(status=sealed)", false),
            ("not not status=sealed", true),
            ("not status=failed and plan.model.n_layers>3", true),
            ("((status==sealed))and(plan.model.tied=true)", true),
            ("result.eval.val.error_rate > 0 and plan.model.widths.1 = 9", true),
            ("result != null and problem = null", true),
        ] {
            assert_eq!(fits(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_goes_on_to_the_next_word_of_the_language() {
        assert!(fits("meta.arm=n_layers=4 lr=0.1"));
        assert!(fits("meta.arm = n_layers=4 lr=0.1 and status=sealed"));
        assert!(fits("(meta.arm = n_layers=4 lr=0.1) and status=sealed"));
        assert!(fits("meta.host=\"this and that\" and id=12"));
        assert!(!fits("meta.host=this"));
        assert!(fits("meta.host!=android or status=failed"));
        let odd = Filter(Node::Is(Comparison { path: "id".into(), op: "<", value: "=a".into() }));
        assert_eq!(odd.to_string(), "id<\"=a\"");
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        for (text, why) in [
            ("status=sealed and", "compares nothing"),
            ("status=sealed and (id=3", "has a bracket that is not closed"),
            ("status=\"sealed", "has a quote that is not closed"),
            ("status=\"sealed\" x", "goes on where it should end"),
            ("status=\"a\") or id=3", "goes on where it should end"),
            ("a b=3", "has a path that is not words with points between them"),
            ("", "compares nothing"),
            ("and id=3", "has a path that is not words with points between them"),
        ] {
            let said = text.parse::<Filter>().unwrap_err().to_string();
            assert_eq!(
                said,
                format!("the filter `{text}` {why}; write for example `plan.model.n_layers=2`")
            );
        }
    }

    #[test]
    fn a_condition_of_a_hundred_thousand_brackets_is_refused_and_not_the_end() {
        for word in ["(", "not ", "not("] {
            let said = (word.repeat(100_000) + "id=1").parse::<Filter>().unwrap_err().to_string();
            assert!(
                said.contains("has more than 64 brackets and nots within each other"),
                "{word}"
            );
        }
        assert!(("not ".repeat(60) + "id=1").parse::<Filter>().is_ok());
    }

    proptest! {
        #[test]
        fn anything_at_all_is_read_or_refused(text: String) {
            text.parse::<Filter>().ok();
        }

        #[test]
        fn what_is_written_is_read_back(
            value in prop_oneof![
                any::<String>().prop_map(Value::from),
                any::<i64>().prop_map(Value::from),
                any::<bool>().prop_map(Value::from),
                Just(Value::Null),
            ],
            op in prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]),
            shape in 0..4,
        ) {
            let one = Node::Is(Comparison { path: "plan.a.0".to_owned(), op, value });
            let node = match shape {
                0 => one,
                1 => Node::Not(Box::new(one)),
                2 => Node::Any(vec![Node::All(vec![one.clone(), one.clone()]), one]),
                _ => Node::All(vec![one.clone(), Node::Any(vec![one.clone(), Node::Not(Box::new(one))])]),
            };
            let filter = Filter(node);
            prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        }
    }
}
