//! What a person reads first: the help of every verb, as it is printed on 80 columns.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use door::Door;

#[test]
fn the_help_of_every_verb_fits_and_stays_as_it_is() {
    let door = Door::new();
    let verbs = [
        "demo",
        "gallery",
        "generate",
        "score",
        "spec",
        "plan",
        "run",
        "sweep",
        "reproduce",
        "eval",
        "probe",
        "glitches",
        "replay",
        "runs",
        "prune",
        "show",
        "figure",
        "report",
        "theory",
        "doctor",
    ];
    let mut pages =
        vec![door.run(&["--help"]).code(0).stdout(), door.run(&["-h"]).code(0).stdout()];
    pages.extend(verbs.map(|verb| door.run(&[verb, "--help"]).code(0).stdout()));
    for line in pages.iter().flat_map(|page| page.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for verb in verbs {
        assert!(pages[0].contains(&format!("\n  {verb} ")), "{verb} is not on the first page");
    }
    insta::assert_snapshot!(pages.join("\n------------------------------\n"));
}

#[test]
fn the_version_is_that_of_the_package() {
    let door = Door::new();
    let version = door.run(&["--version"]).code(0).stdout();
    assert_eq!(version, format!("mnemoscope {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_gallery_stays_as_it_is() {
    insta::assert_snapshot!(Door::new().run(&["gallery", "flipflop"]).code(0).stdout());
}

#[test]
fn a_plan_is_shown_with_its_cost_and_every_field() {
    let door = Door::new();
    door.write("tiny.toml", door::TINY);
    let page = door.run(&["plan", "tiny.toml"]).code(0).stdout();
    for word in ["params", "tokens", "work", "memory", "6885", "train.optimizer.lr"] {
        assert!(page.contains(word), "{word}: {page}");
    }
}
