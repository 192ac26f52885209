//! The report as one HTML document.

use super::{Glitch, Report, mark_word, tally};
use crate::figure::{self, Figure, SCRIPT, SCRIPT_HASH, escaped, font_face};
use crate::number;
use crate::study::Mark;
use crate::table::Table;

/// Nothing may be loaded and nothing run but the one script we know, whatever stands in the records.
fn policy() -> String {
    format!(
        "default-src 'none'; script-src '{SCRIPT_HASH}'; style-src 'unsafe-inline'; font-src data:; img-src data:"
    )
}

const STYLE: &str = "\
:root{color-scheme:light}
body{margin:0 auto;max-width:74rem;padding:1rem 1.2rem 4rem;color:#111;background:#fff;
font:1rem/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',Verdana,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:1rem 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #ccc}
h3{font-size:1rem;margin:1.4rem 0 .4rem;overflow-wrap:anywhere}
.question{font-size:1.15rem;color:#333;margin:.2rem 0 1rem;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:left;vertical-align:top;border-bottom:1px solid #e3e3e3;white-space:nowrap}
td.words{white-space:normal;overflow-wrap:anywhere;min-width:14rem}
th{border-bottom:2px solid #999}
.number{text-align:right}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,32rem),1fr));gap:0 2rem;align-items:start}
figure{margin:1rem 0 1.6rem;min-width:0}
figure svg{max-width:100%;height:auto;display:block}
figcaption{font-size:.88rem;color:#444;max-width:46rem}
figcaption b{color:#111}
pre{background:#f6f6f6;border:1px solid #e3e3e3;padding:.7rem;overflow-x:auto;font-size:.82rem;line-height:1.35;
font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace}
code{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;overflow-wrap:anywhere}
.verdict{font-weight:700;white-space:nowrap}
.holds{color:#00614a}.fails{color:#a13c00}.undecided,.open{color:#555}
.warning{border-left:4px solid #d55e00;padding:.1rem .8rem;margin:.5rem 0;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}
dd{margin:0;overflow-wrap:anywhere}
summary{cursor:pointer}
@media(max-width:44rem){body{padding:.6rem .8rem 3rem}figure svg{max-width:none;width:max(100%,31rem)}h1{font-size:1.4rem}
dl{grid-template-columns:1fr}dt{font-weight:700;margin-top:.3rem}}
@media print{details>*{display:block}body{max-width:none}}";

const HOW: &str = "\
<h2>Figures</h2>
<p>Point at a mark to see its run, its count and its interval; click on an arm in a legend to hide it.</p>
<details><summary>Zoom, and keys</summary><p>Click on a figure: then the wheel zooms, dragging moves what is shown, and a
double click or <kbd>Esc</kbd> shows all of it again. Keys: <kbd>+</kbd> <kbd>-</kbd> and arrows, <kbd>n</kbd> and
<kbd>p</kbd> for the next mark and the one before.</p></details>
";

pub(super) fn document(report: &Report) -> String {
    let title = escaped(&report.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}\n{}\n{}</style></head>\n<body>\n",
        policy(),
        figure::STYLE,
        font_face()
    );
    page += &body(report);
    // Last, so that it finds every figure; the page is whole without it.
    page + &format!("<script>{SCRIPT}</script>\n</body></html>\n")
}

/// What stands in the document, for other pages to hold too.
pub(crate) fn body(report: &Report) -> String {
    let mut page = format!("<h1>{}</h1>\n", escaped(&report.title));
    if let Some(question) = &report.question {
        page += &format!("<p class=\"question\">{}</p>\n", escaped(question));
    }
    for warning in &report.warnings {
        page += &format!("<p class=\"warning\">{}</p>\n", prose(warning));
    }
    page += &claims(report);
    if !report.figures.is_empty() {
        page += HOW;
        let figures: String = report.figures.iter().map(figure).collect();
        page += &format!("<div class=\"figures\">\n{figures}</div>\n");
    }
    page += "<h2>Numbers</h2>\n";
    for (heading, table) in &report.tables {
        page += &format!("<h3>{}</h3>\n{}", escaped(heading), rows(table));
    }
    page += &glitches(&report.glitches);
    page + &origin(report)
}

fn claims(report: &Report) -> String {
    if report.verdicts.is_empty() {
        return String::new();
    }
    let mut page = format!("<h2>Claims</h2>\n<p>{}</p>\n", tally(&report.verdicts));
    page += "<div class=\"scroll\"><table><thead><tr><th>verdict</th><th>claim</th>\
             <th>expected</th><th>measured</th></tr></thead><tbody>\n";
    for verdict in &report.verdicts {
        let class = match verdict.mark {
            Mark::Holds => "holds",
            Mark::Fails => "fails",
            Mark::Undecided => "undecided",
            Mark::Open => "open",
        };
        page += &format!(
            "<tr><td class=\"verdict {class}\">{}</td><td class=\"words\">{}</td><td class=\"words\">{}</td>\
             <td class=\"words\">{}</td></tr>\n",
            mark_word(verdict.mark),
            prose(&verdict.claim),
            prose(&verdict.expected),
            prose(&verdict.measured)
        );
    }
    page + "</tbody></table></div>\n"
}

pub(crate) fn figure(figure: &Figure) -> String {
    format!(
        "<figure id=\"{}\">\n<div class=\"scroll\">{}</div>\n<figcaption><b>{}.</b> {}</figcaption></figure>\n",
        escaped(&figure.name),
        figure.to_svg(),
        prose(&figure.title),
        prose(&figure.caption)
    )
}

/// Characters from which a cell of words is broken into lines.
const LONG: usize = 40;

/// Text that may be broken into lines, but not inside of a number.
fn prose(text: &str) -> String {
    escaped(text).replace(number::THIN_SPACE, "\u{202f}")
}

pub(crate) fn rows(table: &Table) -> String {
    let class = |is_number: bool| if is_number { " class=\"number\"" } else { "" };
    let numbers: Vec<bool> = table.headings().map(|(_, is_number)| is_number).collect();
    let mut page = "<div class=\"scroll\"><table><thead><tr>".to_owned();
    for (heading, is_number) in table.headings() {
        page += &format!("<th{}>{}</th>", class(is_number), escaped(heading));
    }
    page += "</tr></thead><tbody>\n";
    for row in table.rows() {
        page += "<tr>";
        for (cell, is_number) in row.iter().zip(&numbers) {
            // What is long is broken into lines, so that one name does not push the numbers off the page.
            let class = match cell.chars().count() > LONG && !is_number {
                true => " class=\"words\"",
                false => class(*is_number),
            };
            page += &format!("<td{class}>{}</td>", escaped(cell));
        }
        page += "</tr>\n";
    }
    page + "</tbody></table></div>\n"
}

fn glitches(glitches: &[Glitch]) -> String {
    if glitches.is_empty() {
        return String::new();
    }
    let mut page = "<h2>Glitches worth looking at</h2>\n".to_owned();
    for glitch in glitches {
        page +=
            &format!("<h3>{}</h3>\n<pre>{}</pre>\n", escaped(&glitch.title), escaped(&glitch.page));
        page += &glitch.attention.iter().map(figure).collect::<String>();
    }
    page
}

/// Where the numbers come from and how to make them again.
fn origin(report: &Report) -> String {
    let mut page = "<h2>Where this comes from</h2>\n<dl>\n".to_owned();
    for (name, words) in &report.facts {
        page += &format!("<dt>{name}</dt><dd>{}</dd>\n", prose(words));
    }
    page += "</dl>\n";
    if let Some(again) = &report.again {
        page += &format!("<p>To make these runs again:</p>\n<pre>{}</pre>\n", escaped(again));
    }
    if let Some(spec) = &report.spec {
        page += &folded("The spec", spec);
    }
    for (arm, plan) in &report.plans {
        page += &folded(&format!("The plan of {arm}"), &format!("{plan:#}"));
    }
    page
}

pub(crate) fn folded(summary: &str, text: &str) -> String {
    format!(
        "<details><summary>{}</summary><pre>{}</pre></details>\n",
        escaped(summary),
        escaped(text)
    )
}
