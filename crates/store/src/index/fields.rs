//! Sealed runs packed field by field: a column for each path, a value for each run of the pack.
//!
//! A column in which all runs agree is one value, `{"all": 4}`; any other is a list, `{"each": [4, null, 2]}`. Nothing is
//! null. Objects and lists leave an empty one behind, so that it is known that there is something.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Loose sealed runs from which on a pack is made.
const PACK_FROM: usize = 512;
/// The most runs of a pack.
const MOST: usize = 4_096;
/// Longer lists are data and no fields.
const LONG: usize = 64;

/// The values of one path in a pack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Column {
    /// The same in every run.
    All(Value),
    /// One for each run.
    Each(Vec<Value>),
}

impl Column {
    /// A path that no run of the pack has.
    pub(super) const NOTHING: Self = Self::All(Value::Null);

    /// The value of the run at `idx`.
    pub(super) fn at(&self, idx: usize) -> &Value {
        match self {
            Self::All(value) => value,
            Self::Each(values) => values.get(idx).unwrap_or(&crate::filter::NOTHING),
        }
    }

    fn of(values: Vec<Value>) -> Self {
        match values.split_first() {
            Some((first, rest)) if rest.iter().all(|value| value == first) => {
                Self::All(first.clone())
            }
            _ => Self::Each(values),
        }
    }
}

/// A pack and the runs in it, sorted.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) pack: i64,
    pub(super) ids: Vec<String>,
}

/// All packs.
pub(super) fn packs(index: &Transaction<'_>) -> rusqlite::Result<Vec<Pack>> {
    let mut rows = index.prepare("SELECT pack, ids FROM pack ORDER BY pack")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (pack, ids) = row?;
        Ok(Pack { pack, ids: parsed(&ids)? })
    })
    .collect()
}

/// A value that was written as JSON.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|fault| rusqlite::Error::ToSqlConversionFailure(fault.into()))
}

/// Packs the loose sealed runs, if there are enough of them, and says whether it did.
pub(super) fn pack(index: &Transaction<'_>) -> rusqlite::Result<bool> {
    let loose: Vec<String> = {
        let mut rows =
            index.prepare("SELECT id FROM run WHERE pack IS NULL AND sealed ORDER BY id")?;
        rows.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    if loose.len() < PACK_FROM {
        return Ok(false);
    }
    for ids in loose.chunks(MOST) {
        pack_these(index, ids)?;
    }
    Ok(true)
}

fn pack_these(index: &Transaction<'_>, ids: &[String]) -> rusqlite::Result<()> {
    let mut columns: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut entry = index.prepare_cached("SELECT entry FROM entry WHERE id = ?1")?;
    for (idx, id) in ids.iter().enumerate() {
        let text: String = entry.query_row([id], |row| row.get(0))?;
        let listed: Value = parsed(&text)?;
        visit(&listed, String::new(), &mut |path, value| {
            let column = columns.entry(path).or_default();
            column.resize(idx, Value::Null);
            column.push(value);
        });
    }
    index.execute("INSERT INTO pack (ids) VALUES (?1)", [text(&ids)])?;
    let pack = index.last_insert_rowid();
    let mut field = index.prepare_cached("INSERT INTO field VALUES (?1, ?2, ?3)")?;
    for (path, mut values) in columns {
        values.resize(ids.len(), Value::Null);
        field.execute(params![path, pack, text(&Column::of(values))])?;
    }
    let mut row = index.prepare_cached("UPDATE run SET pack = ?1 WHERE id = ?2")?;
    for id in ids {
        row.execute(params![pack, id])?;
    }
    Ok(())
}

/// Takes a pack apart; its runs are loose again.
pub(super) fn unpack(index: &Transaction<'_>, pack: i64) -> rusqlite::Result<()> {
    index.execute("UPDATE run SET pack = NULL WHERE pack = ?1", [pack])?;
    index.execute("DELETE FROM field WHERE pack = ?1", [pack])?;
    index.execute("DELETE FROM pack WHERE pack = ?1", [pack])?;
    Ok(())
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Every path below a value with what it leads to; where that is a list or an object, an empty one.
pub(super) fn visit(value: &Value, path: String, found: &mut dyn FnMut(String, Value)) {
    let below = |word: &str| match path.as_str() {
        "" => word.to_owned(),
        path => format!("{path}.{word}"),
    };
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                visit(member, below(key), found);
            }
            if !path.is_empty() {
                found(path, Value::Object(serde_json::Map::new()));
            }
        }
        Value::Array(items) => {
            if items.len() <= LONG {
                for (idx, item) in items.iter().enumerate() {
                    visit(item, below(&idx.to_string()), found);
                }
            }
            found(path, Value::Array(Vec::new()));
        }
        Value::Null => {}
        scalar => found(path, scalar.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_path_is_visited_and_data_is_not() {
        let long: Vec<u8> = (0..100).collect();
        let value =
            json!({"a": {"b": [1, null, {"c": true}]}, "long": long, "none": null, "text": "x"});
        let mut found = BTreeMap::new();
        visit(&value, String::new(), &mut |path, value| drop(found.insert(path, value)));
        let expected = json!({
            "a": {}, "a.b": [], "a.b.0": 1, "a.b.2": {}, "a.b.2.c": true, "long": [], "text": "x",
        });
        assert_eq!(serde_json::to_value(found).unwrap(), expected);
    }

    #[test]
    fn a_column_gives_back_what_it_was_made_of() {
        let same = Column::of(vec![json!(4), json!(4)]);
        assert_eq!(text(&same), r#"{"all":4}"#);
        let differ = Column::of(vec![json!(4), Value::Null]);
        assert_eq!(text(&differ), r#"{"each":[4,null]}"#);
        for column in [same, differ] {
            let read: Column = serde_json::from_str(&text(&column)).unwrap();
            assert_eq!((read.at(0), read.at(1)), (column.at(0), column.at(1)));
        }
        assert_eq!(Column::NOTHING.at(7), &Value::Null);
    }
}
