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
fn runs_of_several_studies_are_told_apart_by_study_and_drawn_once() {
    let (door, runs) = after_the_study();
    // The first arm of the study and one more seed, which has not run.
    let swept = format!("{TINY}\n[sweep]\nseed = {{ count = 3 }}\n");
    door.write("baseline.toml", &swept);
    door.write("size.toml", &study());
    let of = |files: [&str; 2]| {
        let arguments = ["figure", files[0], files[1], "--kind", "errors", "--json"];
        let said = door.run(&arguments).code(0);
        let missing = said.stderr().contains("left out: 1 run");
        let figure = said.json()["figures"][0]["plot"]["arms"].clone();
        let arm = |arm: &Value| {
            let runs = arm["rates"].as_array().unwrap().iter();
            let runs: Vec<&str> = runs.map(|it| it["run"].as_str().unwrap()).collect();
            (arm["arm"].as_str().unwrap().to_owned(), runs.join(" "))
        };
        (missing, figure.as_array().unwrap().iter().map(arm).collect::<Vec<_>>())
    };
    let ids: Vec<&str> = runs.iter().map(|run| run["run"].as_str().unwrap()).collect();
    let (missing, arms) = of(["baseline.toml", "size.toml"]);
    assert!(missing);
    let own = |name: &str, ids: &[&str]| (name.to_owned(), ids.join(" "));
    assert_eq!(arms, [own("baseline", &ids[..2]), own("size", &ids[2..])]);
    assert_eq!(of(["size.toml", "baseline.toml"]).1, [own("size", &ids)]);
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
    let cases: [(&[&str], &str); 11] = [
        (&["figure", "latest", "--kind", "scatter"], "a scatter needs two runs or more"),
        (&["figure", "latest", "--kind", "pie"], "the kinds are errors, runs, scatter, heat"),
        (&["figure", "study.toml", "--only", "nothing"], "no figure is called \"nothing\""),
        (&["figure", "study.toml", "-o", "f.svg"], "choose with `--only NAME`"),
        (&["figure", "study.toml", "-o", "f.pdf"], "as .svg, .png or .json, not as .pdf"),
        (&["figure", "study.toml", "latest"], "studies and runs do not mix"),
        (&["report", "study.toml", "other.toml"], "a report is of one study"),
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

/// The same numbers wherever they are shown: picked from a run, looked for in every place.
#[test]
fn a_number_reads_the_same_in_every_place() {
    let (door, runs) = after_the_study();
    let listed = door.run(&["runs", "--json"]).code(0).json();
    let figures = door.run(&["figure", "study.toml", "--kind", "errors", "--json"]).code(0).json();
    let list = door.run(&["runs"]).code(0).stdout();
    door.run(&["report", "study.toml", "-o", "r.html"]).code(0);
    door.run(&["report", "study.toml", "-o", "r.md"]).code(0);
    let [html, markdown] =
        ["r.html", "r.md"].map(|name| fs::read_to_string(door.path(name)).unwrap());
    for run in &runs {
        let id = run["run"].as_str().unwrap();
        let shown = door.run(&["show", id, "--json"]).code(0).json();
        let page = door.run(&["show", id]).code(0).stdout();
        let of_list = listed["runs"].as_array().unwrap().iter().find(|it| it["run"] == id).unwrap();
        let mut n_errors = 0;
        for (set, measured) in run["eval"].as_object().unwrap() {
            // As JSON: the same digits, none more and none less.
            let digits = |value: &Value| {
                let keys = ["n_trials", "n_errors", "error_rate", "interval", "confidence"];
                keys.map(|key| value[key].to_string())
            };
            let figure = figures["figures"].as_array().unwrap().iter();
            let figure = figure.clone().find(|it| it["plot"]["set"] == *set).unwrap();
            let arms = figure["plot"]["arms"].as_array().unwrap();
            let rates = arms.iter().flat_map(|arm| arm["rates"].as_array().unwrap());
            let drawn = rates.clone().find(|rate| rate["run"] == id).unwrap();
            for place in [&shown["eval"][set], &of_list["eval"][set], drawn] {
                assert_eq!(digits(place), digits(measured), "{id} {set}");
            }
            // For people: the words of `show` in the report and where the figure is pointed at.
            let line =
                page.lines().find(|line| line.split_whitespace().next() == Some(set)).unwrap();
            let interval = &line[line.find('[').unwrap()..=line.rfind(']').unwrap()];
            let rate = line[..line.find('[').unwrap()].split_whitespace().last().unwrap();
            assert!(html.contains(&format!("wrong: {rate} {interval}")), "{rate} {interval}");
            assert!(
                html.contains(&format!(">{rate}</td><td>{interval}</td>")),
                "{rate} {interval}"
            );
            let interval = interval.replace('[', "\\[").replace(']', "\\]");
            assert!(markdown.contains(&format!("| {rate} | {interval} |")), "{rate} {interval}");
            n_errors += measured["n_errors"].as_u64().unwrap();
        }
        let line = list.lines().find(|line| line.trim_start().starts_with(id)).unwrap();
        let plain: String = line.chars().filter(|c| *c != '\u{2009}').collect();
        assert!(plain.split_whitespace().any(|word| word == n_errors.to_string()), "{line}");
    }
}

/// A store whose path is no text: what is read from it is shown, and the path by its replacement characters.
#[cfg(unix)]
#[test]
fn a_store_whose_name_is_no_text_is_reported_all_the_same() {
    use std::os::unix::ffi::OsStrExt as _;

    let door = Door::new();
    door.write("tiny.toml", TINY);
    let name = std::ffi::OsStr::from_bytes(b"ru\xffns <b>");
    let with = |arguments: &[&str]| {
        let mut command = door.command(arguments);
        command.env("MNEMOSCOPE_STORE", name);
        let said = command.output().unwrap();
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    };
    with(&["run", "tiny.toml", "--quiet"]);
    with(&["report", "latest", "-o", "r.html"]);
    let html = fs::read_to_string(door.path("r.html")).unwrap();
    assert!(html.contains("sealed") && !html.contains("<b> "), "{html}");
    let said: Value = serde_json::from_str(&with(&["figure", "latest", "--json"])).unwrap();
    assert!(!said["figures"].as_array().unwrap().is_empty());
}

/// `run` and `sweep` draw curves for people at a terminal alone.
#[test]
fn nobody_at_a_terminal_sees_plain_lines_and_no_curve() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    for (verb, seed) in [("run", "seed=1"), ("sweep", "seed=2")] {
        let said = door.run(&[verb, "tiny.toml", "--set", seed]).code(0);
        for sign in ['\u{1b}', '█', '▁', '░'] {
            assert!(!said.stderr().contains(sign), "{}", said.stderr());
        }
    }
}
