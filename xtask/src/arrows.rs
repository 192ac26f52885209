//! Who may know whom. An arrow points from the room that knows to the room that is known.

use crate::Finding;
use crate::workspace::Room;

/// The drawn arrows. A new one is a change of architecture: the same commit edits
/// `ARCHITECTURE.md` and says why.
pub const ARROWS: &[(&str, &[&str])] = &[
    ("stats", &[]),
    ("store", &[]),
    ("engine", &[]),
    ("task", &["stats"]),
    ("theory", &["stats", "task"]),
    ("model", &["stats", "engine"]),
    ("view", &["stats", "store"]),
    ("lab", &["stats", "model", "store", "task", "theory", "engine"]),
    ("cli", &["lab", "store", "view"]),
    ("bench", &["lab"]),
    ("xtask", &[]),
];

/// Every arrow that is built and not drawn, every room that is not on the map, and every room on
/// the map that nobody built.
///
/// # Example
///
/// ```
/// use xtask::{arrows, workspace::Room};
///
/// let shortcut =
///     Room { name: "task".into(), knows: vec!["engine".into()], ..Room::default() };
/// let findings = arrows::check(&[("task", &["stats"])], &[shortcut]);
/// assert_eq!(findings.len(), 1, "a task that can see a tensor is a finding");
/// ```
#[must_use]
pub fn check(arrows: &[(&str, &[&str])], rooms: &[Room]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in rooms {
        let Some((_, drawn)) = arrows.iter().find(|(name, _)| *name == room.name) else {
            let message = format!("room `{}` is not on the map: draw it", room.name);
            findings.push(Finding::new(&room.folder, message));
            continue;
        };
        for known in room.knows.iter().filter(|known| !drawn.contains(&known.as_str())) {
            let message = format!("`{}` knows `{known}`: remove it or draw the arrow", room.name);
            findings.push(Finding::new(&room.folder, message));
        }
    }
    for (name, _) in arrows {
        if !rooms.iter().any(|room| room.name == *name) {
            findings.push(Finding::new(*name, "on the map, and not in the workspace"));
        }
    }
    findings
}

/// The arrows that are part of a circle. Cargo refuses circles of dependencies; this refuses them
/// on the map, before anybody builds one.
#[must_use]
pub fn circles(arrows: &[(&str, &[&str])]) -> Vec<Finding> {
    let mut settled: Vec<&str> = Vec::new();
    loop {
        let next = arrows.iter().find(|(name, to)| {
            !settled.contains(name) && to.iter().all(|known| settled.contains(known))
        });
        match next {
            Some((name, _)) => settled.push(name),
            None => break,
        }
    }
    let stuck = arrows.iter().filter(|(name, _)| !settled.contains(name));
    stuck.map(|(name, to)| Finding::new(*name, format!("in or above a circle: {to:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str, knows: &[&str]) -> Room {
        let knows = knows.iter().map(|known| (*known).to_owned()).collect();
        Room { name: name.to_owned(), folder: format!("crates/{name}"), knows, ..Room::default() }
    }

    #[test]
    fn an_undrawn_arrow_is_found_and_named() {
        let rooms = [room("stats", &[]), room("engine", &["store"]), room("store", &[])];
        let map: &[(&str, &[&str])] = &[("stats", &[]), ("engine", &[]), ("store", &[])];
        let expected = "crates/engine: `engine` knows `store`: remove it or draw the arrow";
        assert_eq!(
            check(map, &rooms).iter().map(ToString::to_string).collect::<Vec<_>>(),
            [expected]
        );
    }

    #[test]
    fn a_room_off_the_map_and_a_room_only_on_the_map_are_found() {
        let findings = check(&[("stats", &[])], &[room("attic", &[])]);
        let places: Vec<_> = findings.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, ["crates/attic", "stats"]);
    }

    #[test]
    fn a_circle_on_the_map_is_found() {
        assert_eq!(circles(ARROWS), []);
        let round: &[(&str, &[&str])] = &[("a", &["b"]), ("b", &["a"]), ("c", &[])];
        assert_eq!(circles(round).len(), 2);
    }
}
