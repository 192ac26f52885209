//! Headers, sizes, left-overs, and files nobody includes.

use crate::Finding;
use crate::source::{Source, reach};
use crate::workspace::Room;

/// The longest function, from its signature to its closing brace. Above this a reader scrolls.
pub const MAX_FUNCTION_LINES: usize = 70;

/// The longest file, the lines of its tests not counted.
pub const MAX_FILE_LINES: usize = 800;

/// Spelt in two parts, so that this file is not found by its own rule.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// Every rule about a single file. `ships` is false where the whole file is a test.
///
/// # Example
///
/// ```
/// use xtask::{source::Source, tidy};
///
/// let bare = Source::parse("src/lib.rs", "fn main() {}").unwrap();
/// let findings = tidy::check(&bare, true);
/// assert_eq!(findings[0].message, "begin with `//!` and say what the file is");
/// ```
#[must_use]
pub fn check(source: &Source, ships: bool) -> Vec<Finding> {
    let mut findings = header(source);
    findings.extend(left_overs(source));
    findings.extend(marks(&source.place, &source.lines));
    if ships {
        findings.extend(sizes(source));
    }
    findings
}

fn header(source: &Source) -> Vec<Finding> {
    let first = source.lines.first().map_or("", String::as_str);
    let says = first.strip_prefix("//!").is_some_and(|text| text.trim().len() > 5);
    if says {
        return Vec::new();
    }
    vec![Finding::new(source.at(1), "begin with `//!` and say what the file is")]
}

fn sizes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in &source.functions {
        if function.n_lines > MAX_FUNCTION_LINES && !source.is_test_line(function.line) {
            let message = format!(
                "`{}` has {} lines, {MAX_FUNCTION_LINES} are allowed: split it",
                function.name, function.n_lines
            );
            findings.push(Finding::new(source.at(function.line), message));
        }
    }
    let n_lines = source.n_lines_shipped();
    if n_lines > MAX_FILE_LINES {
        let message = format!("{n_lines} lines without its tests, {MAX_FILE_LINES} are allowed");
        findings.push(Finding::new(&source.place, message));
    }
    findings
}

/// Macros that stand for code nobody wrote, and attributes that switch a test off.
fn left_overs(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for window in source.tokens.windows(2) {
        let [first, second] = window else { continue };
        let (word, next) = (first.text.as_str(), second.text.as_str());
        if ["todo", "unimplemented"].contains(&word) && next == "!" {
            let message = format!("`{word}!`: write it, or leave the function out");
            findings.push(Finding::new(source.at(first.line), message));
        }
    }
    for window in source.tokens.windows(3) {
        let [hash, open, word] = window else { continue };
        let switches_off = ["ignore", "should_panic"].contains(&word.text.as_str());
        if hash.text == "#" && open.text == "[" && switches_off {
            let message = format!("`#[{}]`: assert what happens instead", word.text);
            findings.push(Finding::new(source.at(word.line), message));
        }
    }
    findings
}

/// Marks of unfinished work without the number of an issue: `(#12)` must follow.
///
/// Works on any text, so that documents and manifests are held to it too.
#[must_use]
pub fn marks(place: &str, lines: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (idx, line) in lines.iter().enumerate() {
        for mark in MARKS {
            for (at, _) in line.match_indices(mark) {
                if !has_issue(&line[at + mark.len()..]) {
                    let message = format!("`{mark}` without an issue: write `{mark}(#12)`");
                    findings.push(Finding::new(format!("{place}:{}", idx + 1), message));
                }
            }
        }
    }
    findings
}

fn has_issue(after: &str) -> bool {
    let Some(inside) = after.strip_prefix("(#") else { return false };
    let n_digits = inside.chars().take_while(char::is_ascii_digit).count();
    n_digits > 0 && inside[n_digits..].starts_with(')')
}

/// The files of a room that cargo compiles without being told: `src/lib.rs`, `tests/*.rs` and such.
#[must_use]
pub fn entries<'a>(room: &Room, sources: &'a [Source]) -> Vec<&'a str> {
    let is_entry = |place: &&str| {
        let Some(below) = place.strip_prefix(&format!("{}/", room.folder)) else { return false };
        let parts: Vec<&str> = below.split('/').collect();
        match parts.as_slice() {
            ["build.rs" | "lib.rs"] | ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] => true,
            ["tests" | "benches" | "examples", file] => file.ends_with(".rs"),
            ["tests" | "benches" | "examples", _, "main.rs"] => true,
            _ => false,
        }
    };
    sources.iter().map(|source| source.place.as_str()).filter(is_entry).collect()
}

/// Files that no other file includes: the compiler never reads them, so nothing keeps them true.
#[must_use]
pub fn dead_files(room: &Room, sources: &[Source]) -> Vec<Finding> {
    let reached = reach(&entries(room, sources), sources);
    let dead = sources.iter().filter(|source| !reached.contains_key(&source.place));
    dead.map(|source| Finding::new(&source.place, "no file includes it: include or remove it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str, ships: bool) -> Vec<String> {
        let source = Source::parse("src/lib.rs", text).unwrap();
        check(&source, ships).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(messages("//! What it is.\n", true), Vec::<String>::new());
        let expected = ["src/lib.rs:1: begin with `//!` and say what the file is"];
        assert_eq!(messages("// What it is.\n//! Late.\n", true), expected);
        assert_eq!(messages("//!\n//! Later.\n", true), expected);
    }

    #[test]
    fn a_function_may_have_seventy_lines_and_not_one_more() {
        let function = |n_lines: usize| {
            format!("//! Header.\nfn long() {{\n{}}}\n", "    work();\n".repeat(n_lines - 2))
        };
        assert_eq!(messages(&function(70), true), Vec::<String>::new());
        assert_eq!(
            messages(&function(71), true),
            ["src/lib.rs:2: `long` has 71 lines, 70 are allowed: split it"]
        );
        assert_eq!(messages(&function(71), false), Vec::<String>::new());
    }

    #[test]
    fn a_file_may_have_eight_hundred_lines_besides_its_tests() {
        let text = format!("//! Header.\n{}", "const A: u8 = 0;\n".repeat(799));
        let tested = format!("{text}#[cfg(test)]\nmod tests {{\n    const B: u8 = 0;\n}}\n");
        assert_eq!(messages(&tested, true), Vec::<String>::new());
        assert_eq!(
            messages(&format!("{tested}const C: u8 = 0;\n"), true),
            ["src/lib.rs: 801 lines without its tests, 800 are allowed"]
        );
    }

    #[test]
    fn left_overs_are_found_and_words_about_them_are_not() {
        let found = "//! Header.\nfn f() { todo!() }\nfn g() { unimplemented!() }\n\
                     #[ignore = \"slow\"]\nfn h() {}\n#[should_panic]\nfn i() {}\n";
        assert_eq!(messages(found, true).len(), 4, "{:?}", messages(found, true));
        let text = "//! No `#[ignore]`, no `unimplemented!`.\nfn f() { say(\"#[ignore]\") }\n";
        assert_eq!(messages(text, true), Vec::<String>::new());
    }

    #[test]
    fn a_mark_needs_the_number_of_an_issue() {
        for mark in MARKS {
            let with = vec![format!("// {mark}(#12): later"), String::new()];
            assert_eq!(marks("a.rs", &with), []);
            for without in ["", "(me)", "(#)", "(#12", ": later"] {
                let lines = vec![String::new(), format!("// {mark}{without}")];
                assert_eq!(marks("a.rs", &lines)[0].place, "a.rs:2", "{mark}{without}");
            }
        }
    }

    #[test]
    fn a_file_nobody_includes_is_found() {
        let room = Room { folder: "crates/a".into(), ..Room::default() };
        let parse = |place: &str, text: &str| Source::parse(place, text).unwrap();
        let sources = [
            parse("crates/a/src/lib.rs", "mod b;"),
            parse("crates/a/src/b.rs", ""),
            parse("crates/a/src/old.rs", ""),
            parse("crates/a/tests/t.rs", "mod common;"),
            parse("crates/a/tests/common/mod.rs", ""),
        ];
        let findings = dead_files(&room, &sources);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].place, "crates/a/src/old.rs");
    }
}
