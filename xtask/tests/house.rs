//! Every rule of the house, applied to this repository.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use xtask::docs::{self, Document};
use xtask::source::{Source, reach};
use xtask::workspace::{self, Room};
use xtask::{Finding, arrows, assert_clean, invariants, lexicon, root, tidy};

/// A room with its parsed files, and which of them are compiled (the value: for tests only).
struct Read {
    room: Room,
    sources: Vec<Source>,
    reached: BTreeMap<String, bool>,
}

/// Every room, read once for all tests.
static ROOMS: LazyLock<Vec<Read>> = LazyLock::new(read_rooms);

fn read_rooms() -> Vec<Read> {
    let rooms = workspace::rooms(&root());
    assert!(rooms.len() >= 9, "only {} rooms found: the rules would look at nothing", rooms.len());
    let read = |room: Room| {
        let (sources, unreadable) = workspace::sources(&root(), &room);
        assert_clean("every file is Rust", &unreadable);
        assert!(!sources.is_empty(), "`{}` has no source file", room.folder);
        let reached = reach(&tidy::entries(&room, &sources), &sources);
        Read { room, sources, reached }
    };
    rooms.into_iter().map(read).collect()
}

fn document(place: &str) -> Document {
    let text = fs::read_to_string(root().join(place));
    Document { place: place.to_owned(), text: text.unwrap_or_else(|e| panic!("{place}: {e}")) }
}

fn documents() -> Vec<Document> {
    let found = workspace::files(&root(), "md");
    let places: Vec<String> = found.iter().map(|path| workspace::relative(&root(), path)).collect();
    assert!(places.iter().any(|place| place == "README.md"), "{places:?}");
    places.iter().map(|place| document(place)).collect()
}

#[test]
fn only_the_drawn_arrows_exist() {
    let rooms = workspace::rooms(&root());
    assert_clean("arrows", &arrows::check(arrows::ARROWS, &rooms));
    assert_clean("circles", &arrows::circles(arrows::ARROWS));
}

#[test]
fn the_map_shows_every_drawn_arrow() {
    let map = document("ARCHITECTURE.md");
    let missing = arrows::ARROWS.iter().filter(|(_, to)| !to.is_empty()).filter(|(room, to)| {
        let mut lines = map.text.lines().filter(|line| line.contains("->"));
        !lines.any(|line| {
            let (from, known) = line.split_once("->").unwrap();
            let mut known: Vec<&str> = known.split(',').map(str::trim).collect();
            let mut to = to.to_vec();
            known.sort_unstable();
            to.sort_unstable();
            from.split_whitespace().any(|word| word == *room) && known == to
        })
    });
    let findings: Vec<Finding> = missing
        .map(|(room, to)| Finding::new(&map.place, format!("no line `{room} -> {to:?}`")))
        .collect();
    assert_clean("map", &findings);
}

#[test]
fn every_room_keeps_its_invariants() {
    let findings: Vec<Finding> = ROOMS
        .iter()
        .flat_map(|read| invariants::check(&read.room, &read.sources, &read.reached))
        .collect();
    assert_clean("invariants", &findings);
}

#[test]
fn a_plain_cargo_command_means_every_room_and_one_binary() {
    let rooms = workspace::rooms(&root());
    let left_out: Vec<Finding> = rooms
        .iter()
        .filter(|room| !room.default_member)
        .map(|room| Finding::new(&room.folder, "not tested by a plain `cargo test`"))
        .collect();
    assert_clean("default members", &left_out);
    let binaries: Vec<&String> = rooms.iter().flat_map(|room| &room.binaries).collect();
    assert_eq!(binaries, ["mnemoscope"], "`cargo run` must mean the command");
}

#[test]
fn files_are_tidy() {
    let mut findings = Vec::new();
    for Read { room, sources, reached } in ROOMS.iter() {
        findings.extend(tidy::dead_files(room, sources));
        let tests = format!("{}/tests/", room.folder);
        for source in sources {
            let ships =
                !source.place.starts_with(&tests) && reached.get(&source.place) != Some(&true);
            findings.extend(tidy::check(source, ships));
        }
    }
    for document in documents() {
        let lines: Vec<String> = document.text.lines().map(str::to_owned).collect();
        findings.extend(tidy::marks(&document.place, &lines));
    }
    assert_clean("tidy", &findings);
}

#[test]
fn public_names_keep_to_the_lexicon() {
    let findings: Vec<Finding> =
        ROOMS.iter().flat_map(|read| &read.sources).flat_map(lexicon::check).collect();
    assert_clean("lexicon", &findings);
}

#[test]
fn every_room_has_its_paragraph_and_its_line() {
    let rooms: Vec<Room> = ROOMS.iter().map(|read| read.room.clone()).collect();
    assert_clean("map", &docs::rooms_described(&document("ARCHITECTURE.md"), &rooms));
    let mut lines: Vec<(String, String)> = ROOMS
        .iter()
        .map(|read| {
            let entries = ["src/lib.rs", "src/main.rs"];
            let places = entries.map(|entry| format!("{}/{entry}", read.room.folder));
            let entry = read.sources.iter().find(|source| places.contains(&source.place)).unwrap();
            let says = entry.lines[0].trim_start_matches("//!").trim();
            (read.room.folder.clone(), says.to_owned())
        })
        .collect();
    lines.sort();
    assert_clean("tree", &docs::tree_is_current(&document("README.md"), &docs::tree(&lines)));
}

#[test]
fn documents_lead_somewhere() {
    let justfile = fs::read_to_string(root().join("justfile")).unwrap();
    let verbs: Vec<String> = workspace::files(&root().join("crates/cli/src/command"), "rs")
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .filter(|name| name != "mod")
        .collect();
    let mut findings = Vec::new();
    for document in documents() {
        findings.extend(docs::dead_links(&root(), &document));
        findings.extend(docs::verbs_exist(&document, &justfile));
        findings.extend(docs::verbs_of_the_command(&document, &verbs));
    }
    assert_clean("documents", &findings);
}

#[test]
fn the_guide_has_the_exit_codes_of_the_command() {
    let codes = |place: &str| {
        let document = document(place);
        let cells = document.text.lines().filter_map(|line| {
            line.trim_start_matches("//! ").strip_prefix("| ")?.split(" |").next()?.parse().ok()
        });
        cells.collect::<Vec<u8>>()
    };
    let (guide, command) = (codes("docs/guide/exit-codes.md"), codes("crates/cli/src/exit.rs"));
    assert!(guide.contains(&130), "the table was not found: {guide:?}");
    assert_eq!(guide, command);
}

#[test]
fn the_guide_explains_every_key_of_a_spec() {
    let default_spec = document("crates/lab/src/plan/default.toml");
    let guide = document("docs/guide/spec.md");
    assert_clean("spec", &docs::spec_keys(&default_spec, &guide));
}

#[test]
fn the_checks_run_the_commands_of_the_readme() {
    let (readme, checks) = (document("README.md"), document(".ci/run"));
    assert_clean("commands", &docs::commands_agree(&readme, &checks, &["cargo test"]));
    let job = "cargo run --release -- run studies/fflm/lstm-vs-transformer/study.toml";
    assert!(readme.text.lines().any(|line| line == job), "README.md has no line `{job}`");
}
