//! Documents that name the code, and code that documents must name.
//!
//! A sentence that can be checked is checked: links and paths lead somewhere, every room has its
//! paragraph, the tree in the README is the first line of each crate, the commands a reader is
//! told to type are the ones the checks run, and the verbs of `just` exist.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Finding;
use crate::workspace::Room;

/// Where the README keeps the generated tree of rooms.
pub const TREE_BEGINS: &str = "<!-- rooms: generated from the first line of each crate -->";
/// Where that tree ends.
pub const TREE_ENDS: &str = "<!-- /rooms -->";

/// A document: its path relative to the root, and its text.
#[derive(Clone, Debug)]
pub struct Document {
    /// The path, with `/`.
    pub place: String,
    /// The text.
    pub text: String,
}

impl Document {
    /// The lines outside of fenced blocks, with their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, fenced, _)| !fenced).map(|(line, _, text)| (line, text))
    }

    /// The lines inside of fenced blocks, with their numbers.
    fn fenced(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, fenced, _)| *fenced).map(|(line, _, text)| (line, text))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, bool, &str)> {
        let mut inside = false;
        self.text.lines().enumerate().filter_map(move |(idx, text)| {
            let fence = text.trim_start().starts_with("```");
            inside ^= fence;
            (!fence).then_some((idx + 1, inside, text))
        })
    }

    /// The text between single backticks, outside of fenced blocks.
    fn code_words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose().flat_map(|(line, text)| {
            text.split('`').skip(1).step_by(2).map(move |word| (line, word))
        })
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.place)
    }
}

/// Rooms without a heading and a paragraph with invariants in the map, and headings without a room.
///
/// A room's part begins with a heading that names its folder in backticks, and says
/// `Invariants` before the next heading.
#[must_use]
pub fn rooms_described(map: &Document, rooms: &[Room]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in rooms {
        let heading = format!("### `{}/`", room.folder);
        let part = map
            .text
            .split_once(&heading)
            .map(|(_, after)| after.split_once("\n#").map_or(after, |(part, _)| part));
        let complaint = match part {
            None => format!("no part `{heading}`: every room has a paragraph"),
            Some(part) if !part.contains("*Invariants.*") => {
                format!("the part of `{}` does not say its *Invariants.*", room.folder)
            }
            Some(part) if part.split_whitespace().count() < 40 => {
                format!("the part of `{}` says nothing", room.folder)
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(&map.place, complaint));
    }
    for (line, text) in map.prose().filter(|(_, text)| text.starts_with("### `")) {
        let folder = text.trim_start_matches("### `").split("/`").next().unwrap_or("");
        if !rooms.iter().any(|room| room.folder == folder) {
            findings.push(Finding::new(map.at(line), format!("there is no room `{folder}`")));
        }
    }
    findings
}

/// The tree of rooms: each folder with the first line of its crate.
///
/// # Example
///
/// ```
/// let tree = xtask::docs::tree(&[("crates/stats".into(), "Draws and judgements.".into())]);
/// assert_eq!(tree, "```text\ncrates/stats/   Draws and judgements.\n```\n");
/// ```
#[must_use]
pub fn tree(rooms: &[(String, String)]) -> String {
    let width = rooms.iter().map(|(folder, _)| folder.len()).max().unwrap_or(0);
    let lines: Vec<String> = rooms
        .iter()
        .map(|(folder, says)| {
            format!("{:<width$}   {says}\n", format!("{folder}/"), width = width + 1)
        })
        .collect();
    format!("```text\n{}```\n", lines.concat())
}

/// Whether the README holds the tree as generated; the finding shows what belongs there.
#[must_use]
pub fn tree_is_current(readme: &Document, tree: &str) -> Vec<Finding> {
    let held =
        readme.text.split_once(TREE_BEGINS).and_then(|(_, after)| after.split_once(TREE_ENDS));
    match held {
        None => vec![Finding::new(&readme.place, format!("no `{TREE_BEGINS}` ... `{TREE_ENDS}`"))],
        Some((held, _)) if held.trim() == tree.trim() => Vec::new(),
        Some(_) => vec![Finding::new(
            &readme.place,
            format!("the tree of rooms is old; between the two marks belongs\n{tree}"),
        )],
    }
}

/// Links and paths in a document that lead nowhere.
#[must_use]
pub fn dead_links(root: &Path, document: &Document) -> Vec<Finding> {
    let folder = document.place.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (line, text) in document.prose() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or("");
            let outside = link.starts_with("http") || target.is_empty();
            if !outside && !root.join(folder).join(target).exists() {
                findings.push(Finding::new(document.at(line), format!("`{link}` leads nowhere")));
            }
        }
    }
    let in_blocks = document
        .fenced()
        .flat_map(|(line, text)| text.split_whitespace().map(move |word| (line, word)));
    for (line, word) in document.code_words().chain(in_blocks) {
        let names_a_file = ["crates/", "docs/", "studies/", "xtask/", "bench/", ".ci/"]
            .iter()
            .any(|start| word.starts_with(start));
        let stands_for_many = word.contains(['*', '<', '{', '$', ' ', '…', 'N']);
        if names_a_file && !stands_for_many && !root.join(word).exists() {
            findings.push(Finding::new(document.at(line), format!("`{word}` does not exist")));
        }
    }
    findings
}

/// Verbs of `just` that a document names and the justfile does not have.
#[must_use]
pub fn verbs_exist(document: &Document, justfile: &str) -> Vec<Finding> {
    let is_recipe = |verb: &str| {
        justfile.lines().any(|line| {
            let name = line.split([' ', ':']).next().unwrap_or("");
            name == verb && line.contains(':') && !line.contains(":=")
        })
    };
    let words = document.code_words();
    let named = words.filter_map(|(line, word)| Some((line, word.strip_prefix("just ")?)));
    let missing = named.filter(|(_, verb)| !is_recipe(verb.split(' ').next().unwrap_or("")));
    missing
        .map(|(line, verb)| Finding::new(document.at(line), format!("no verb `just {verb}`")))
        .collect()
}

/// Verbs of the command that a document tells a reader to type and that do not exist.
///
/// # Example
///
/// ```
/// use xtask::docs::{Document, verbs_of_the_command};
///
/// let text = "Say `mnemoscope show latest` or `mnemoscope dance`.".to_owned();
/// let document = Document { place: "A.md".to_owned(), text };
/// assert_eq!(verbs_of_the_command(&document, &["show".to_owned()]).len(), 1);
/// ```
#[must_use]
pub fn verbs_of_the_command(document: &Document, verbs: &[String]) -> Vec<Finding> {
    let starts = ["mnemoscope ", "cargo run --release -- "];
    let typed = document.fenced().chain(document.code_words());
    let named = typed.filter_map(|(line, text)| {
        let rest = starts.iter().find_map(|start| text.trim().strip_prefix(start))?;
        Some((line, rest.split_whitespace().next()?))
    });
    named
        .filter(|(_, verb)| !verb.starts_with('-') && !verbs.iter().any(|known| known == verb))
        .map(|(line, verb)| Finding::new(document.at(line), format!("no verb `{verb}`")))
        .collect()
}

/// The commands a reader types first, which the README must hold and the checks must run.
#[must_use]
pub fn commands_agree(readme: &Document, checks: &Document, commands: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for command in commands {
        if !readme.fenced().any(|(_, text)| text.trim() == *command) {
            let message = format!("no line `{command}` in a block of code");
            findings.push(Finding::new(&readme.place, message));
        }
        let runs = |text: &str| {
            let text = text.trim();
            !text.starts_with('#')
                && text.split(" 2>&1").next().is_some_and(|start| start.trim_end() == *command)
        };
        if !checks.text.lines().any(runs) {
            findings.push(Finding::new(&checks.place, format!("does not run `{command}`")));
        }
    }
    findings
}

/// Keys of the default spec that the guide does not explain, and keys it explains that are gone.
///
/// The default spec is TOML in which optional keys stand behind a `#`; the guide has the keys in
/// the first column of its tables, and those of arms and claims in its blocks of TOML.
#[must_use]
pub fn spec_keys(default_spec: &Document, guide: &Document) -> Vec<Finding> {
    let written: BTreeSet<&str> = default_spec.text.lines().flat_map(keys_of_line).collect();
    let in_tables: BTreeSet<&str> = guide
        .prose()
        .filter_map(|(_, text)| text.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let in_blocks: BTreeSet<&str> =
        guide.fenced().flat_map(|(_, text)| keys_of_line(text)).collect();
    let unexplained =
        written.iter().filter(|key| !in_tables.contains(*key) && !in_blocks.contains(*key));
    let gone = in_tables.iter().filter(|key| !written.contains(*key));
    let unexplained =
        unexplained.map(|key| Finding::new(&guide.place, format!("does not explain `{key}`")));
    let gone =
        gone.map(|key| Finding::new(&default_spec.place, format!("does not mention `{key}`")));
    unexplained.chain(gone).collect()
}

/// The keys of a line of TOML, in front of it or in an inline table, behind a `#` or not.
fn keys_of_line<'a>(line: &'a str) -> Vec<&'a str> {
    let line = line.trim_start_matches([' ', '#', '{']);
    let is_key = |word: &str| {
        !word.is_empty()
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if !line.split_once(" = ").is_some_and(|(key, _)| is_key(key.trim_matches('"'))) {
        return Vec::new();
    }
    let parts: Vec<&str> = line.split(" = ").collect();
    let last_word = |part: &&'a str| part.rsplit(['{', ',', ' ']).next().unwrap_or("");
    let keys = parts[..parts.len() - 1].iter().map(last_word);
    keys.filter(|key| is_key(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document { place: "A.md".to_owned(), text: text.to_owned() }
    }

    fn messages(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|finding| finding.message.clone()).collect()
    }

    #[test]
    fn a_room_without_a_part_or_without_invariants_is_found() {
        let room = |folder: &str| Room { folder: folder.to_owned(), ..Room::default() };
        let words = "word ".repeat(40);
        let map = document(&format!(
            "### `crates/a/`: good\n\n{words}\n\n*Invariants.* None.\n\n### `crates/b/`: bare\n\n{words}\n\
             \n### `crates/gone/`: left\n\n{words}\n"
        ));
        let found = rooms_described(&map, &[room("crates/a"), room("crates/b"), room("crates/c")]);
        assert_eq!(
            messages(&found),
            [
                "the part of `crates/b` does not say its *Invariants.*",
                "no part `### `crates/c/``: every room has a paragraph",
                "there is no room `crates/gone`",
            ]
        );
    }

    #[test]
    fn an_old_tree_is_found_and_the_new_one_shown() {
        let tree = tree(&[("crates/a".into(), "New.".into()), ("x".into(), "Y.".into())]);
        let with = |inside: &str| document(&format!("{TREE_BEGINS}\n{inside}\n{TREE_ENDS}\n"));
        assert_eq!(tree_is_current(&with(&tree), &tree), []);
        let found = tree_is_current(&with("```text\ncrates/a/   Old.\n```"), &tree);
        assert!(found[0].message.contains("crates/a/   New.\nx/          Y.\n"), "{found:?}");
        assert_eq!(tree_is_current(&document("# Name"), &tree).len(), 1);
    }

    #[test]
    fn a_link_and_a_path_that_lead_nowhere_are_found() {
        let root = crate::root();
        let good = "[map](Cargo.toml), [web](https://example.org), [part](#part), `xtask/src/docs.rs`, \
                    `crates/*/src`";
        assert_eq!(dead_links(&root, &document(good)), []);
        let bad = "[map](NOWHERE.md)\n`xtask/src/nowhere.rs`\n```sh\nopen docs/nowhere.md\n```\n";
        assert_eq!(
            messages(&dead_links(&root, &document(bad))),
            [
                "`NOWHERE.md` leads nowhere",
                "`xtask/src/nowhere.rs` does not exist",
                "`docs/nowhere.md` does not exist",
            ]
        );
    }

    #[test]
    fn a_verb_the_justfile_does_not_have_is_found() {
        let justfile = "set := \"x\"\ntest:\n    cargo test\nstudy file:\n    run\n";
        let text = "`just test`, `just study a.toml`, `just bless` and `just set`";
        let found = verbs_exist(&document(text), justfile);
        assert_eq!(messages(&found), ["no verb `just bless`", "no verb `just set`"]);
    }

    #[test]
    fn a_key_that_is_not_explained_and_a_key_that_is_gone_are_found() {
        let spec = document(
            "# Words about lr = this.\nn_steps = 5\n# lr = 1\n[eval.val]\n\
             parts = [{ weight = 1, p_ignore = 0.8 }]\n# bound = 0\n",
        );
        let guide = document(
            "| Key | Meaning |\n|---|---|\n| `n_steps`, `lr` | `x` |\n| `weight` | |\n\
             | `old` | |\n\n```toml\nparts = []\nbound = 0\n```\n",
        );
        let found = spec_keys(&spec, &guide);
        assert_eq!(messages(&found), ["does not explain `p_ignore`", "does not mention `old`"]);
    }

    #[test]
    fn a_command_the_checks_do_not_run_is_found() {
        let readme = document("```sh\ncargo test\n```\n");
        let runs = |text: &str| Document { place: ".ci/run".to_owned(), text: text.to_owned() };
        let check = |text: &str| commands_agree(&readme, &runs(text), &["cargo test"]).len();
        assert_eq!(check("cargo test"), 0);
        assert_eq!(check("  cargo test 2>&1 | tee log"), 0);
        assert_eq!(check("cargo test --workspace"), 1);
        assert_eq!(check("# cargo test"), 1);
        assert_eq!(commands_agree(&readme, &runs("cargo run"), &["cargo run"]).len(), 1);
    }
}
