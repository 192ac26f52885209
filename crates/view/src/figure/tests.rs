//! Figures of a small made-up store: numbers as in the records, words as text, shapes as expected.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::number;
use crate::published;
use crate::result::tests::result;
use crate::run::{CurvePoint, RunPage};

/// Letters that would be markup, a formula, a new line, or another direction if anybody let them.
pub(crate) const HOSTILE: &str = "<script>alert('x')</script>\"&$x^2$\n\u{202e}\0";

fn source(id: &str, arm: &str, seed: u64, errors: [u64; 3]) -> Source {
    let result = result(id, arm, errors);
    let point = |step: u64, n_errors: u64| CurvePoint { step, n_trials: 26_508, n_errors };
    let probe = |step| {
        json!({
            "step": step, "memory": {"w_o2": {"n_right": step, "n": 65}},
            "norms": {"param": {"embed.weight": 6.5}, "grad": {"embed.weight": 1.0 / step as f64}},
        })
    };
    let events = [probe(1), probe(11)];
    Source {
        arm: arm.to_owned(),
        page: RunPage {
            id: id.to_owned(),
            status: "sealed".to_owned(),
            path: format!("./runs/{id}"),
            format: "1.0".to_owned(),
            created_secs: None,
            plan: json!({"train": {"batch_size": 16}, "seeds": {"data": seed, "model": seed}}),
            meta: json!({"arm": arm}),
            stored_result: None,
            result: Some(Ok(result)),
            curves: BTreeMap::from([(
                "val".to_owned(),
                vec![point(100, 13_200), point(200, 7), point(300, 0)],
            )]),
            losses: vec![(100, 0.7), (300, 0.01)],
            checkpoint_steps: Vec::new(),
            glitches: Vec::new(),
            message: None,
            problems: Vec::new(),
        },
        probes: probes::of(events.iter()),
        norms: norms::of(events.iter()),
        kept: Vec::new(),
        swept: Vec::new(),
    }
}

pub(crate) fn store() -> Vec<Source> {
    vec![
        source("00aa", "lstm", 0, [0, 0, 0]),
        source("00bb", "lstm", 1, [0, 0, 0]),
        source("00cc", "transformer", 0, [0, 43_211, 17]),
        source("00dd", "transformer", 1, [3, 12, 345_000]),
    ]
}

fn named(figures: &[Figure], name: &str) -> Figure {
    figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("{name}")).clone()
}

#[test]
fn rates_and_intervals_are_those_of_the_records() {
    let runs = store();
    let figures = figures(&runs, &[]);
    let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "errors-val",
            "errors-val_dense",
            "errors-val_sparse",
            "scatter-val_sparse-val_dense",
            "curve-val",
            "best-val",
            "loss",
            "probe-memory.w_o2",
            "norms-param-embed.weight",
            "norms-grad-embed.weight"
        ]
    );
    let Plot::Strips(strips) = named(&figures, "errors-val_sparse").plot else { panic!() };
    let drawn: Vec<&Measured> = strips.arms.iter().flat_map(|arm| &arm.rates).collect();
    assert_eq!(drawn.len(), runs.len());
    for (run, drawn) in runs.iter().zip(drawn) {
        let set = &run.page.result.as_ref().unwrap().as_ref().unwrap().eval["val_sparse"];
        assert_eq!(drawn.run, run.page.id);
        assert_eq!((drawn.n_errors, drawn.n_trials), (set.n_errors, set.n_trials));
        assert_eq!((Some(drawn.error_rate), drawn.interval), (set.error_rate, set.interval));
        // What is shown where the mouse points is what the tables show, digit for digit.
        let svg = named(&figures, "errors-val_sparse").to_svg();
        for words in
            [number::count(set.n_errors), number::interval(set.interval), run.page.id.clone()]
        {
            assert!(svg.contains(&words), "{words}");
        }
    }
}

#[test]
fn a_point_of_a_curve_carries_its_count_and_the_exact_interval() {
    let figures = figures(&store(), &[]);
    let Plot::Curves(curves) = named(&figures, "curve-val").plot else { panic!() };
    let point = curves.lines[0].points[1];
    let exact = clopper_pearson(7, 26_508, CONFIDENCE);
    assert_eq!(point.n, Some(26_508));
    assert_eq!(point.interval, Some([exact.low, exact.high]));
    assert!((point.y - 7.0 / 26_508.0).abs() < 1e-15);
    let Plot::Curves(probe) = named(&figures, "probe-memory.w_o2").plot else { panic!() };
    assert_eq!(probe.lines.len(), 4);
    assert_eq!((probe.lines[0].points[1].x, probe.lines[0].points[1].n), (11.0, Some(65)));
}

#[test]
fn published_points_stand_at_the_step_of_their_iteration() {
    let curve = published::Curve {
        arm: "lstm".to_owned(),
        source: "Fig. 3".to_owned(),
        probe: "memory.w_o2".to_owned(),
        pairs: vec![
            published::Pair { at: 10, published: Some(0.415), measured: vec![0.4] },
            published::Pair { at: 20, published: None, measured: vec![] },
        ],
    };
    let figures = figures(&store(), &[curve]);
    // Held against something published, it comes before the learning curves.
    assert_eq!(figures[4].name, "probe-memory.w_o2");
    let Plot::Curves(curves) = &figures[4].plot else { panic!() };
    assert_eq!(curves.published[0].points, [[11.0, 0.415]]);
    assert!(figures[4].to_svg().contains("published: 0.415 at step 11"));
}

/// Runs of a sweep of learning rate and width, the batch size following the width, one combination left out.
fn sweep() -> Vec<Source> {
    let mut runs = Vec::new();
    for (idx, (lr, d_model)) in [(0.001, 64), (0.001, 128), (0.01, 64)].into_iter().enumerate() {
        for seed in 0..2 {
            let n_errors = if idx == 1 { 0 } else { 40 * seed + idx as u64 };
            let mut run = source(&format!("{idx}{seed}"), "arm", seed, [0, n_errors, 7]);
            run.page.plan["train"]["lr"] = json!(lr);
            run.page.plan["model"] = json!({"d_model": d_model, "d_mlp": 4 * d_model});
            run.swept = vec!["train.lr".to_owned(), "model.d_model".to_owned()];
            runs.push(run);
        }
    }
    runs
}

#[test]
fn a_sweep_of_two_things_has_a_heat_map_and_missing_cells_are_missing() {
    let runs = sweep();
    let figure = named(&figures(&runs, &[]), "heat-val_sparse");
    let Plot::Grid(grid) = &figure.plot else { panic!() };
    // What follows from the width is not a third thing, and the spec says which of the two was meant.
    let axis = |path: &str, values: [&str; 2]| Axis {
        path: path.to_owned(),
        values: values.map(str::to_owned).to_vec(),
    };
    let axes = [axis("model.d_model", ["64", "128"]), axis("train.lr", ["0.001", "0.01"])];
    assert_eq!([grid.x.clone(), grid.y.clone()], axes);
    let at: Vec<(usize, usize)> = grid.cells.iter().map(|cell| (cell.column, cell.row)).collect();
    assert_eq!(at, [(0, 0), (1, 0), (0, 1)]);
    assert_eq!(grid.cells[0].rates.len(), 2);
    assert!((grid.cells[0].median - 20.0 / 353_875.0).abs() < 1e-12);
    assert_eq!((grid.cells[1].flawless.n_some, grid.cells[1].flawless.n), (2, 2));
    let svg = figure.to_svg();
    assert!(svg.contains("model.d_model = 128, train.lr = 0.01\nno measured run"), "{svg}");
    assert!(svg.contains("run 00: 0 of 353\u{2009}875 trials wrong: 0 [0,"), "{svg}");
    for (kept, why) in [(4, "these differ in model.d_model alone"), (2, "these differ in none")] {
        let why = format!(
            "a heat map needs runs whose plans differ in two things besides their seeds; {why}"
        );
        assert_eq!(why_not(Kind::Heat, &runs[..kept]), why);
        assert!(figures(&runs[..kept], &[]).iter().all(|figure| figure.kind != Kind::Heat));
    }
}

#[test]
fn runs_are_counted_by_their_errors_and_kept_glitches_by_their_distance() {
    let mut runs = sweep();
    runs[0].kept =
        [1, 2, 3, 9].map(|distance| Kept { set: "val_sparse".to_owned(), distance }).to_vec();
    let figures = figures(&runs, &[]);
    let Plot::Bars(bars) = named(&figures, "runs-val_sparse").plot else { panic!() };
    assert_eq!(bars.bins, ["0", "1–9", "10–99"]);
    let heights = |bars: &Bars| bars.arms[0].bars.iter().map(|bar| bar.n).collect::<Vec<_>>();
    // Errors of the six runs: 0, 40, 0, 0, 2, 42.
    assert_eq!((heights(&bars), bars.arms[0].n), (vec![3, 1, 2], 6));
    assert_eq!(bars.arms[0].bars[2].runs, ["01", "21"]);
    assert_eq!(bars.arms[0].bars[1].share, Share::of(1, 6));
    let figure = named(&figures, "distance-val_sparse");
    let Plot::Bars(bars) = &figure.plot else { panic!() };
    assert_eq!(bars.bins, ["1", "2–3", "4–7", "8–15"]);
    assert_eq!(heights(bars), [1, 2, 0, 1]);
    assert!(
        figure.caption.starts_with("Of 84 errors in all, the 4 that were kept"),
        "{}",
        figure.caption
    );
    for bar in ["arm, 2–3\n2 of 4: 0.500 [", "run 00"] {
        assert!(figure.to_svg().contains(bar), "{bar}");
    }
}

#[test]
fn shapes_of_an_arm_can_be_found_and_its_axes_read() {
    let figures = figures(&store(), &[]);
    let svg = named(&figures, "curve-val").to_svg();
    for part in [
        "class=\"figure\" data-kind=\"curve\"",
        "<g class=\"legend\" data-arm=\"1\">",
        "<g class=\"arm\" data-arm=\"0\">",
        "data-y=\"log -5.35",
        "class=\"axis-x\"",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    // The clip that is used is the one that is defined, in every figure.
    for figure in &figures {
        let svg = figure.to_svg();
        let defined = svg.matches(&format!("<clipPath id=\"{}-clip\">", figure.name)).count();
        assert_eq!(defined, svg.matches(&format!("url(#{}-clip)", figure.name)).count());
        // The same figure is the same document, however many were drawn before it.
        assert_eq!(svg, figure.to_svg());
    }
}

#[test]
fn hostile_names_are_text_in_every_figure() {
    let mut runs = store();
    for run in &mut runs {
        HOSTILE.clone_into(&mut run.arm);
        HOSTILE.clone_into(&mut run.page.id);
        if let Some(Ok(result)) = &mut run.page.result {
            let eval = std::mem::take(&mut result.eval);
            result.eval =
                eval.into_iter().map(|(set, it)| (format!("{set}{HOSTILE}"), it)).collect();
        }
    }
    runs.extend(sweep());
    for (idx, run) in runs.iter_mut().enumerate() {
        run.page.plan["model"] = json!({ "<b>": format!("{idx}{HOSTILE}") });
        run.page.plan["train"] = json!({ "&lr": idx % 2 });
        run.kept = vec![Kept { set: format!("val{HOSTILE}"), distance: 3 }];
        run.norms =
            [("param".to_owned(), [(HOSTILE.to_owned(), vec![(1, 2.0), (2, 90.0)])].into())].into();
    }
    let mut figures = figures(&runs, &[]);
    assert!(figures.iter().any(|figure| figure.kind == Kind::Norms));
    assert!(figures.iter().any(|figure| figure.kind == Kind::Distance));
    figures.push(map());
    for figure in &figures {
        assert!(figure.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
        for svg in [figure.to_svg(), figure.to_svg_with_font()] {
            assert!(!svg.contains("<script"), "{}", figure.name);
            assert!(!svg.contains('\0'), "{}", figure.name);
        }
        assert_eq!(&figure.to_png(1.0)[..4], b"\x89PNG");
    }
}

fn map() -> Figure {
    let picture = crate::glitch::Picture {
        language: crate::glitch::Language::FlipFlop,
        run: HOSTILE.to_owned(),
        step: 500,
        set: HOSTILE.to_owned(),
        index: 3,
        words: ["w", "<b>", "i", "0", "r"].map(str::to_owned).to_vec(),
        vocab: Vec::new(),
        query_pos: 4,
        write_pos: 0,
        expected: 0,
        predicted: 0,
        logits: Vec::new(),
        logits_recorded: Vec::new(),
        attention: vec![crate::glitch::Head {
            layer: 0,
            head: 1,
            weights: vec![0.25, 0.5, 0.0, 0.125, 0.125],
        }],
    };
    attention_of(&picture).unwrap()
}

#[test]
fn attention_is_drawn_by_head_and_key_and_its_ends_are_marked() {
    let figure = map();
    let Plot::Map(map) = &figure.plot else { panic!() };
    assert_eq!(map.panels[0].shares, [[0.25, 0.5, 0.0, 0.125, 0.125]]);
    assert_eq!(map.panels[0].rows, ["0.1"]);
    assert_eq!(map.marks.iter().map(|mark| mark.key).collect::<Vec<_>>(), [0, 4]);
    let svg = figure.to_svg();
    // Four shares that can be seen; the one of nothing has no shape.
    assert_eq!(svg.matches("head 0.1\n").count(), 4);
    assert!(svg.contains("token &lt;b&gt;: 0.500"), "{svg}");
}

#[test]
fn the_shapes_of_a_figure_stay_as_they_are() {
    // Counts of shapes, and every word: places may move by a pixel without anybody minding.
    let structure = |figure: &Figure| {
        let svg = figure.to_svg();
        let count = |tag: &str| svg.matches(&format!("<{tag} ")).count();
        let words = svg
            .split("<text ")
            .skip(1)
            .filter_map(|text| Some(text.split_once('>')?.1.split_once("</text>")?.0.to_owned()));
        let shapes = ["circle", "path", "line", "polyline", "rect"];
        json!({
            "name": figure.name,
            "shapes": shapes.iter().map(|tag| (*tag, count(tag))).collect::<BTreeMap<_, _>>(),
            "tips": svg.matches("<title>").count(),
            "words": words.collect::<Vec<_>>(),
        })
    };
    let mut figures = figures(&store(), &[]);
    figures.push(map());
    let structures: Vec<_> = figures.iter().map(structure).collect();
    insta::assert_json_snapshot!(structures);
}

#[test]
fn a_figure_of_its_own_carries_its_font_and_asks_for_nothing() {
    let figure = &figures(&store(), &[])[0];
    let alone = figure.to_svg_with_font();
    assert!(alone.contains("@font-face") && !figure.to_svg().contains("@font-face"));
    for svg in [alone, figure.to_svg()] {
        let links = svg.replace("http://www.w3.org/2000/svg", "");
        assert!(!links.contains("http") && svg.contains("viewBox=\"0 0 "), "{links}");
    }
}

#[test]
fn letters_of_a_png_come_from_the_font_inside() {
    // A figure without its words is lighter: letters are drawn where there is no font at all.
    let ink = |figure: &Figure| figure.to_png(1.0).len();
    let with = named(&figures(&store(), &[]), "loss");
    let mut without = with.clone();
    if let Plot::Curves(curves) = &mut without.plot {
        curves.y = String::new();
        curves.x = String::new();
    }
    assert!(ink(&with) > ink(&without) + 200, "{} {}", ink(&with), ink(&without));
}

#[test]
fn two_sets_whose_names_files_cannot_tell_apart_have_two_figures() {
    let mut runs = store();
    for run in &mut runs {
        let Some(Ok(result)) = &mut run.page.result else { panic!() };
        let set = result.eval["val"].clone();
        result.eval = [("a/b".to_owned(), set.clone()), ("a:b".to_owned(), set)].into();
    }
    let names: Vec<String> = figures(&runs, &[]).into_iter().map(|figure| figure.name).collect();
    assert_eq!(names[..2], ["errors-a_b", "errors-a_b-2"]);
}
