//! What two records of one plan must agree in: everything but times, machines and interruptions.

use std::collections::BTreeMap;
use std::path::Path;

use mnemoscope_store::{RunReader, Store};
use serde_json::{Value, json};

/// The science of a sealed run, and the names of all its files.
pub(crate) fn science(run: &RunReader) -> Value {
    let mut result = run.result().unwrap().clone();
    for volatile in ["machine", "sealed"] {
        result.as_object_mut().unwrap().remove(volatile);
    }
    for timed in ["wall_secs", "tokens_per_sec"] {
        result["train"].as_object_mut().unwrap().remove(timed);
    }
    for set in result["eval"].as_object_mut().unwrap().values_mut() {
        set.as_object_mut().unwrap().remove("wall_secs");
    }
    let events: Vec<Value> = run
        .events()
        .live()
        .filter(|event| ["loss", "curve", "probe"].contains(&event.kind.as_str()))
        .map(|event| json!([event.kind, event.data]))
        .collect();
    let glitches: Vec<Value> =
        run.names("glitches").unwrap().iter().map(|name| run.json(name).unwrap()).collect();
    // An interruption saves a checkpoint where it came; which ones stay is no science, but none is an orphan.
    let (saved, rest): (Vec<String>, Vec<String>) =
        files(run.path()).into_iter().partition(|name| name.starts_with("checkpoints/"));
    let mut known: Vec<String> = run
        .checkpoints()
        .iter()
        .map(|kept| kept.path.strip_prefix(run.path()).unwrap().display().to_string())
        .collect();
    known.sort_unstable();
    assert_eq!(saved, known, "run {}", run.id());
    json!({"result": result, "events": events, "glitches": glitches, "files": rest})
}

/// Every run of a store, which must all be sealed and whole.
pub(crate) fn all(root: &Path) -> BTreeMap<String, Value> {
    let store = Store::open_existing(root).unwrap();
    let runs = store.runs().unwrap();
    let of = |listed: mnemoscope_store::Listed| {
        let run = store.find(&listed.id).unwrap();
        assert_eq!(run.verify().unwrap(), [""; 0], "run {}", listed.id);
        assert_eq!(run.events().of_kind("sealed").count(), 1, "run {}", listed.id);
        (listed.id, science(&run))
    };
    runs.into_iter().map(of).collect()
}

/// The names of all files below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort_unstable();
    found
}

/// Holds two stores against each other and says where they differ first.
#[track_caller]
pub(crate) fn assert_same(
    found: &BTreeMap<String, Value>,
    expected: &BTreeMap<String, Value>,
    what: &str,
) {
    let ids = |store: &BTreeMap<String, Value>| store.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(found), ids(expected), "{what}");
    for (id, run) in found {
        if let Some((path, a, b)) = difference(run, &expected[id], id.clone()) {
            let cut = |value: Value| value.to_string().chars().take(300).collect::<String>();
            panic!("{what}: {path} is {}, not {}", cut(a), cut(b));
        }
    }
}

/// The first place where two values differ, with both.
fn difference(a: &Value, b: &Value, path: String) -> Option<(String, Value, Value)> {
    match (a, b) {
        (Value::Object(members), Value::Object(others)) if members.len() == others.len() => {
            members.iter().find_map(|(key, member)| {
                difference(member, others.get(key).unwrap_or(&Value::Null), format!("{path}.{key}"))
            })
        }
        (Value::Array(items), Value::Array(others)) if !items.is_empty() && !others.is_empty() => {
            let pairs = items.iter().zip(others).enumerate();
            let mut pairs =
                pairs.map(|(idx, (item, other))| difference(item, other, format!("{path}.{idx}")));
            let lengths = || {
                let (a, b) = (items.len(), others.len());
                (a != b).then(|| (format!("{path}.length"), json!(a), json!(b)))
            };
            pairs.find_map(|it| it).or_else(lengths)
        }
        _ => (a != b).then(|| (path, a.clone(), b.clone())),
    }
}
