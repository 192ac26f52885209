//! What a room must not touch, whoever writes in it.
//!
//! Dependencies are read from the manifests and calls from the sources. Only direct dependencies
//! count: a library may use a clock inside itself, but the room cannot call one without naming it.
//! Lines that are compiled for tests only, and benches, are free.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::source::{Name, Source};
use crate::workspace::Room;

/// Rooms that touch no clock, no thread pool and no network: what they compute or store depends
/// on their arguments only.
pub const PURE: &[&str] = &["stats", "task", "theory", "store"];

/// Rooms that may read the environment and the current directory.
pub const READS_ENVIRONMENT: &[&str] = &["cli", "bench"];

/// Rooms that may contain `unsafe`.
pub const UNSAFE: &[&str] = &["engine"];

/// Libraries that bring a clock, threads or the network with them.
const IMPURE_LIBRARIES: &[&str] = &[
    "async-std",
    "chrono",
    "crossbeam",
    "curl",
    "hyper",
    "instant",
    "jiff",
    "mio",
    "quanta",
    "rayon",
    "reqwest",
    "smol",
    "socket2",
    "threadpool",
    "time",
    "tokio",
    "ureq",
    "web-time",
];

/// Features that do the same inside a library that is otherwise fine.
const IMPURE_FEATURES: &[&str] = &["async", "http", "rayon", "tokio"];

/// Paths that are a clock, threads or the network. A path is found when it begins with one of
/// these or ends with it after a partial import (`time::Instant::now`, `Instant::now`).
const IMPURE_PATHS: &[&str] =
    &["std::net", "std::thread", "std::time::Instant", "std::time::SystemTime"];

/// Libraries that belong to some rooms: what the room is there to keep from the others.
const OWNED_LIBRARIES: &[(&str, &[&str])] = &[
    ("axum", &["view"]),
    ("burn", &["engine", "model"]),
    ("burn-autodiff", &["engine"]),
    ("burn-cubecl", &["engine"]),
    ("burn-cuda", &["engine"]),
    ("burn-flex", &["engine"]),
    ("burn-wgpu", &["engine"]),
    ("clap", &["cli"]),
    ("ctrlc", &["cli"]),
    ("cubecl", &["engine"]),
    ("cubek", &["engine"]),
    ("cudarc", &["engine"]),
    ("gemm", &["engine"]),
    ("getrandom", &["cli"]),
    ("indicatif", &["cli"]),
    ("kuva", &["view"]),
    ("libmimalloc-sys", &["engine"]),
    ("mimalloc", &["engine"]),
    ("ndarray", &["theory"]),
    ("parquet", &["task"]),
    ("rusqlite", &["store"]),
    ("tiny-skia", &["view"]),
    ("tokio", &["view"]),
    ("toml", &["lab"]),
    ("wgpu", &["engine"]),
];

/// Calls that read what surrounds the process. `std::env::consts` is decided at compile time.
const ENVIRONMENT_CALLS: &[&str] = &[
    "args",
    "args_os",
    "current_dir",
    "current_exe",
    "home_dir",
    "remove_var",
    "set_current_dir",
    "set_var",
    "temp_dir",
    "var",
    "var_os",
    "vars",
    "vars_os",
];

/// Every invariant over one room. `reached` says which files only tests see.
#[must_use]
pub fn check(room: &Room, sources: &[Source], reached: &BTreeMap<String, bool>) -> Vec<Finding> {
    let mut findings = owned_libraries(room);
    findings.extend(unused_dependencies(room, sources));
    if PURE.contains(&room.name.as_str()) {
        findings.extend(impure_libraries(room));
    }
    for source in sources {
        let ships = source.place.starts_with(&format!("{}/src/", room.folder))
            && reached.get(&source.place) != Some(&true);
        if ships && PURE.contains(&room.name.as_str()) {
            findings.extend(impure_paths(source));
        }
        if ships && !READS_ENVIRONMENT.contains(&room.name.as_str()) {
            findings.extend(environment(source));
        }
        if !UNSAFE.contains(&room.name.as_str()) {
            findings.extend(unsafe_code(source));
        }
    }
    findings
}

fn owned_libraries(room: &Room) -> Vec<Finding> {
    let mut findings = Vec::new();
    for library in &room.libraries {
        let owners = OWNED_LIBRARIES.iter().find(|(name, _)| *name == library.name);
        if let Some((name, owners)) = owners
            && !owners.contains(&room.name.as_str())
        {
            let message = format!("`{name}` belongs to {owners:?}: ask that room for what it does");
            findings.push(Finding::new(&room.folder, message));
        }
    }
    findings
}

/// Dependencies that no source file of the room names.
fn unused_dependencies(room: &Room, sources: &[Source]) -> Vec<Finding> {
    let words: BTreeSet<&str> = sources
        .iter()
        .filter(|source| source.place.starts_with(&format!("{}/src/", room.folder)))
        .flat_map(|source| source.tokens.iter().map(|token| token.text.as_str()))
        .collect();
    let libraries = room.libraries.iter().map(|library| library.name.replace('-', "_"));
    let rooms = room.knows.iter().map(|known| format!("mnemoscope_{known}"));
    let unused = libraries.chain(rooms).filter(|name| !words.contains(name.as_str()));
    unused
        .map(|name| {
            let message = format!("depends on `{name}` and never names it: remove the dependency");
            Finding::new(&room.folder, message)
        })
        .collect()
}

fn impure_libraries(room: &Room) -> Vec<Finding> {
    let mut findings = Vec::new();
    for library in &room.libraries {
        if IMPURE_LIBRARIES.contains(&library.name.as_str()) {
            let message = format!(
                "`{}` depends on `{}`: a clock, threads or the network \
                 do not belong here",
                room.name, library.name
            );
            findings.push(Finding::new(&room.folder, message));
        }
        for feature in &library.features {
            if IMPURE_FEATURES.contains(&feature.as_str()) {
                let message = format!(
                    "`{}` turns on `{feature}` of `{}`: threads or the network \
                     do not belong here",
                    room.name, library.name
                );
                findings.push(Finding::new(&room.folder, message));
            }
        }
    }
    findings
}

fn shipped<'a>(source: &'a Source, names: &'a [Name]) -> impl Iterator<Item = &'a Name> {
    names.iter().filter(|name| !source.is_test_line(name.line))
}

fn impure_paths(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in shipped(source, &source.paths) {
        let direct = IMPURE_PATHS
            .iter()
            .any(|impure| path.text == *impure || path.text.starts_with(&format!("{impure}::")));
        let partial = ["Instant::now", "SystemTime::now", "thread::spawn", "thread::scope"];
        let partial = partial
            .iter()
            .any(|call| path.text == *call || path.text.ends_with(&format!("::{call}")));
        if direct || partial {
            let message = format!(
                "`{}`: this room computes from its arguments only; take the \
                 value as a parameter",
                path.text
            );
            findings.push(Finding::new(source.at(path.line), message));
        }
    }
    findings.dedup();
    findings
}

fn environment(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in shipped(source, &source.paths) {
        let mut parts = path.text.rsplit("::");
        let (last, before) = (parts.next().unwrap_or(""), parts.next());
        if before == Some("env") && ENVIRONMENT_CALLS.contains(&last) {
            let message = format!(
                "`{}`: only the command reads what surrounds the process; take \
                 the value as a parameter",
                path.text
            );
            findings.push(Finding::new(source.at(path.line), message));
        }
    }
    findings.dedup();
    findings
}

fn unsafe_code(source: &Source) -> Vec<Finding> {
    let found = source.tokens.iter().filter(|token| token.text == "unsafe");
    found
        .map(|token| {
            Finding::new(source.at(token.line), "`unsafe`: only `engine` may, block by block")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Library;

    fn findings(room: &str, libraries: Vec<Library>, text: &str) -> Vec<String> {
        let folder = format!("crates/{room}");
        let source = Source::parse(&format!("{folder}/src/lib.rs"), text).unwrap();
        let room = Room { name: room.to_owned(), folder, libraries, ..Room::default() };
        let found = check(&room, &[source], &BTreeMap::new());
        found.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_clock_in_a_pure_room_is_found_however_it_is_spelt() {
        for text in [
            "use std::time::Instant;",
            "use std::{time::{Duration, SystemTime}};",
            "fn f() { let start = std::time::Instant::now(); }",
            "use std::time; fn f() { dbg(time::Instant::now()); }",
            "fn f() { std::thread::sleep(d); }",
            "use std::net::TcpStream;",
        ] {
            assert!(!findings("store", vec![], text).is_empty(), "{text}");
            assert_eq!(findings("lab", vec![], text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn durations_and_tests_are_free() {
        for text in [
            "use std::time::Duration;",
            "#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}",
            "/// Takes no `std::time::Instant`.\nfn f() {}",
        ] {
            assert_eq!(findings("stats", vec![], text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_thread_pool_in_a_pure_rooms_manifest_is_found() {
        let rayon = Library { name: "rayon".to_owned(), features: vec![] };
        let hash = Library { name: "blake3".to_owned(), features: vec!["rayon".to_owned()] };
        let both = "use blake3::Hasher;\nuse rayon::join;";
        assert_eq!(findings("task", vec![rayon.clone(), hash], both).len(), 2);
        assert_eq!(findings("engine", vec![rayon], both), Vec::<String>::new());
    }

    #[test]
    fn a_library_in_the_wrong_room_is_found() {
        let flags = || vec![Library { name: "clap".to_owned(), features: vec![] }];
        let text = "use clap::Parser;";
        assert_eq!(
            findings("lab", flags(), text),
            ["crates/lab: `clap` belongs to [\"cli\"]: ask that room for what it does"]
        );
        assert_eq!(findings("cli", flags(), text), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_that_is_never_named_is_found() {
        let serde = || vec![Library { name: "serde-json".to_owned(), features: vec![] }];
        assert_eq!(findings("lab", serde(), "fn f() { serde_json::json!({}); }"), [""; 0]);
        assert_eq!(
            findings("lab", serde(), "/// `serde_json`\nfn f() {}"),
            ["crates/lab: depends on `serde_json` and never names it: remove the dependency"]
        );
    }

    #[test]
    fn only_the_command_reads_the_environment() {
        let text = "fn f() { let home = std::env::var(\"HOME\"); }";
        assert_eq!(findings("lab", vec![], text).len(), 1);
        assert_eq!(findings("cli", vec![], text), Vec::<String>::new());
        let here = "use std::env;\nfn f() { env::current_dir(); }";
        assert_eq!(findings("engine", vec![], here).len(), 1);
        let fixed = "const A: &str = std::env::consts::ARCH; const B: &str = env!(\"X\");";
        assert_eq!(findings("lab", vec![], fixed), Vec::<String>::new());
    }

    #[test]
    fn only_the_engine_contains_unsafe_even_in_tests() {
        let text = "#[cfg(test)]\nmod tests {\n    fn f() { unsafe { g() } }\n}";
        assert_eq!(
            findings("model", vec![], text),
            ["crates/model/src/lib.rs:3: `unsafe`: only `engine` may, block by block"]
        );
        assert_eq!(findings("engine", vec![], text), Vec::<String>::new());
        assert_eq!(
            findings("model", vec![], "#![deny(unsafe_code)] // unsafe"),
            Vec::<String>::new()
        );
    }
}
