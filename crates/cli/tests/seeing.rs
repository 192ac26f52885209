//! Figures and reports of real tiny runs, from outside: the numbers agree, and the page needs nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use std::fs;

use door::{Door, TINY};
use serde_json::{Value, json};

/// Two arms of two seeds that learn nothing, and a claim about them.
fn study() -> String {
    format!(
        "question = \"Does <b>size</b> help?\"\n{TINY}\n\
         [sweep]\nseed = {{ count = 2 }}\n\
         [[arm]]\nname = \"small\"\n\
         [[arm]]\nname = \"<script>alert(1)</script>\"\ntrain.n_steps = 9\n\
         [[claim]]\ntext = \"nothing is learned\"\nsource = \"here\"\narm = \"small\"\nset = \"val\"\n\
         measure = \"n_errors\"\nop = \">\"\nbound = 0\nruns = \"each\"\n"
    )
}

/// A door behind which the study was run, and the runs as `run --json` tells them.
fn after_the_study() -> (Door, Vec<Value>) {
    let door = Door::new();
    door.write("study.toml", &study());
    let said = door.run(&["run", "study.toml", "--json"]).code(0).json();
    (door, said["runs"].as_array().unwrap().clone())
}

#[test]
fn a_report_of_a_study_is_one_file_with_the_numbers_of_its_runs() {
    let (door, runs) = after_the_study();
    let written = door.run(&["report", "study.toml", "-o", "r.html", "--json"]).code(0).json();
    assert_eq!((&written["n_runs"], &written["n_glitches"]), (&json!(4), &json!(3)));
    let html = fs::read_to_string(door.path("r.html")).unwrap();
    assert_eq!(written["n_bytes"], html.len());
    for part in [
        "Does &lt;b&gt;size&lt;/b&gt; help?",
        "nothing is learned",
        ">holds<",
        "mnemoscope run study.toml",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let script = format!("<script>{}</script>", mnemoscope_view::figure::SCRIPT);
    let without = html.replacen(&script, "", 1);
    assert_eq!(without.len() + script.len(), html.len());
    for way in ["src=", "href=", "<script", "<link", "@import", "https://"] {
        assert!(!without.contains(way), "{way}");
    }
    assert!(!without.replace("http://www.w3.org/2000/svg", "").contains("http://"));
    let shown = door.run(&["show", runs[0]["run"].as_str().unwrap()]).code(0).stdout();
    for run in &runs {
        assert!(html.contains(run["run"].as_str().unwrap()));
    }
    // What `show` prints of a set stands in the report, digit for digit.
    let set = shown.lines().find(|line| line.trim_start().starts_with("val ")).unwrap();
    let interval = &set[set.find('[').unwrap()..=set.rfind(']').unwrap()];
    assert!(html.contains(interval), "{interval}");
}

#[test]
fn figures_hold_the_numbers_of_the_runs_and_are_drawn_as_files() {
    let (door, runs) = after_the_study();
    let said = door.run(&["figure", "study.toml", "--json"]).code(0).json();
    let figures = said["figures"].as_array().unwrap();
    let errors = figures.iter().find(|it| it["name"] == "errors-val").unwrap();
    let arms = errors["plot"]["arms"].as_array().unwrap();
    let rates: Vec<&Value> = arms.iter().flat_map(|arm| arm["rates"].as_array().unwrap()).collect();
    assert_eq!(rates.len(), runs.len());
    for (rate, run) in rates.into_iter().zip(&runs) {
        let set = &run["eval"]["val"];
        assert_eq!(rate["run"], run["run"]);
        for key in ["n_trials", "n_errors", "error_rate", "interval", "confidence"] {
            assert_eq!(rate[key], set[key], "{key}");
        }
    }
    let drawn = door.run(&["figure", "study.toml", "-o", "all", "--quiet"]).code(0).stdout();
    assert_eq!(drawn.lines().count(), figures.len());
    for path in drawn.lines() {
        let svg = fs::read_to_string(door.path(path)).unwrap();
        assert!(svg.starts_with("<svg") && !svg.contains("<script"), "{path}");
    }
    door.run(&["figure", "study.toml", "--only", "errors-val", "-o", "e.png"]).code(0);
    assert_eq!(fs::read(door.path("e.png")).unwrap()[..8], *b"\x89PNG\r\n\x1a\n");
    door.run(&["figure", "latest", "--text", "w1i0r1", "-o", "heads.svg"]).code(0);
    assert!(fs::read_to_string(door.path("heads.svg")).unwrap().contains("layer 0, head 0"));
}

#[test]
fn a_report_in_markdown_has_its_figures_beside_it() {
    let (door, runs) = after_the_study();
    // By their ids: of runs that began in the same second `latest` may be either.
    let [first, second] = [0, 1].map(|idx: usize| runs[idx]["run"].as_str().unwrap());
    door.run(&["report", first, second, "-o", "two.md"]).code(0);
    let page = fs::read_to_string(door.path("two.md")).unwrap();
    let links: Vec<&str> =
        page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|it| it.0).collect();
    assert!(links.iter().any(|link| link.starts_with("two-figures/errors-val")), "{links:?}");
    for link in links {
        assert!(door.path(link).is_file(), "{link}");
    }
}

#[test]
fn what_cannot_be_shown_is_refused_with_what_to_do() {
    let (door, _) = after_the_study();
    door.write("other.toml", &TINY.replace("n_steps = 8", "n_steps = 7"));
    let cases: [(&[&str], &str); 10] = [
        (&["figure", "latest", "--kind", "scatter"], "a scatter needs two runs or more"),
        (&["figure", "latest", "--kind", "pie"], "the kinds are errors, runs, scatter, heat"),
        (&["figure", "study.toml", "--only", "nothing"], "no figure is called \"nothing\""),
        (&["figure", "study.toml", "-o", "f.svg"], "choose with `--only NAME`"),
        (&["figure", "study.toml", "-o", "f.pdf"], "as .svg, .png or .json, not as .pdf"),
        (&["figure", "study.toml", "latest"], "a spec stands alone"),
        (&["figure", "latest", "--set", "train.n_steps=1"], "--set changes a spec"),
        (&["figure", "study.toml", "--text", "w1i0r1"], "the heads of one run"),
        (&["report", "latest", "-o", "r.docx"], "as .html or .md, not as .docx"),
        (&["report", "study.toml", "--set", "train.batch_size=3"], "has none of the 4 runs of"),
    ];
    for (arguments, message) in cases {
        let said = door.run(arguments).code(2).stderr();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
    door.run(&["report", "nobody.toml"]).code(2);
}
