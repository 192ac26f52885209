//! A report of a small made-up study: complete, the same numbers as the tables, and nothing but text.

use super::*;
use crate::figure::figures;
use crate::figure::tests::{HOSTILE, store};

fn report(hostile: bool) -> Report {
    let mut runs = store();
    let name = if hostile { HOSTILE } else { "tails" };
    if hostile {
        for run in &mut runs {
            HOSTILE.clone_into(&mut run.arm);
            HOSTILE.clone_into(&mut run.page.status);
            run.page.problems = vec![HOSTILE.to_owned()];
            run.page.plan["note"] = HOSTILE.into();
            run.page.meta["version"] = HOSTILE.into();
            run.page.meta["machine"]["cpu"] = HOSTILE.into();
        }
    }
    let figures = figures(&runs, &[]);
    let mut report = Report::new(name, &runs, figures);
    report.question = Some(format!("Does it err? {name}"));
    report.verdicts.push(Verdict {
        claim: format!("the LSTM reads without an error {name}"),
        expected: name.to_owned(),
        measured: "0, 0".to_owned(),
        mark: Mark::Holds,
    });
    report.glitches.push(Glitch {
        title: format!("a glitch of {name}"),
        page: format!("w0 i1 r? ``` {name}"),
        attention: None,
    });
    report.again = Some(format!("mnemoscope run {name}"));
    report.spec = Some(format!("name = '{name}'"));
    report
}

#[test]
fn a_report_says_what_the_tables_say() {
    let (html, markdown) = (report(false).to_html(), report(false).to_markdown("tails-figures"));
    for run in store() {
        let result = study_run(&run).unwrap().result;
        for set in result.eval.values() {
            let rate = number::rate(set.error_rate.unwrap());
            for words in [number::count(set.n_errors), rate, number::interval(set.interval)] {
                assert!(
                    html.contains(&format!("<td>{words}</td>"))
                        || html.contains(&format!("<td class=\"number\">{words}</td>")),
                    "{words}"
                );
                assert!(
                    markdown.contains(&words.replace('[', "\\[").replace(']', "\\]")),
                    "{words}"
                );
            }
        }
        assert!(html.contains(&run.page.id) && markdown.contains(&run.page.id));
    }
    for part in [
        "Claims",
        "holds",
        "Figures",
        "Numbers",
        "Glitches worth looking at",
        "mnemoscope run tails",
        "The plan of lstm",
    ] {
        assert!(html.contains(part) && markdown.contains(part), "{part}");
    }
    for figure in report(false).all_figures() {
        assert!(html.contains(&format!("<figure id=\"{}\">", figure.name)));
        assert!(markdown.contains(&format!("(tails-figures/{}.svg)", figure.name)));
    }
}

#[test]
fn a_report_loads_nothing_and_runs_one_script() {
    let html = report(false).to_html();
    let script = format!("<script>{}</script>", crate::figure::SCRIPT);
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains(&format!("script-src '{}'", crate::figure::SCRIPT_HASH)));
    let html = html.replace(&script, "");
    for way in ["src=", "href=", "<script", "<link", "<iframe", "@import", "https://"] {
        assert!(!html.contains(way), "{way}");
    }
    assert!(!html.replace("http://www.w3.org/2000/svg", "").contains("http://"));
    assert!(html.contains("default-src 'none'"));
    assert_eq!(html.matches("@font-face").count(), 1);
}

#[test]
fn claims_are_counted_by_what_became_of_them() {
    let mut report = report(false);
    let mut other = report.verdicts[0].clone();
    other.mark = Mark::Open;
    report.verdicts.extend([other.clone(), other]);
    assert_eq!(tally(&report.verdicts), "3 claims: 1 hold, 2 not measured.");
    assert!(report.to_html().contains("3 claims: 1 hold, 2 not measured."));
}

#[test]
fn a_report_of_25_arms_of_25_seeds_stays_below_5_mb() {
    let some = store();
    let mut runs = Vec::new();
    for arm in 0..25 {
        for seed in 0..25_u64 {
            let mut run = some[2].clone();
            run.arm = format!("arm-{arm}");
            run.page.id = format!("{:016x}", arm * 25 + seed);
            run.page.losses = (0..300).map(|step| (step * 10, 1.0 / (step + 1) as f64)).collect();
            let point = run.page.curves["val"][0].clone();
            let at = |step| crate::run::CurvePoint { step, ..point.clone() };
            let curve: Vec<_> = (0..40).map(|idx| at(idx * 75)).collect();
            run.page.curves =
                ["val", "val_sparse"].map(|set| (set.to_owned(), curve.clone())).into();
            runs.push(run);
        }
    }
    let n_bytes = Report::new("arms", &runs, figures(&runs, &[])).to_html().len();
    assert!(n_bytes < 5_000_000, "{n_bytes} bytes");
}

#[test]
fn hostile_words_are_text_in_every_part() {
    let report = report(true);
    let script = format!("<script>{}</script>", crate::figure::SCRIPT);
    let html = report.to_html().replace(&script, "");
    assert!(!html.contains("<script") && !html.contains('\0') && !html.contains('\u{202e}'));
    // Every tag that is opened is one of ours.
    let ours = [
        "!doctype",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
        "b",
        "pre",
        "kbd",
        "dl",
        "dt",
        "dd",
        "details",
        "summary",
        "svg",
        "desc",
        "defs",
        "g",
        "text",
        "rect",
        "line",
        "path",
        "circle",
        "polyline",
        "clipPath",
        "!--",
    ];
    for tag in html.split('<').skip(1) {
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "!-".contains(*c))
            .collect();
        assert!(ours.contains(&name.as_str()), "<{name}");
    }
    let markdown = report.to_markdown("f");
    assert!(!markdown.contains('\0'));
    // Outside of fences no bracket is bare; inside, the fence is longer than any that the text holds.
    assert!(markdown.contains("````\nw0 i1 r? ```"), "{markdown}");
    assert!(markdown.starts_with("# \\<script\\>"), "{markdown}");
}

#[test]
fn very_long_names_leave_room_for_the_figures_and_the_numbers() {
    let long = format!("{HOSTILE}{}", "an endless name ".repeat(400));
    let mut runs = store();
    for run in &mut runs {
        run.arm.clone_from(&long);
        run.page.id = format!("{long}{}", run.page.id);
        if let Some(Ok(result)) = &mut run.page.result {
            let set = result.eval["val_sparse"].clone();
            result.eval.insert(long.clone(), set);
        }
    }
    let figures = figures(&runs, &[]);
    for figure in &figures {
        assert!(figure.name.len() <= 80, "{}", figure.name.len());
        for text in figure.to_svg().split("<text ").skip(1) {
            let words = text.split("</text>").next().unwrap_or_default().chars().count();
            assert!(words < 400, "{words} characters in {}", figure.name);
        }
    }
    let html = Report::new(&long, &runs, figures).to_html();
    assert!(html.contains("<td class=\"words\">&lt;script&gt;"));
    assert!(html.contains("overflow-wrap:anywhere"));
}
