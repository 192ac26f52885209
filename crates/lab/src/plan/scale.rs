//! Sizes of one study: `[scales.laptop]` is a part of a spec that is laid over the rest where `scale = "laptop"`
//! is said.

use std::collections::BTreeMap;

use super::complaint::{Fault, Place};
use super::reader::{Notes, Section};
use super::resolve::unknown_name;
use super::section::TOP;
use super::tree::{self, Table, Value};

/// Lays the chosen scale over a spec, if one is chosen.
///
/// # Returns
///
/// What `[scales.NAME.arm.ARM]` says of single arms, to be laid over those; `None` for one that is left out.
pub(super) fn lay_scale_over(
    spec: &mut Table,
    notes: &Notes<'_>,
) -> BTreeMap<String, Option<Table>> {
    let mut top = Section::new(String::new(), spec, Place::Default, notes);
    let chosen = top.text("scale").map(str::to_owned);
    let all = top.table("scales");
    let scales: BTreeMap<&str, Section<'_, '_>> = all.tables_of_any_name().into_iter().collect();
    for (name, entry) in all.values() {
        if !matches!(entry.node.value, Value::Table(_)) {
            let message = "a scale is a table, such as `[scales.laptop]`".to_owned();
            notes.complain(Fault::Value, &all.path_of(name), entry.node.place, message);
        }
    }
    let Some(chosen) = chosen else { return BTreeMap::new() };
    let Some(scale) = scales.get(chosen.as_str()) else {
        top.complain(Fault::Value, "scale", unknown_name("scale", &chosen, scales.keys().copied()));
        return BTreeMap::new();
    };
    let mut over = scale.values().clone();
    let arms = over.remove("arm");
    for key in TOP.into_iter().filter(|&key| key != "sweep") {
        if let Some(entry) = over.remove(key) {
            let message = format!("`{key}` stands at the top of a spec and not in a scale");
            notes.complain(Fault::Key, &scale.path_of(key), entry.key_place, message);
        }
    }
    let mut by_arm = BTreeMap::new();
    if let Some(arms) = arms {
        let Value::Table(arms) = arms.node.value else {
            let message = "name the arm: `[scales.laptop.arm.NAME]`".to_owned();
            notes.complain(Fault::Key, &scale.path_of("arm"), arms.key_place, message);
            return by_arm;
        };
        for (name, arm) in arms {
            match arm.node.value {
                Value::Table(arm) => drop(by_arm.insert(name, Some(arm))),
                Value::Flag(false) => drop(by_arm.insert(name, None)),
                _ => {
                    let message = "an arm is a table, or `false` to leave it out".to_owned();
                    let path = format!("{}.{name}", scale.path_of("arm"));
                    notes.complain(Fault::Value, &path, arm.node.place, message);
                }
            }
        }
    }
    tree::lay_over(spec, &over);
    by_arm
}
